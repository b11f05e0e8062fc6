"""Writes the help pages of the command line into the documentation, or checks that they are in step.

python docs/generate.py            writes the block between the marks of every docs/<verb>.md
python docs/generate.py --check    changes nothing; ends with 1 and the page's name where one is out of step
"""

import os
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
VERBS = (
    "demo",
    "audit",
    "train",
    "evaluate",
    "review",
    "corrections",
    "compare",
    "calibrate",
    "predict",
    "export",
    "serve",
    "show",
    "networks",
    "cache",
)
BEGIN, END = "<!-- help -->", "<!-- /help -->"


def read_help(verb: str) -> str:
    """Returns what `belvedere VERB --help` prints on a terminal of 80 columns."""
    command = [sys.executable, "-m", "belvedere", verb, "--help"]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    text = done.stdout.replace("python -m belvedere", "belvedere")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def refresh(page: str, help_text: str) -> str:
    """Returns a page with its block between the marks made new."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n```\n{help_text}\n```\n{END}{after}"


def main() -> int:
    """Refreshes or checks every page; returns the exit code."""
    stale = []
    for verb in VERBS:
        file = DOCS / f"{verb}.md"
        page = file.read_text(encoding="utf-8")
        fresh = refresh(page, read_help(verb))
        if fresh != page:
            stale.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(fresh, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"Out of step with the command line: {', '.join(stale)}. Run: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
