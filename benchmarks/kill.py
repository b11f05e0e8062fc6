"""Commands killed at random moments and rerun: same result, nothing lost, nothing left over?

python benchmarks/kill.py DATA [--images 180] [--seed 0] [--only NAME]

Runs each command once, then repeatedly with `kill -9` at a random moment of its duration, and then to the end. A kill
is correct if the result is then the old or the complete new one, the next run gives the same result, no input has
changed and no file is left over. Review decisions are sent to a server that is killed: all acknowledged ones must be
stored, and at most one other.
"""

import argparse
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.corrections_file import read_corrections
from belvedere.data.dataset import load_dataset

COMMAND = (sys.executable, "-m", "belvedere")
TAB = "0123456789abcdef"


@dataclass(frozen=True)
class Case:
    """A command, its outputs, and its number of kills."""

    name: str
    arguments: str
    result: str  # a file of the result that is the same bytes each time
    again: str  # what is added after a kill
    kills: int


CASES = (
    Case("train", "train some.csv --recipe quick --epochs 2 --out out", "out/weights.safetensors", "--resume", 20),
    Case("predict", "predict some --out out.csv", "out.csv", "--resume", 20),
    Case("calibrate", "calibrate model.onnx tagged.csv --overwrite --force", "model.onnx", "", 20),
    Case("export", "export run --format float16-weights --calibration-data some --out out.onnx", "out.onnx", "", 20),
    Case("audit", "audit others --model run --out out", "out/issues.csv", "--overwrite", 10),
)
REVIEWS = 20


def prepare(data: Path, images: int, folder: Path) -> None:
    """Write images, two tables of them, and a run."""
    known = load_dataset(data).split("train")
    step = max(2, len(known) // images)
    samples = known[::step]
    for number, sample in enumerate(known[1::step]):  # not used for training
        file = folder / "others" / sample.label / f"{number}{sample.path.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.path, file)
    names = sorted({sample.label for sample in samples})
    plain, tagged = ["image,label"], ["image,label"]
    for number, sample in enumerate(samples):
        file = folder / "some" / sample.label / f"{number}{sample.path.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.path, file)
        plain.append(f"{file.relative_to(folder)},{sample.label}")
        other = names[(names.index(sample.label) + 1) % len(names)]
        tagged.append(f"{file.relative_to(folder)},{sample.label}" + (f"|{other}" if number % 3 == 0 else ""))
    (folder / "some.csv").write_text("\n".join(plain) + "\n", encoding="utf-8")
    (folder / "tagged.csv").write_text("\n".join(tagged[:61]) + "\n", encoding="utf-8")
    run(folder, "train some.csv --recipe quick --epochs 2 --out run")
    shutil.copyfile(folder / "run/model.onnx", folder / "untouched.onnx")


def start(folder: Path, arguments: str) -> subprocess.Popen[str]:
    """Start a command with a cache folder of its own."""
    environment = os.environ | {"BELVEDERE_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [*COMMAND, *arguments.split()],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, arguments: str) -> float:
    """Run a command to its end; return its seconds."""
    begun = time.perf_counter()
    process = start(folder, arguments)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{arguments}: {errors}")
    return time.perf_counter() - begun


def put_back(folder: Path) -> None:
    """Remove results, and restore the model that calibrate replaces."""
    for path in folder.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copyfile(folder / "untouched.onnx", folder / "model.onnx")


def list_files(folder: Path) -> dict[str, str]:
    """List the working folder without the cache; with hashes, except for results that may contain times."""
    files = [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.relative_to(folder).parts]
    names = {path: str(path.relative_to(folder)) for path in files}
    return {
        name: "" if name.startswith("out") else hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
    }


def read(path: Path) -> bytes | None:
    """Return the bytes of a file, or None."""
    return path.read_bytes() if path.exists() else None


def kill_case(case: Case, folder: Path, chance: random.Random) -> list[str]:
    """Kill one command repeatedly; return the violations."""
    put_back(folder)
    seconds = run(folder, case.arguments)
    put_back(folder)
    seconds = min(seconds, run(folder, case.arguments))  # as it is once the cache is filled
    expected, files = read(folder / case.result), list_files(folder)
    wrong = []
    for number in range(case.kills):
        put_back(folder)
        before = read(folder / case.result)
        moment = chance.uniform(0, seconds)
        process = start(folder, case.arguments)
        time.sleep(moment)
        process.kill()
        process.communicate()
        found = read(folder / case.result)
        if found not in (before, expected):
            wrong.append(f"{case.name} {number}: after {moment:.2f} s half a result stood at its place")
        again = case.again if found != expected or case.again != "--resume" else ""
        if found == expected and not again:
            put_back(folder)  # it was at its end: the same again from the beginning
        try:
            run(folder, f"{case.arguments} {again}")
        except RuntimeError as error:
            wrong.append(f"{case.name} {number}: after {moment:.2f} s {error}")
            continue
        if read(folder / case.result) != expected:
            wrong.append(f"{case.name} {number}: after {moment:.2f} s another result")
        if list_files(folder) != files:
            wrong.append(f"{case.name} {number}: {sorted(list_files(folder).items() ^ files.items())}")
    return wrong


def ask(address: str, content: dict[str, object] | None = None) -> str:
    """Send one request to the review."""
    data = None if content is None else json.dumps(content).encode()
    origin = re.sub(r"(http://[^/]+).*", r"\1", address)
    headers = {"Content-Type": "application/json", "Origin": origin}
    request = urllib.request.Request(address, data, headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return str(response.read().decode())


def decide(address: str, sent: list[str], kept: list[str]) -> None:
    """Submit decisions until the server is gone."""
    while True:
        found = re.search(r'data-item="([^"]+)"', ask(f"{address}/items/next?tab={TAB}"))
        if found is None:
            return
        sent.append(secrets.token_hex(12))
        ask(f"{address}/decisions", {"id": sent[-1], "tab": TAB, "item": found[1], "action": "keep"})
        kept.append(sent[-1])


def kill_reviews(folder: Path, chance: random.Random) -> list[str]:
    """Kill a server under decisions; return the violations."""
    put_back(folder)
    run(folder, "evaluate run some --out out")
    corrections = folder / "out.corrections.jsonl"
    sent: list[str] = []
    kept: list[str] = []
    wrong = []
    for number in range(REVIEWS):
        process = start(folder, "review out --port 0")
        assert process.stderr
        address = next(found[0] for line in process.stderr if (found := re.findall(r"http://[\w.]+:\d+", line)))
        killer = subprocess.Popen(["sh", "-c", f"sleep {chance.uniform(0, 0.3)}; kill -9 {process.pid}"])  # noqa: S607
        try:
            decide(address, sent, kept)
        except urllib.error.HTTPError:
            raise  # it refuses: not what is looked for
        except OSError:
            pass  # it was killed
        killer.wait()
        process.communicate()
        text = read_corrections(corrections) if corrections.exists() else None  # it begins with the first decision
        there = [each.id for each in text.decisions] if text else []
        if not set(kept) <= set(there) or not set(there) <= set(sent) or len(there) != len(set(there)):
            wrong.append(f"review {number}: {len(kept)} acknowledged, {len(there)} found")
        if text and len(text.damaged) > number + 1:
            wrong.append(f"review {number}: {len(text.damaged)} damaged lines")
        sent = [each for each in sent if each in there]
    print(f"  {len(kept)} decisions were acknowledged")
    return wrong


def main() -> None:
    """Print a line per command; exit with 1 on violations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=180)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    wrong: list[str] = []
    kills = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(options.data, options.images, folder)
        for case in CASES:
            if options.only in (None, case.name):
                found = kill_case(case, folder, chance)
                print(f"{case.name}: {case.kills} kills, {len(found)} wrong", *found, sep="\n  ", flush=True)
                wrong, kills = wrong + found, kills + case.kills
        if options.only in (None, "review"):
            found = kill_reviews(folder, chance)
            print(f"review: {REVIEWS} kills, {len(found)} wrong", *found, sep="\n  ", flush=True)
            wrong, kills = wrong + found, kills + REVIEWS
    print(f"{kills} kills, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
