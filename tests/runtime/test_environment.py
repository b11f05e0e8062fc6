"""Nothing is sent: no command connects to another host, or leaves a file of another program in the cache folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from belvedere.cli.app import keep_fonts_in_cache
from belvedere.errors import CacheError
from belvedere.runtime.environment import CACHE_DIR_ENV, TELEMETRY_OFF, cache_folder
from conftest import write_classes
from serve_process import PATIENCE, Server

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r'(?:connect|sendto|sendmsg)\(.*sa_family=AF_INET6?,.*?(?:inet_addr\(|AF_INET6, )"([^"]+)"')
LOOPBACK = re.compile(r"127\.|::1$")
DEMO = """

from belvedere.cli.app import keep_fonts_in_cache
keep_fonts_in_cache()
from belvedere.demo.demo import run_demo
run_demo("demo", train_per_class=6, test_per_class=3, epochs=1)
"""


@dataclass(frozen=True)
class Home:
    """The home of a user who has run nothing yet, and a folder of images."""

    folder: Path

    def start(self, *command: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a command of the interpreter under strace; return it and the file of its system calls."""
        trace = self.folder / f"trace-{len(list(self.folder.glob('trace-*')))}"
        hidden = {*TELEMETRY_OFF, "BELVEDERE_CACHE", "XDG_CACHE_HOME"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"HOME": str(self.folder / "home"), "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
        # The tracer is not the parent, so that a signal reaches the command.
        strace = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=network", "-e", "signal=none"]
        process = subprocess.Popen(
            [*strace, "-o", str(trace), sys.executable, *command],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return process, trace

    def check(self, process: subprocess.Popen[bytes], trace: Path) -> None:
        """Wait for the end of a command, and check its connections and the files it left."""
        output, errors = process.communicate(timeout=PATIENCE * 5)
        assert process.returncode == 0, (output + errors).decode()
        assert foreign_addresses(trace) == set()
        files = [path.relative_to(self.folder / "home") for path in (self.folder / "home").rglob("*") if path.is_file()]
        assert [str(file) for file in files if file.parts[:2] != (".cache", "belvedere")] == []


def test_without_a_home_folder_only_the_cache_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    for name in (CACHE_DIR_ENV, "XDG_CACHE_HOME", "LOCALAPPDATA", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")  # which is restored
        monkeypatch.delenv(name)
    with pytest.raises(CacheError, match=CACHE_DIR_ENV):
        cache_folder()
    keep_fonts_in_cache()
    assert "MPLCONFIGDIR" not in os.environ


def foreign_addresses(trace: Path) -> set[str]:
    """Return the addresses beyond this machine that a traced command sent to."""
    lines = trace.read_text(errors="replace").splitlines()
    found = [(match[1], line) for line in lines if (match := ADDRESS.search(line))]
    # A resolver of names may listen on this machine.
    return {address for address, line in found if "htons(53)" in line or not LOOPBACK.match(address)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "true"], check=False).returncode:
        pytest.skip("needs strace, and leave to trace")
    folder = tmp_path_factory.mktemp("user")
    (folder / "home").mkdir()
    write_classes(folder / "images" / "train", 12)
    write_classes(folder / "images" / "test", 3)
    return Home(folder)


def test_the_trace_shows_a_lookup(home: Home) -> None:
    process, trace = home.start("-c", "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 53))")
    process.communicate(timeout=PATIENCE)
    assert foreign_addresses(trace) <= {"192.0.2.1"}
    assert "192.0.2.1" in trace.read_text()


@pytest.mark.parametrize(
    "command",
    [
        "predict images/test --out answers.csv --contact-sheet sheet.png",
        "evaluate run images --out evaluation",
        "audit images --out audit",
        "export run --format int8 --calibration-data images --force --out int8.onnx",
        "show",
    ],
)
def test_nothing_is_sent_by(command: str, home: Home, run: Path) -> None:
    assert run.is_dir()
    home.check(*home.start("-m", "belvedere", *command.split()))


def test_nothing_is_sent_by_the_demo(home: Home) -> None:
    home.check(*home.start("-c", DEMO))


@pytest.fixture(scope="module")
def run(home: Home) -> Path:
    """A trained run; training is checked as the other commands are."""
    options = ("--recipe", "article", "--epochs", "1", "--out", "run")
    home.check(*home.start("-m", "belvedere", "train", "images", *options))
    return home.folder / "run"


def test_nothing_is_sent_by_serve(home: Home, run: Path) -> None:
    process, trace = home.start("-m", "belvedere", "serve", str(run), "--port", "0", "--json")
    assert process.stdout
    address = json.loads(b"".join(iter(process.stdout.readline, b"}\n")) + b"}")["address"]
    image = next((home.folder / "images").rglob("*.png")).read_bytes()
    assert Server(process, address, trace).post_raw(image).status == 200
    process.send_signal(signal.SIGTERM)
    home.check(process, trace)


def test_nothing_is_sent_by_review(home: Home, run: Path) -> None:
    process, trace = home.start("-m", "belvedere", "review", str(run), "--port", "0", "--data", "images")
    assert process.stderr
    line = b""
    while b"http://" not in line:
        line = process.stderr.readline()
        assert line, "review ended"
    address = re.findall(r"http://[\w.:\[\]]+", line.decode())[0]
    assert Server(process, address, trace).get("/").status == 200
    process.send_signal(signal.SIGINT)
    home.check(process, trace)


def test_the_users_choice_stands() -> None:
    program = "import os, belvedere; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    environment = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF}
    environment["ORT_DISABLE_TELEMETRY"] = "0"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


def test_every_switch_is_in_the_table_and_in_the_service() -> None:
    page = (ROOT / "docs" / "privacy.md").read_text()
    assert set(re.findall(r"`([A-Z_]+)=", page)) == set(TELEMETRY_OFF)
    for file in (ROOT / "Dockerfile", ROOT / "docs" / "serving.md"):
        assert "ORT_DISABLE_TELEMETRY=1" in file.read_text()
