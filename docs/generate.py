"""Writes the help of each command into its page, and the API reference; or checks that they are current.

python docs/generate.py            writes the help blocks of docs/<verb>.md, and docs/api.md
python docs/generate.py --check    changes nothing; exits with 1 and names the pages that are not current
"""

import os
import subprocess
import sys
from pathlib import Path

from api_reference import render_reference

DOCS = Path(__file__).parent
VERBS = (
    "demo",
    "fetch",
    "label",
    "audit",
    "train",
    "evaluate",
    "assess",
    "explore",
    "review",
    "corrections",
    "compare",
    "calibrate",
    "predict",
    "export",
    "push",
    "serve",
    "monitor",
    "show",
    "networks",
    "cache",
)
PAGES = {"push": "hub"}  # with another name than the command
BEGIN, END = "<!-- help -->", "<!-- /help -->"


def read_help(verb: str) -> str:
    """Return the output of `belvedere VERB --help` on a terminal with 80 columns."""
    command = [sys.executable, "-m", "belvedere", verb, "--help"]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    completed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    text = completed.stdout.replace("python -m belvedere", "belvedere")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def with_help(page: str, help_text: str) -> str:
    """Return a page with a new help block between the marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n```\n{help_text}\n```\n{END}{after}"


def main() -> int:
    """Write or check every page, and return the exit code."""
    pages = {DOCS / f"{PAGES.get(verb, verb)}.md": verb for verb in VERBS}
    current = {file: with_help(file.read_text(encoding="utf-8"), read_help(verb)) for file, verb in pages.items()}
    current[DOCS / "api.md"] = render_reference()
    stale = {file: text for file, text in current.items() if not file.exists() or file.read_text("utf-8") != text}
    if "--check" in sys.argv:
        if stale:
            print(f"Not current: {', '.join(file.name for file in stale)}. Run: make docs")
        return int(bool(stale))
    for file, text in stale.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
