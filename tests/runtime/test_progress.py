import io
import subprocess
import sys
from pathlib import Path

import pytest

from belvedere.errors import UsageError
from belvedere.runtime import progress
from belvedere.runtime.console import PlainConsole
from belvedere.runtime.progress import (
    LineProgress,
    LoggedProgress,
    LoggerProgress,
    Progress,
    TerminalProgress,
    choose_progress,
)
from belvedere.types.data import DataWarning

MARKED_UP = "[red]sea[/red] [/] [link=x]"


class Clock:
    """Time that passes only when a test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[TerminalProgress, io.StringIO]:
    monkeypatch.setenv("TERM", "xterm")
    shown = TerminalProgress()
    written = io.StringIO()
    shown._console = PlainConsole(file=written, force_terminal=True, width=120, color_system=None)
    return shown, written


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    silent = Progress()
    silent.log("hello")
    with silent.task("Reading", 10) as task:
        task.advance(5)
        task.advance(5, "loss 0.1")
    assert capfd.readouterr() == ("", "")


def test_lines_say_speed_and_time_left(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    lines = LineProgress()
    lines.log("Reading images")
    with lines.task("Reading", 1000) as task:
        for _ in range(4):
            clock.now += 4.0
            task.advance(100, "loss 0.5")
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err == "Reading images\nReading: 300/1000 images, 25 images/s, 28 s left loss 0.5\n"


def test_what_was_done_before_is_left_out_of_the_speed(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with LineProgress().task("Reading", 1000) as task:
        clock.now += 50.0  # what was done before is read
        task.resume_at(600)
        clock.now += 10.0
        task.advance(100)
    assert capfd.readouterr().err == "Reading: 700/1000 images, 10 images/s, 30 s left\n"


def test_bar_leaves_out_of_the_speed_what_was_done_before(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, written = on_a_terminal(monkeypatch)
    with shown.task("Reading", 1000) as task:
        task.resume_at(600)
        clock.now += 10.0
        task.advance(300)
    assert "90% 30 images/s" in written.getvalue()


def test_lines_come_at_most_every_ten_seconds(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with LineProgress().task("Reading", 1000) as task:
        for _ in range(1000):
            clock.now += 0.1
            task.advance(1)
    assert 9 <= len(capfd.readouterr().err.splitlines()) <= 10


def test_line_without_an_image_done(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with LineProgress().task("Reading", 10) as task:
        clock.now += 11
        task.advance(0)
    assert capfd.readouterr().err == "Reading: 0/10 images, 0 images/s, 0 s left\n"


def test_lines_take_markup_as_it_is(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    lines = LineProgress()
    lines.log(MARKED_UP)
    with lines.task(MARKED_UP, 2) as task:
        clock.now += 10
        task.advance(1, MARKED_UP)
    assert capfd.readouterr().err == f"{MARKED_UP}\n{MARKED_UP}: 1/2 images, 0 images/s, 10 s left {MARKED_UP}\n"


def test_bar_shows_description_fraction_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, written = on_a_terminal(monkeypatch)
    with shown.task("Reading", 10) as task:
        task.advance(4, "loss 0.5")
        task.advance(6)
    assert "Reading" in written.getvalue()
    assert "100%" in written.getvalue()
    assert "images/s" in written.getvalue()


def test_terminal_takes_markup_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, written = on_a_terminal(monkeypatch)
    shown.log(MARKED_UP)
    assert written.getvalue() == f"{MARKED_UP}\n"
    with shown.task(MARKED_UP, 2) as task:
        task.advance(2, "[bold]0.5")
    assert MARKED_UP in written.getvalue().removeprefix(f"{MARKED_UP}\n")
    assert "[bold]0.5" in written.getvalue()


def test_bar_of_nothing_and_bar_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, written = on_a_terminal(monkeypatch)
    with shown.task("Reading", 0):
        pass
    with pytest.raises(ValueError, match="stop"), shown.task("Reading", 3):
        raise ValueError("stop")
    with shown.task("Writing", 1) as task:
        task.advance(1)
    assert "Writing" in written.getvalue()


def test_terminal_writes_to_stderr_only(capfd: pytest.CaptureFixture[str]) -> None:
    shown = TerminalProgress()
    shown.log("hello")
    with shown.task("Reading", 1) as task:
        task.advance(1)
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("hello\n")


@pytest.mark.parametrize(("terminal", "kind"), [(True, TerminalProgress), (False, LineProgress)])
def test_what_suits_stderr(terminal: bool, kind: type[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    assert type(progress.console_progress()) is kind


def test_the_log_has_all_names_and_the_console_three(tmp_path: Path) -> None:
    class Said(Progress):
        lines: list[str]

        def log(self, message: str) -> None:
            self.lines.append(message)

    said = Said()
    said.lines = []
    log = LoggedProgress(tmp_path / "train.log", said)
    log.log("Training on naïve café")
    log.log_warnings([DataWarning("5 ignored", ("a", "b", "odd\udce9.png", "d", "e")), DataWarning("nothing more")])
    assert said.lines == [
        "Training on naïve café",
        "Warning: 5 ignored: a, b, odd\udce9.png and 2 more",
        "Warning: nothing more",
    ]
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert [line[20:] for line in lines] == [
        "Training on naïve café",
        "5 ignored",
        *(f"  {name}" for name in ("a", "b", r"odd\udce9.png", "d", "e")),
        "nothing more",
    ]


class Shown(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, message: str) -> None:
        self.messages.append(message)


def test_messages_are_log_records_too(caplog: pytest.LogCaptureFixture) -> None:
    shown = Shown()
    chosen = choose_progress(shown)
    with caplog.at_level("INFO", "belvedere"):
        chosen.log("100% of\n%s")
        chosen.log("Warning: too dark")
        chosen.log_warnings([DataWarning("2 skipped", ("a", "b")), DataWarning("late", ())])
        chosen.log("Review: http://example.org/enter?token=se-c_ret1&x=1 (Ctrl-C ends it)")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", r"100% of\n%s"),
        ("WARNING", "too dark"),
        ("WARNING", "2 skipped: a, b"),
        ("WARNING", "late"),
        ("INFO", "Review: http://example.org/enter?token=...&x=1 (Ctrl-C ends it)"),
    ]
    assert {record.name for record in caplog.records} == {"belvedere"}
    assert shown.messages == [
        "100% of\n%s",
        "Warning: too dark",
        "Warning: 2 skipped: a, b",
        "Warning: late",
        "Review: http://example.org/enter?token=se-c_ret1&x=1 (Ctrl-C ends it)",
    ]


def test_a_message_is_one_record_however_often_a_progress_is_passed_on(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    inner = LoggedProgress(tmp_path / "train.log", choose_progress(Shown()))
    with caplog.at_level("INFO", "belvedere"):
        choose_progress(choose_progress(inner)).log("once")
    assert [record.getMessage() for record in caplog.records] == ["once"]


def test_the_library_prints_no_record() -> None:
    code = "import logging\nfrom belvedere.runtime.progress import choose_progress\n"
    code += "choose_progress(False).log('Warning: hello')\nassert not logging.root.handlers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("given", "terminal", "shown"),
    [(None, False, Progress), (None, True, TerminalProgress), (False, True, Progress), (True, False, LineProgress)],
)
def test_progress_is_shown_on_a_terminal_unless_switched_off(
    given: bool | None, terminal: bool, shown: type[Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    chosen = choose_progress(given)
    assert isinstance(chosen, LoggerProgress)
    assert type(chosen._inner) is shown


def test_progress_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    choose_progress(None).log("lost")
    choose_progress(True).log("lost")


@pytest.mark.parametrize("wrong", ["yes", 1, Progress])
def test_other_objects_are_no_progress(wrong: object) -> None:
    with pytest.raises(UsageError):
        choose_progress(wrong)  # type: ignore[arg-type]


class Notebook:
    """IPython as a kernel has it: keeps what is displayed."""

    def __init__(self) -> None:
        self.kernel, self.drawn = object(), []  # type: ignore[var-annotated]

    def get_ipython(self) -> "Notebook":
        return self

    def display(self, bundle: dict[str, str], **_: object) -> "Notebook":
        self.drawn.append(bundle)
        return self

    def update(self, bundle: dict[str, str], **_: object) -> None:
        self.drawn.append(bundle)


def test_a_bar_in_a_notebook(clock: Clock, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    notebook = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    chosen = choose_progress(None)
    chosen.log("hello")
    with chosen.task("Reading <b>", 100) as task:
        clock.now += 1.0
        task.advance(50, "loss 0.5")
        task.advance(1)  # too early to be drawn
    assert capfd.readouterr().out == "hello\n"
    first, half, last = notebook.drawn
    assert first == {"text/plain": "Reading <b>", "text/html": "<progress></progress> Reading &lt;b&gt;"}
    assert half["text/plain"] == "Reading <b>: 50/100, 50 images/s loss 0.5"
    assert half["text/html"].startswith('<progress value="0.500"></progress> Reading &lt;b&gt;: 50/100')
    assert not any(last.values())
