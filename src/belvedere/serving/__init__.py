"""A model behind HTTP, and a page for images: `server` runs the process, `app` has the routes."""

from belvedere.runtime.dependencies import require

require("serve", "Serving a model")
