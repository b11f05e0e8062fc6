"""A model that answers over HTTP, and a page to drop photographs on.

`server` starts and ends the process; `app` has the routes; `gate` stands before them (limits, log, headers); `batching`
takes pictures from many requests through the model together; `reload` holds the model and takes a new file for it.
"""
