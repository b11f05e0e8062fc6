"""A model behind HTTP, and a page for images: `server` runs the process, `app` has the routes."""
