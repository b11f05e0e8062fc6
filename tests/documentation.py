"""Code blocks of the documentation, and a runner for them."""

import itertools
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from belvedere.cli import app
from conftest import COLORS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>bash|python)\n(?P<text>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)
SHELL_COMMANDS = {"belvedere", "cat", "cd", "curl", "docker", "pip", "python", "sort", "torchrun"}
OUTPUTS = {"--out", "--heatmaps", "--contact-sheet", "--corrections-out"}
NOT_RUN = {  # command: why
    "pip": "changes the environment",
    "belvedere assess": "runs until it is stopped; its tests start it",
    "belvedere demo": "takes a minute; its test makes it smaller",
    "belvedere explore": "runs until it is stopped; its tests start it",
    "belvedere label": "runs until it is stopped; its tests start it",
    "belvedere review": "runs until it is stopped; its tests start it",
    "belvedere serve": "runs until it is stopped; its tests start it",
}
DEFAULT_OUTPUTS = {"train": "run", "audit": "audit"}
IMAGES_PER_CLASS = 30


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    language: str
    text: str
    reason: str | None  # why it is not run

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each line of a shell block."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def read_blocks(page: Path) -> list[Block]:
    """Return the shell and Python blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, found["language"], found["text"], found["reason"]) for found in BLOCK.finditer(text)]


def write_images(folder: Path, each: int, seed: int = 0) -> None:
    """Write noisy images of each class; no two are alike."""
    random = np.random.default_rng(seed)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            shades = random.integers(-60, 60, (8, 8, 1)) + np.array(color)
            image = Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8)).resize((48, 40), Image.Resampling.BICUBIC)
            burst = folder / name / f"{name}{number % 4}"
            burst.mkdir(exist_ok=True)
            image.save(burst / f"{number:02}.jpg")


@dataclass
class Reader:
    """Runs the code blocks of a page in a folder.

    An input is linked into the folder when a block first names it: pages do not say where a user's images come from.
    """

    folder: Path
    known: Mapping[str, Path]  # inputs by the names that the pages use
    namespace: dict[str, object] = field(default_factory=dict)  # of the Python blocks of a page

    def run(self, block: Block) -> None:
        """Run a block; a command that fails is an error."""
        if block.language == "python":
            for word in re.findall(r"\"([\w./-]+)\"", block.text):
                self._provide(word)
            for output in re.findall(r'out="([\w.-]+)"', block.text):
                self._remove(output)
            exec(compile(block.text, str(block.page), "exec"), self.namespace)  # noqa: S102 - our own page
            return
        for words in block.commands():
            check_command(words)
            if is_run(words):
                for before, word in itertools.pairwise(words):
                    if before not in OUTPUTS:
                        self._provide(word)
                target = words[words.index(">") + 1 :] if ">" in words else []
                words = words[: words.index(">")] if target else words
                if words[1] in DEFAULT_OUTPUTS and not {"--out", "--resume"} & set(words):
                    self._remove(DEFAULT_OUTPUTS[words[1]])  # of an alternative: a page shows several ways to train
                done = CliRunner().invoke(app, words[1:])
                if target:
                    (self.folder / target[0]).write_text(done.stdout)
                assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"

    def _remove(self, name: str) -> None:
        output = self.folder / name
        output.unlink() if output.is_symlink() else shutil.rmtree(output, ignore_errors=True)

    def _provide(self, word: str) -> None:
        name = Path(word.partition("=")[2] or word).parts[:1]
        for each in ("images", *name) if name == ("labels.csv",) else name:
            if each in self.known and not (self.folder / each).exists():
                (self.folder / each).symlink_to(self.known[each])


def check_command(words: list[str]) -> None:
    """Check that a command is one that we know, and that its options exist and have possible values."""
    assert words[0] in SHELL_COMMANDS, words
    if words[0] == "belvedere":
        group = get_command(app)
        verb = group.get_command(group.make_context("belvedere", [], resilient_parsing=True), words[1])  # type: ignore[attr-defined]
        assert verb is not None, words
        verb.make_context(words[1], words[2 : words.index(">")] if ">" in words else words[2:])


def is_run(words: list[str]) -> bool:
    """Return whether a command of a block is run; one that cannot be run and is not declared is an error."""
    is_declared = words[0] in NOT_RUN or " ".join(words[:2]) in NOT_RUN
    assert words[0] == "belvedere" or is_declared, f"Put <!-- not run: reason --> above the block of {words}."
    return not is_declared
