"""The page that shows predictions in a browser, which `serve` and `export --format page` share.

Its scripts ask `api.js` for predictions: that in `static` asks the server, that in `local` runs the model in the
browser.
"""

from pathlib import Path

STATIC = Path(__file__).with_name("static")
LOCAL = Path(__file__).with_name("local")  # for a page without a server
