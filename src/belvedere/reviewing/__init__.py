"""Serves a local web page for reviewing label issues, duplicates and leaks with the keyboard.

`sources` reads the issues, `queue` orders them, `images` and `neighbors` illustrate them, `views` describes them, `app`
handles requests behind `auth`, and `server` starts everything.
"""

from belvedere.runtime.dependencies import require

require("serve", "A review")
