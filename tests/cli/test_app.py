"""The whole command line: help, bad input, closed or full streams; at most one line on stderr, and an exit code."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from belvedere import __version__
from command_line import assert_one_line, belvedere
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
    "networks": ["networks"],
    "recipe": ["train", "--print-config"],
    "evaluate": ["evaluate", "MODEL", "photos"],
    "audit": ["audit", "photos", "--skip-label-issues", "--out", "OUT", "--json"],
    "corrections": ["corrections", "corrections.jsonl"],
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
    "no images": ["export", "MODEL", "--format", "int8", "--out", "OUT.onnx", "--calibration-data", "nowhere"],
    "demo in a file": ["demo", "--out", "corrections.jsonl"],
}
BROKEN_STDOUT = ["> /dev/full", ">&-", "| true"]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="streams of a shell")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_classes(folder / "photos", 2)
    (folder / "corrections.jsonl").touch()
    return folder


def shell(command: list[str], streams: str, model: Path, folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a shell; the exit code is that of the command, not of what reads its output."""
    names = {"MODEL": str(model), "OUT": str(out), "OUT.onnx": f"{out}.onnx"}
    words = [sys.executable, "-m", "belvedere", *(names.get(word, word) for word in command)]
    line = f'"$@" {streams}; exit "${{PIPESTATUS[0]}}"'
    return subprocess.run(["bash", "-c", line, "bash", *words], capture_output=True, text=True, cwd=folder, check=False)


def assert_ended_cleanly(done: subprocess.CompletedProcess[str]) -> None:
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
    assert_ended_cleanly(done)
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
    """Neither messages nor input go to, or come from, a file that got the number of a closed stream."""
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
    assert_ended_cleanly(done)
    assert os.strerror(errno.ENOENT) in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_posix
@pytest.mark.parametrize("streams", ["<&-", "< photos/red/0.png", "< corrections.jsonl"])
def test_stdin_without_names(streams: str, work: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = shell(["predict", "MODEL", "-"], streams, tiny_model, work, tmp_path / "out")
    assert_ended_cleanly(done)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["predict", ""], ["audit", ""], ["evaluate", "", "x"], ["predict", "x", "--out="]])
def test_an_empty_name_is_no_folder(command: list[str], work: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = shell(command, "", tiny_model, work, tmp_path / "out")
    assert_ended_cleanly(done)
    assert done.returncode == 2
    assert " empty" in done.stderr


@needs_posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_a_job_with_their_codes(number: int, code: int, work: Path, tiny_model: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "predict", str(tiny_model), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=work, text=True) as process:
        assert process.stdin is not None
        process.stdin.write("photos/red/0.png\n" * 5_000)  # more than a pipe holds: it is at work when this returns
        process.stdin.flush()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors


def test_version_and_help() -> None:
    assert belvedere("--version").stdout.strip() == __version__
    help_page = belvedere("--help").stdout
    for verb in (
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
    ):
        assert verb in help_page


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "nowhere", "--out", "x"], 1, ["nowhere"]),
        (["train", "images", "--recipe", "artcle", "--out", "x"], 2, ["'artcle'", "'article'"]),
        (["train", "images", "--out", "run"], 2, ["run ", "--overwrite"]),
        (["train", "images", "--out", "images", "--overwrite"], 2, ["images ", "--out"]),
        (["train", "images/train/dark", "--out", "x"], 1, ["images/train/dark"]),
        (["evaluate", "images", "images"], 1, ["images", "model.onnx"]),
        (["audit", "nowhere", "--out", "x"], 1, ["nowhere"]),
        (["audit", "images", "--out", "run"], 2, ["run ", "--overwrite"]),
        (["audit", "images", "--model", "run", "--out", "x"], 2, ["run/model.onnx", "--model"]),
        (["audit", "images", "--model", "gone.onnx", "--out", "x"], 1, ["gone.onnx", "model.onnx"]),
        (["predict", "run"], 2, []),
        (["predict", "run", "images", "--format", "cvs"], 2, ["'cvs'", "'csv'"]),
        (["predict", "run", "images", "--out", "no/where.csv"], 2, ["no/where.csv", " no,"]),
        (["predict", "bad.onnx", "images"], 1, ["bad.onnx", "ONNX"]),
        (["predict", "gone.onnx", "images"], 1, ["gone.onnx", "model.onnx"]),
        (["evaluate", "run/metrics.json", "images"], 1, ["run/metrics.json", "ONNX"]),
        (["evaluate", "gone.onnx", "images"], 1, ["gone.onnx", "model.onnx"]),
        (["predict", "run", "images", "--json", "--out", "a.json"], 2, ["--json"]),
        (["predict", "run", "images", "--out", "answers"], 2, ["answers", "--format"]),
        (["train", "images", "--seed", "99999999999999999999", "--out", "x"], 2, ["--seed"]),
        (["show", "rnu/model.onnx"], 2, ["rnu/model.onnx", "run"]),
        (["show", "artcle"], 2, ["'artcle'", "'article'"]),
        (["train"], 2, ["DATA"]),
        (["train", "images", "--config", "gone.toml", "--out", "x"], 2, ["gone.toml"]),
        (["train", "images", "--config", "bad.toml", "--out", "x"], 2, ["'epochs'"]),
        (["train", "--config", "bad.toml", "--print-config"], 2, ["'epochs'"]),
        (["train", "images", "--overwrite", "--resume", "--out", "x"], 2, ["--overwrite", "--resume"]),
        (["train", "images", "--max-minutes", "0", "--out", "x"], 2, ["--max-minutes", "0.0"]),
        (
            ["train", "images", "--max-minutes", "1", "--epochs", "1", "--out", "x"],
            2,
            ["--epochs", "--max-minutes"],
        ),
        (["trian", "images"], 2, []),
        (["train", "images", "--epochs", "0"], 2, []),
    ],
)
def test_bad_input_gets_one_line(trained: Path, arguments: list[str], code: int, words: list[str]) -> None:
    before = sorted(path.name for path in trained.iterdir())
    assert_one_line(belvedere(*arguments, cwd=trained), code, *words)
    assert sorted(path.name for path in trained.iterdir()) == before


def test_a_reader_that_goes_away_is_no_disaster(trained: Path) -> None:
    command = f"{sys.executable} -m belvedere predict run images --format jsonl | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=trained, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_size_of_images_is_an_option(tiny_model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "large.jpg")
    Image.new("RGB", (64, 64)).save(tmp_path / "large.png")
    done = belvedere("predict", tiny_model, tmp_path, "--max-megapixels", 0.004, "--json")
    small, refused = json.loads(done.stdout)["predictions"]
    assert small["error"] is None
    assert small["warnings"] == []
    assert " 4,000" in refused["error"]
    for command in ("predict", "train", "evaluate", "audit", "calibrate", "compare", "review"):
        assert_one_line(belvedere(command, "--max-megapixels", 500), 2, "--max-megapixels", "178", "500")
