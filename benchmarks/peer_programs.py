"""The programs that versus_peers.py runs: what a user would take, and the command of Belvedere for the same work."""

import argparse
import contextlib
import csv
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import belvedere
from duplicates import pairs_of, plant
from predict import PEER, link_images
from serve import run_load
from versus_article import Measured, follow, measure_ours, measure_theirs

BELVEDERE = (sys.executable, "-m", "belvedere")
SAMPLE_SECONDS = 0.5
START_SECONDS = 180.0  # at most, until a server is ready
WARM_UP_SECONDS = 3.0
PLANTED_FRACTION, MAX_PLANTED = 0.1, 500  # copies among the audited images
TIMM_ONE = """
import sys, timm, torch
from PIL import Image
from safetensors.torch import load_file
weights, image = sys.argv[1:]
model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
model.load_state_dict(load_file(weights))
model.eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    print(model(transform(Image.open(image).convert("RGB"))[None]).argmax(1).item())
"""
GROUPS = {
    "cleanvision": """
import json, sys
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1])
lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, verbose=False)
print(json.dumps([group for kind in ("exact", "near") for group in lab.info[f"{kind}_duplicates"]["sets"]]))
""",
    "imagededup": """
import json, os, sys
from imagededup.methods import PHash
found = PHash().find_duplicates(image_dir=sys.argv[1], recursive=True)
pairs = [[name, other] for name, others in found.items() for other in others]
print(json.dumps([[os.path.join(sys.argv[1], name) for name in pair] for pair in pairs]))
""",
    "fastdup": """
import json, os, sys, tempfile
os.environ["SENTRY_OPT_OUT"] = "1"  # else it reports each run to its makers
import fastdup
with tempfile.TemporaryDirectory() as work:
    run = fastdup.create(work_dir=work, input_dir=sys.argv[1])
    run.run(verbose=False)
    print("\\n" + json.dumps(list(map(list, run.connected_components_grouped()["files"]))))
""",
}


@dataclass(frozen=True)
class Setting:
    """What all programs are given."""

    data: Path  # copy of the dataset or of a part of it: train/ and test/ of class folders
    scratch: Path
    peers: Path
    python: str  # of the peers
    fastdup_python: str | None
    model: Path
    weights: Path
    peer_epochs: int
    seconds: float  # of load on a server
    clients: int


@dataclass(frozen=True)
class Result:
    """What a program took and found."""

    figures: Mapping[str, float]  # by the name of the measure; infinite: not reached
    note: str = ""


Program = Callable[[Setting, int], Result]  # the number is that of the round, and the seed


def descendants(root: int) -> list[int]:
    """Return the processes below a process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def resident_bytes(processes: Iterable[int]) -> int:
    """Return the memory of processes; what several share counts once (proportional set size)."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(text.split("\nPss:")[1].split()[0]) * 1024
    return total


@dataclass
class TreeMemory:
    """Context: peak memory of all processes below this one, sampled."""

    peak_bytes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "TreeMemory":
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, resident_bytes(descendants(os.getpid())))


@dataclass(frozen=True)
class Ran:
    """A finished process."""

    seconds: float
    peak_gb: float
    lines: list[str]
    line_seconds: list[float]

    def documents(self) -> Iterator[tuple[float, dict[str, float]]]:
        """Yield the JSON lines with the seconds at which they came."""
        for seconds, line in zip(self.line_seconds, self.lines, strict=True):
            if line.startswith("{"):
                yield seconds, json.loads(line)


def run(*command: object) -> Ran:
    """Run a command with an empty cache of Belvedere; exit with its last lines if it fails."""
    line_seconds: list[float] = []

    def watch(_: str, seconds: float) -> bool:
        line_seconds.append(seconds)
        return False

    with TreeMemory() as memory, tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"BELVEDERE_CACHE": folder}
        seconds, peak, lines = follow(list(map(str, command)), environment, watch)
    return Ran(seconds, max(peak, memory.peak_bytes) / 1e9, lines, line_seconds)


def trained(found: Measured, tree_bytes: int, level: str) -> Result:
    """Return the figures of a training that versus_article.py measured."""
    peak = max(found.peak_bytes, tree_bytes) / 1e9
    reached = math.inf if found.level_seconds is None else found.level_seconds
    return Result(
        {f"s to {level}": reached, "s": found.seconds, "accuracy": found.accuracies[-1], "peak GB": peak}
        | ({"s to the model": found.model_seconds} if found.name.startswith("Belvedere") else {})
    )


def train_article(setting: Setting, _: int) -> Result:
    """The article's program, until its accuracy is 87%."""
    options = argparse.Namespace(level=0.87, until_level=True, peer_epochs=setting.peer_epochs)
    with TreeMemory() as memory:
        found = measure_theirs(setting.data, setting.peers / "article_keras.py", setting.python, options)
    return trained(found, memory.peak_bytes, "87%")


@cache
def train_belvedere(setting: Setting, seed: int, recipe: str) -> Result:
    """Train by a recipe; one run serves all rows of a round."""
    level = 0.87 if recipe == "quick" else 0.93
    with TreeMemory() as memory:
        found = measure_ours(setting.data, recipe, seed, level, setting.weights)
    return trained(found, memory.peak_bytes, f"{level:.0%}")


def probe_timm(setting: Setting, _: int) -> Result:
    """Features of timm, logistic regression of scikit-learn."""
    train, test = setting.data / "train", setting.data / "test"
    ran = run(setting.python, setting.peers / "timm_probe.py", train, test, setting.weights)
    [(_seconds, document)] = ran.documents()
    return Result(
        {"s to the model": document["seconds"], "s": ran.seconds, "accuracy": document["accuracy"]}
        | {"peak GB": ran.peak_gb}
    )


def finetune_fastai(setting: Setting, _: int) -> Result:
    """`fine_tune(1)` of fastai; its model file, beside the training images, is deleted."""
    train, test = setting.data / "train", setting.data / "test"
    ran = run(setting.python, setting.peers / "fastai_scenes.py", train, test, setting.weights, 1)
    (train / "fastai.pkl").unlink(missing_ok=True)
    epochs = [(seconds, document["accuracy"]) for seconds, document in ran.documents() if "accuracy" in document]
    reached = next((seconds for seconds, accuracy in epochs if accuracy >= 0.93), math.inf)
    return Result({"s to 93%": reached, "s": ran.seconds, "accuracy": epochs[-1][1], "peak GB": ran.peak_gb})


def rate(setting: Setting, command: Callable[[Path], tuple[object, ...]]) -> Result:
    """Predict a fifth of the test images, and all of them: the difference excludes the start."""
    whole, few = setting.data / "test", setting.scratch / "few"
    count = sum(1 for path in whole.rglob("*") if path.is_file())
    if not few.exists():
        link_images(whole, count // 5, few)
    short, long = run(*command(few)), run(*command(whole))
    difference = long.seconds - short.seconds
    without_start = (count - count // 5) / difference if difference > 0 else math.nan
    return Result({"images/s": count / long.seconds, "images/s, no start": without_start, "peak GB": long.peak_gb})


def predict_loop(setting: Setting, _: int) -> Result:
    """A loop with Pillow and ONNX Runtime."""
    program, out = setting.peers / "onnx_loop.py", setting.scratch / "loop.csv"
    return rate(setting, lambda folder: (setting.python, program, setting.model, folder, out, side_of(setting.model)))


def predict_belvedere(setting: Setting, _: int) -> Result:
    """The command `predict`."""
    out = setting.scratch / "predictions.csv"
    return rate(setting, lambda folder: (*BELVEDERE, "predict", setting.model, folder, "--out", out, "--overwrite"))


@cache
def side_of(model: Path) -> int:
    """Return the height of the images that a model takes."""
    return belvedere.load_model(model).card.preprocess.height


def serve(setting: Setting, health: str, form: str | None, command: Callable[[int], tuple[object, ...]]) -> Result:
    """Start a server, let the clients request predictions, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as log:
        parts = list(map(str, command(port)))
        server = subprocess.Popen(parts, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            started = wait_until_ready(f"{address}{health}", server)
            test = setting.data / "test"
            run_load(address, test, setting.clients, WARM_UP_SECONDS, mixed=False, field=form)
            good = run_load(address, test, setting.clients, setting.seconds, mixed=False, field=form)["good"]
            peak = resident_bytes([server.pid, *descendants(server.pid)])
        except (TimeoutError, subprocess.CalledProcessError) as error:
            log.seek(0)
            sys.exit(f"{log.read()[-2000:]}\n{parts[0]}: {error}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    statuses = good["statuses"]
    assert isinstance(statuses, dict)
    answered, failed = statuses.get("200", 0), sum(statuses.values()) - statuses.get("200", 0)
    quantiles = {f"{name}, s": float(str(good[name])) for name in ("p50", "p99")}
    figures = {"requests/s": answered / setting.seconds, **quantiles, "failed": failed, "s to start": started}
    return Result(figures | {"GB": peak / 1e9})


def wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> float:
    """Return the seconds until a server answers 200."""
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < START_SECONDS and server.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(address, timeout=5).close()  # noqa: S310 - our own server
            return seconds
        time.sleep(0.05)
    raise TimeoutError("the server did not start")


def serve_litserve(setting: Setting, _: int) -> Result:
    """LitServe with dynamic batching."""
    program = setting.peers / "litserve_scenes.py"
    side = side_of(setting.model)
    return serve(setting, "/health", "request", lambda port: (setting.python, program, setting.model, side, port))


def serve_belvedere(setting: Setting, _: int) -> Result:
    """The command `serve`."""
    return serve(setting, "/healthz", None, lambda port: (*BELVEDERE, "serve", setting.model, "--port", port))


@cache
def plant_copies(setting: Setting) -> tuple[Path, dict[str, str]]:
    """Copy the training images and plant duplicates; return the folder, and the original of each."""
    folder, planted = setting.scratch / "audited", setting.scratch / "planted"
    shutil.copytree(setting.data / "train", folder)
    planted.mkdir()
    samples = list(belvedere.load_dataset(folder, layout="classes").samples)
    count = min(MAX_PLANTED, round(PLANTED_FRACTION * len(samples)))
    copies, truth = plant(samples, count, 0, planted)
    originals = {}
    by_name = {sample.name: sample.path for sample in samples}
    for copy in copies:
        file = copy.path.rename(folder / copy.label / copy.path.name)
        originals[str(file)] = str(by_name[truth[str(copy.path)][1]])
    return folder, originals


def found_copies(groups: Iterable[Iterable[str]], originals: Mapping[str, str]) -> float:
    """Return the fraction of planted copies that are grouped with their original."""
    pairs = pairs_of(groups)
    return sum(tuple(sorted(pair)) in pairs for pair in originals.items()) / max(1, len(originals))


def audit_peer(setting: Setting, round_number: int, tool: str) -> Result:
    """A tool with its defaults; in the first round its groups are compared with the planted copies."""
    folder, originals = plant_copies(setting)
    ran = run(setting.python, setting.peers / "audit_tools.py", folder, tool)
    [line] = [line for line in ran.lines if line.startswith('{"tool"')]
    figures = {"s": ran.seconds, "peak GB": ran.peak_gb}
    if round_number == 0:
        groups = printed_groups(run(setting.python, "-c", GROUPS[tool], folder))
        figures["copies found"] = found_copies(groups, originals)
    return Result(figures, ", ".join(f"{name} {number}" for name, number in json.loads(line)["found"].items()))


def audit_fastdup(setting: Setting, _: int) -> Result:
    """The groups of similar images of fastdup, with its defaults."""
    if not setting.fastdup_python:
        raise LookupError("--fastdup-python is not given")
    folder, originals = plant_copies(setting)
    ran = run(setting.fastdup_python, "-c", GROUPS["fastdup"], folder)
    groups = printed_groups(ran)
    figures = {"s": ran.seconds, "peak GB": ran.peak_gb, "copies found": found_copies(groups, originals)}
    return Result(
        figures, f"images in groups {sum(map(len, groups))}, groups {len(groups)}, largest {max(map(len, groups))}"
    )


def printed_groups(ran: Ran) -> list[list[str]]:
    """Return the groups of images that one of `GROUPS` printed."""
    lists = [line for line in ran.lines if line.startswith("[[")]
    return json.loads(lists[-1]) if lists else []


def audit_belvedere(setting: Setting, _: int) -> Result:
    """The command `audit` without the search for wrong labels."""
    folder, originals = plant_copies(setting)
    out = setting.scratch / "audit"
    options = ("--skip-label-issues", "--layout", "classes", "--out", out, "--overwrite")
    ran = run(*BELVEDERE, "audit", folder, *options)
    with (out / "issues.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["is_issue"] == "true"]
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(str(folder / row["image"]))
    groups.pop("", None)
    found = found_copies(groups.values(), originals)
    counts = Counter(row["issue_type"] for row in rows)
    note = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    return Result({"s": ran.seconds, "peak GB": ran.peak_gb, "copies found": found}, note)


def one_image(setting: Setting) -> Path:
    """Return the first test image, alone in a folder."""
    folder = setting.scratch / "one"
    if not folder.exists():
        link_images(setting.data / "test", 1, folder)
    return next(folder.iterdir())


def cold(*command: object) -> Result:
    """Run a command for one image."""
    ran = run(*command)
    return Result({"s": ran.seconds, "peak GB": ran.peak_gb})


def cold_keras(setting: Setting, _: int) -> Result:
    """The article's network as a saved Keras model; its weights are random."""
    saved = setting.scratch / "article.keras"
    if not saved.exists():
        run(setting.python, "-c", PEER, "save", setting.peers / "article_keras.py", saved)
    return cold(setting.python, "-c", PEER, "cold", saved, "-", one_image(setting))


def cold_timm(setting: Setting, _: int) -> Result:
    """A network of timm."""
    return cold(setting.python, "-c", TIMM_ONE, setting.weights, one_image(setting))


def cold_loop(setting: Setting, _: int) -> Result:
    """The loop with ONNX Runtime."""
    out, folder = setting.scratch / "one.csv", one_image(setting).parent
    return cold(setting.python, setting.peers / "onnx_loop.py", setting.model, folder, out, side_of(setting.model))


def cold_belvedere(setting: Setting, _: int) -> Result:
    """The command `predict`."""
    return cold(*BELVEDERE, "predict", setting.model, one_image(setting))
