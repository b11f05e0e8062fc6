"""Draw the figures of the README from a run of the demo, and put the output of that run into the README.

python docs/readme_figures.py    as `make figures`; needs Chromium

The model of the figures is that of the output, so that the numbers in both agree.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
BEGIN, END = "<!-- demo -->", "<!-- /demo -->"
CHROMIUM = "/usr/bin/chromium"
KEPT = re.compile(r"\d/\d |Training with|epoch +(\d+)/\1\b|Calibrated")  # before the results; the rest becomes "..."
RESULTS = "Planted faults"
WIDTH = 1100
COLORS = 256


def run(folder: Path, *words: str) -> str:
    """Run a command in a folder, on a terminal of 80 columns, and return what it prints."""
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "belvedere", *words]
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, env=environment
    ).stdout


def shorten(output: str) -> str:
    """Return the output of the demo with "..." for the messages between its stages."""
    before, results = output.split(RESULTS)
    lines: list[str] = []
    for line in before.splitlines():
        if KEPT.match(line):
            lines.append(line)
        elif lines and lines[-1] != "...":
            lines.append("...")
    return "\n".join([*lines, RESULTS + results.rstrip()])


def put_into_readme(output: str) -> None:
    """Write the output between the marks."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    block = f"```text\n$ belvedere demo\n{output}\n```"
    README.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")


def take(page: Page, report: Path, name: str, *parts: tuple[str, int]) -> None:
    """Save a screenshot of parts of a report, each from the element of a selector, with its height in pixels."""
    page.goto(report.as_uri())
    page.wait_for_load_state("networkidle")
    shots = []
    for selector, height in parts:
        box = page.locator(selector).first.bounding_box()
        assert box is not None
        clip: FloatRect = {"x": 0, "y": box["y"], "width": WIDTH, "height": height}
        shots.append(Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))))
    figure = Image.new("RGB", (WIDTH, sum(shot.height for shot in shots)))
    for number, shot in enumerate(shots):
        figure.paste(shot, (0, sum(each.height for each in shots[:number])))
    figure.quantize(COLORS).save(DOCS / name, optimize=True)  # half the size


def main() -> None:
    """Run the demo, and draw."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        put_into_readme(shorten(run(folder, "demo")))
        demo = folder / "belvedere-demo"
        run(folder, "predict", "belvedere-demo/run", "belvedere-demo/images/fjord.jpg", "--heatmaps", "heatmaps")
        [heatmaps] = (folder / "heatmaps").glob("*.png")
        (DOCS / "tags.png").write_bytes(heatmaps.read_bytes())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        take(page, demo / "run" / "report.html", "report.png", ("body", 560), ("#mistakes", 560))
        take(page, demo / "audit" / "report.html", "audit.png", ("#label_issue", 640))
        browser.close()


if __name__ == "__main__":
    main()
