"""Every command without a network: does it work, does it contact other hosts, is it slower?

python benchmarks/offline.py DATA [--rounds 3] [--images 240] [--commands NAME ...]

Runs each command in turn as it is and in a network namespace with only the loopback device, with an empty cache
folder, and once more under strace. Needs Linux, strace, and permission to create namespaces. DATA is a dataset with
splits, such as the Intel scenes.
"""

import argparse
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from belvedere.data.dataset import load_dataset
from belvedere.runtime.environment import TELEMETRY_OFF

COMMANDS = {
    "demo": "demo --out demo --overwrite",
    "train": "train some --recipe quick --epochs 2 --out run --overwrite",
    "evaluate": "evaluate run some --out evaluation --overwrite",
    "audit": "audit some --skip-label-issues --out audit --overwrite",  # with labels it trains, as above
    "predict": "predict some/test --out predictions.csv --contact-sheet sheet.png",
    "export": "export run --format int8 --calibration-data some --force --out int8.onnx --overwrite",
    "compare": "compare run evaluation --out comparison --overwrite",
    "show": "show",
    "serve": "serve run --port 0 --json",
    "review": "review run --data some --port 0",
}
SERVERS = ("serve", "review")
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
TRACED = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=network", "-e", "signal=none", "-o", "trace")
ADDRESS = re.compile(r'(?:connect|sendto|sendmsg)\(.*sa_family=AF_INET6?,.*?(?:inet_addr\(|AF_INET6, )"([^"]+)"')


def copy_some(data: Path, images: int, folder: Path) -> None:
    """Link some images of each split and class into a dataset."""
    samples = load_dataset(data).samples
    for number, sample in enumerate(samples[:: max(1, len(samples) // images)]):
        place = folder / ("test" if sample.split == "test" else "train") / sample.label
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}{sample.path.suffix}").symlink_to(sample.path.resolve())


def run_once(name: str, before: Sequence[str], folder: Path) -> float:
    """Run a command after its prerequisites; return its seconds."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            key: value for key, value in os.environ.items() if key not in (*TELEMETRY_OFF, "BELVEDERE_CACHE")
        }
        environment |= {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"}
        command = [sys.executable, "-m", "belvedere", *shlex.split(COMMANDS[name])]
        if name in SERVERS:
            command = [sys.executable, __file__, "--ask", *command]
        start = time.perf_counter()
        done = subprocess.run([*before, *command], cwd=folder, env=environment, capture_output=True, check=False)
        seconds = time.perf_counter() - start
        assert done.returncode == 0, f"{name}: {(done.stdout + done.stderr).decode()[-800:]}"
        others = [path.name for path in Path(home, ".cache").glob("*") if path.name != "belvedere"]
        assert not others, f"{name} left {others} in the cache folder"
        return seconds


def ask_server(command: Sequence[str]) -> int:
    """Start a server, fetch its page, stop it; return its exit code."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    address = next(found[0] for line in process.stdout if (found := re.findall(r"http://[\w.]+:\d+", line)))
    with urllib.request.urlopen(address) as response:  # noqa: S310 - the server that was just started
        assert response.status == 200
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    return process.returncode


def count_foreign(trace: Path) -> int:
    """Counts the system calls of a trace that name an address beyond this machine."""
    lines = trace.read_text(errors="replace").splitlines()
    found = [(match[1], line) for line in lines for match in ADDRESS.finditer(line)]
    # A resolver of names, on port 53, may be on this machine.
    return sum("htons(53)" in line or not address.startswith(("127.", "::1")) for address, line in found)


def main() -> None:
    """Prints the table; ends with 1 where a command tried to reach another host."""
    if sys.argv[1:2] == ["--ask"]:
        sys.exit(ask_server(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--json", type=Path, help="File for the seconds of every run.")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "torch", "fastapi"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")
    print(f"{versions}; {options.rounds} rounds\n")
    print("| command | s, as it is | s, no network | ratio | calls to other hosts |\n|---|---|---|---|---|")
    seconds: dict[str, list[list[float]]] = {}
    foreign = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copy_some(options.data, options.images, folder / "some")
        for name in options.commands:
            pairs = [
                [run_once(name, before, folder) for before in ((), WITHOUT_NETWORK)] for _ in range(options.rounds)
            ]
            run_once(name, TRACED, folder)
            calls = count_foreign(folder / "trace")
            foreign += calls
            seconds[name] = pairs
            open_, closed = (statistics.median(pair[k] for pair in pairs) for k in (0, 1))
            ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
            print(f"| {name} | {open_:.2f} | {closed:.2f} | {ratio:.2f} | {calls} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(seconds))
    sys.exit(1 if foreign else 0)


if __name__ == "__main__":
    main()
