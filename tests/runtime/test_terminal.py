"""What comes from files never moves a terminal's cursor."""

import io
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from belvedere.runtime.console import PlainConsole
from belvedere.runtime.progress import LineProgress, TerminalProgress
from belvedere.runtime.terminal import count, print_error, printable, printable_lines
from conftest import write_image

HOSTILE = "a\x1b[2J\x07\x9b31m\u202e\u2028\r\nb\x7f\udce9"
ACTED_ON: tuple[Literal["Cc", "Cf", "Cs", "Zl", "Zp"], ...] = (
    "Cc",
    "Cf",
    "Cs",
    "Zl",
    "Zp",
)  # categories of Unicode: controls, formats, surrogates, line ends


def is_harmless(text: str) -> bool:
    return all(unicodedata.category(each) not in ACTED_ON or each == "\n" for each in text)


def test_count_chooses_singular_or_plural() -> None:
    assert [count(number, "image") for number in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]
    assert [count(number, "copy", "copies") for number in (1, 2)] == ["1 copy", "2 copies"]


@given(st.text(st.characters(categories=(*ACTED_ON, "Ll", "Nd"))))
def test_printable_keeps_letters_and_nothing_that_acts(text: str) -> None:
    assert is_harmless(shown := printable(text))
    assert "\n" not in shown
    assert "".join(c for c in text if c.isprintable()) == text or len(shown) > len(text)
    assert printable_lines(text).split("\n") == [printable(line) for line in text.split("\n")]


def test_escapes_are_those_of_python() -> None:
    assert printable(HOSTILE) == r"a\x1b[2J\x07\x9b31m\u202e\u2028\r\nb\x7f\udce9"
    assert printable("né [red] 山") == "né [red] 山"


def test_no_text_of_a_console_is_markup_or_moves_the_cursor() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, color_system=None, width=200)
    table = Table(HOSTILE, box=None)
    table.add_row(f"[red]{HOSTILE}[/red] :smile:")
    console.print(table)
    console.print(Text(HOSTILE))
    console.print(HOSTILE, "[/]")
    assert is_harmless(file.getvalue())
    assert "[/red] :smile:" in file.getvalue()


def test_lines_of_a_file_have_no_spaces_at_their_end() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=20)
    table = Table("a", "b", box=None, pad_edge=False)
    table.add_row("x y", "long words that wrap")
    table.add_row("x", " ")
    console.print(table)
    console.print("words that wrap  here")
    console.print("a ", end="")
    console.print("b")
    lines = file.getvalue().splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert lines[:3] == ["a    b", "x y  long words that", "     wrap"]
    assert lines[-1] == "a b"


@pytest.mark.parametrize("progress", [LineProgress, TerminalProgress])
def test_progress_takes_any_name(
    progress: type[LineProgress | TerminalProgress], capfd: pytest.CaptureFixture[str]
) -> None:
    shown = progress()
    shown.log(HOSTILE)
    with shown.task(HOSTILE, 1) as task:
        task.advance(1, HOSTILE)
    assert is_harmless(printed := capfd.readouterr().err)
    assert printed.splitlines()[0] == printable(HOSTILE)


def test_without_a_stderr_nothing_goes_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    print_error("lost")
    assert capsys.readouterr().out == ""


NAME = "x\x1b[2J\u202e\x9b"


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
@pytest.mark.parametrize(
    "command",
    [
        ["predict", "MODEL", NAME],
        ["predict", "MODEL", NAME, "--json"],
        ["predict", "MODEL", "photos"],
        ["predict", "MODEL", "photos", "--format", "jsonl"],
        ["predict", NAME],
        ["predict", f"--{NAME}"],
        ["predict", "photos", "--format", NAME],
        ["predict", "photos", "--accept-rate", NAME],
        ["predict", "photos", "--out", f"{NAME}/a.csv"],
        [NAME],
        ["evaluate", f"{NAME}.onnx", "photos"],
        ["evaluate", "MODEL", "photos"],
        ["audit", "photos", "--skip-label-issues", "--out", "audit"],
        ["train", "photos", "--recipe", NAME],
        ["train", "--config", f"{NAME}.toml", "--print-config"],
        ["calibrate", "MODEL", f"{NAME}.csv"],
        ["compare", NAME, NAME],
        ["review", NAME],
        ["corrections", f"{NAME}.jsonl"],
        ["show", NAME],
        ["show", f"{NAME}/model.onnx"],
        ["serve", NAME],
    ],
    ids=lambda command: " ".join(command).replace(NAME, "NAME"),
)
def test_no_command_passes_escapes_on(command: list[str], tiny_model: Path, tmp_path: Path) -> None:
    """Names on the command line, of classes, of images, of what is ignored and of what cannot be read."""
    for name in (NAME, "red"):
        write_image(tmp_path / "photos" / name / f"{NAME}.png", "red", len(name))
    (tmp_path / "photos" / "red" / f".{NAME}").touch()
    (tmp_path / "photos" / "red" / f"{NAME}.txt").touch()
    (tmp_path / "photos" / "red" / f"bad{NAME}.png").write_bytes(b"no image")
    (tmp_path / f"{NAME}.toml").write_text(f"[recipe]\n'{NAME[0]}\u202e' = 1\n")
    words = [sys.executable, "-m", "belvedere", *(str(tiny_model) if word == "MODEL" else word for word in command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert is_harmless(done.stdout + done.stderr), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
