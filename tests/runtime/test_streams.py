"""Streams that are closed, full or gone, and other places that fail: at most one line on stderr, and an exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_classes

TO_STDOUT = {  # commands that print on stdout
    "version": ["--version"],
    "help": ["--help"],
    "help of a command": ["predict", "--help"],
    "table": ["predict", "MODEL", "photos"],
    "csv": ["predict", "MODEL", "photos", "--format", "csv"],
    "json": ["predict", "MODEL", "photos", "--json"],
    "show": ["show", "MODEL"],
    "show as json": ["show", "MODEL", "--json"],
    "backbones": ["backbones"],
    "recipe": ["train", "--print-config"],
    "evaluate": ["evaluate", "MODEL", "photos"],
    "audit": ["audit", "photos", "--skip-label-issues", "--out", "OUT", "--json"],
    "journal": ["journal", "journal.jsonl"],
    "cache": ["cache", "--json"],
}
REFUSED = {  # commands that end in an error, by themselves
    "wrong option": ["predict", "--nowhere"],
    "no such command": ["perdict"],
    "no arguments": ["evaluate"],
    "no folder": ["train", "nowhere", "--out", "OUT"],
    "no model": ["serve", "nowhere.onnx"],
    "no run": ["review", "nowhere"],
    "no runs": ["compare", "nowhere", "nowhere"],
    "no table": ["calibrate", "MODEL", "nowhere"],
    "no pictures": ["export", "MODEL", "--format", "int8", "--out", "OUT.onnx", "--calibration-data", "nowhere"],
    "demo in a file": ["demo", "--out", "journal.jsonl"],
}
BROKEN_STDOUT = ["> /dev/full", ">&-", "| true"]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="streams of a shell")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_classes(folder / "photos", 2)
    (folder / "journal.jsonl").touch()
    return folder


def shell(command: list[str], streams: str, model: Path, folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a shell; the exit code is that of the command, not of what reads its output."""
    names = {"MODEL": str(model), "OUT": str(out), "OUT.onnx": f"{out}.onnx"}
    words = [sys.executable, "-m", "belvedere", *(names.get(word, word) for word in command)]
    line = f'"$@" {streams}; exit "${{PIPESTATUS[0]}}"'
    return subprocess.run(["bash", "-c", line, "bash", *words], capture_output=True, text=True, cwd=folder, check=False)


def assert_one_line(done: subprocess.CompletedProcess[str]) -> None:
    """No traceback, nothing of the interpreter's; at most one line that the command itself ends with."""
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert sum(line.startswith("belvedere: ") for line in done.stderr.splitlines()) <= 1


@needs_posix
@pytest.mark.parametrize("streams", BROKEN_STDOUT)
@pytest.mark.parametrize("command", TO_STDOUT.values(), ids=TO_STDOUT)
def test_stdout_that_takes_nothing(
    command: list[str], streams: str, work: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = shell(command, streams, tiny_model, work, tmp_path / "out")
    if streams == "| true" and done.returncode == 0:
        return  # all of it fitted into the pipe before the reader had gone
    assert_one_line(done)
    if command[0] == "predict":
        assert len(done.stderr.splitlines()) <= 1
    if streams != "| true":
        assert done.stderr.splitlines()[-1].startswith("belvedere: ")


@needs_posix
@pytest.mark.parametrize("streams", ["2> /dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", REFUSED.values(), ids=REFUSED)
def test_stderr_that_takes_nothing_changes_no_exit_code(
    command: list[str], streams: str, work: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = shell(command, streams, tiny_model, work, tmp_path / "out")
    assert (done.returncode in (1, 2), done.stdout, done.stderr) == (True, "", "")


@needs_posix
@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full", "<&-", ">&-", "<&- >&- 2>&-"])
def test_a_job_does_without_streams_that_it_does_not_need(
    streams: str, work: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Nor does what is told, or read, go to a file that got the number of a closed stream."""
    command = ["predict", "MODEL", "photos", "--out", str(tmp_path / "answers.csv")]
    done = shell(command, streams, tiny_model, work, tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "image",
        *(f"photos/{n}/{k}.png" for n in ("blue", "green", "red") for k in (0, 1)),
    ]


@needs_posix
@pytest.mark.parametrize("command", [*TO_STDOUT.values(), *REFUSED.values()], ids=[*TO_STDOUT, *REFUSED])
def test_a_working_folder_that_is_gone(command: list[str], work: Path, tiny_model: Path, tmp_path: Path) -> None:
    names = {"MODEL": str(tiny_model), "photos": str(work / "photos"), "OUT": "out"}
    words = [sys.executable, "-m", "belvedere", *(names.get(word, word) for word in command)]
    (tmp_path / "gone").mkdir()
    line = 'cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(["sh", "-c", line, "sh", *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert_one_line(done)
    assert "working folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_posix
@pytest.mark.parametrize("streams", ["<&-", "< photos/red/0.png", "< journal.jsonl"])
def test_stdin_without_names(streams: str, work: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = shell(["predict", "MODEL", "-"], streams, tiny_model, work, tmp_path / "out")
    assert_one_line(done)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["predict", ""], ["audit", ""], ["evaluate", "", "x"], ["predict", "x", "--out="]])
def test_an_empty_name_is_no_folder(command: list[str], work: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = shell(command, "", tiny_model, work, tmp_path / "out")
    assert_one_line(done)
    assert done.returncode == 2
    assert "is empty" in done.stderr


@needs_posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_a_job_with_their_codes(number: int, code: int, work: Path, tiny_model: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "predict", str(tiny_model), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=work, text=True) as process:
        assert process.stdin is not None
        process.stdin.write("photos/red/0.png\n" * 5_000)  # more than a pipe holds: it is at work when this returns
        process.stdin.flush()
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in told
