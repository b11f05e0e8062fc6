"""Belvedere compared with what a user would take today, in one run, on one machine.

python benchmarks/versus_peers.py DATA --peers FOLDER --peer-python PYTHON --weights FILE
    [--fastdup-python PYTHON] [--only probe serve ...] [--rounds 3] [--images N] [--install-sizes] [--out FILE.md]

DATA has train/ and test/ with class folders. FOLDER holds the peers' programs: article_keras.py, timm_probe.py,
fastai_scenes.py, onnx_loop.py, litserve_scenes.py and audit_tools.py. PYTHON has the packages that their docstrings
name after "Needs: pip install"; that of fastdup, which pins older ones, has only fastdup. FILE has weights of timm's
vit_tiny_patch16_224. All programs get a copy of DATA, or of a random subset with `--images`. They take turns, each in a
process of its own, with an empty cache of Belvedere.

Seconds are those of the whole process, its start included. Memory is the peak of all its processes, sampled: what they
share counts once. Tables show medians and, after several rounds, the range. A ratio above 1 means that Belvedere takes
less time or memory, or does more per second; accuracies are subtracted. Both sides use the same model file and the same
weights, except for the article's network.

Left out, tried with an empty environment and packages of PyPI only:

- cleanlab: label_errors.py compares it.
- Ultralytics 8.4 and FiftyOne 1.22: install in seconds; their usual models are downloaded from other hosts.
- AutoGluon (autogluon.multimodal): was not installed within five minutes, on a busy machine.
"""

import argparse
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import belvedere
import peer_programs as programs
from peer_programs import Program, Result, Setting

ROOT = Path(__file__).parents[1]
OURS = ("belvedere", "torch", "timm", "onnxruntime", "numpy", "pillow", "simplejpeg", "fastapi", "uvicorn")
INSTALLED = {
    name: [name.replace("Belvedere", str(ROOT))] for name in ("Belvedere", "Belvedere[serve]", "Belvedere[train]")
} | {"fastdup": ["fastdup"]}


@dataclass(frozen=True)
class Row:
    """A kind of work, and the programs that do it."""

    title: str
    peers: Mapping[str, Program]
    ours: Mapping[str, Program]


ROWS = {
    "article": Row(
        "Training to 87% from scratch",
        {"the article's (Keras)": programs.train_article},
        {"Belvedere, quick": partial(programs.train_belvedere, recipe="quick")},
    ),
    "probe": Row(
        "Linear probe of ViT-Tiny",
        {"timm, scikit-learn": programs.probe_timm},
        {"Belvedere, probe": partial(programs.train_belvedere, recipe="probe")},
    ),
    "finetune": Row(
        "Training to 93% from ViT-Tiny",
        {"fastai, fine_tune(1)": programs.finetune_fastai},
        {"Belvedere, probe": partial(programs.train_belvedere, recipe="probe")},
    ),
    "predict": Row(
        "Predictions from files to CSV, the same model file",
        {"Pillow, ONNX Runtime": programs.predict_loop},
        {"Belvedere": programs.predict_belvedere},
    ),
    "serve": Row(
        "Server under load, the same model file",
        {"LitServe": programs.serve_litserve},
        {"Belvedere": programs.serve_belvedere},
    ),
    "audit": Row(
        "Audit without labels, with planted copies",
        {name: partial(programs.audit_peer, tool=name.lower()) for name in ("CleanVision", "imagededup")}
        | {"fastdup": programs.audit_fastdup},
        {"Belvedere": programs.audit_belvedere},
    ),
    "cold": Row(
        "One image, a new process",
        {"Keras": programs.cold_keras, "timm": programs.cold_timm, "Pillow, ONNX Runtime": programs.cold_loop},
        {"Belvedere": programs.cold_belvedere},
    ),
}


def copy_data(data: Path, folder: Path, number: int | None, seed: int) -> Path:
    """Copy train/ and test/, or `number` random images of each, as many of each class."""
    for split in ("train", "test"):
        dataset = belvedere.load_dataset(data / split, layout="classes")
        for label in dataset.class_names:
            files = sorted(each.path for each in dataset.samples if each.label == label)
            wanted = max(1, number // len(dataset.class_names)) if number else len(files)
            (folder / split / label).mkdir(parents=True)
            for index in np.random.default_rng(seed).permutation(len(files))[:wanted]:
                shutil.copyfile(files[index], folder / split / label / files[index].name)
    return folder


def measure(row: Row, setting: Setting, rounds: int) -> dict[str, list[Result]]:
    """Run the programs in turn. One that fails is named, and left out."""
    results: dict[str, list[Result]] = {name: [] for name in (*row.peers, *row.ours)}
    for number in range(rounds):
        for name, program in (*row.peers.items(), *row.ours.items()):
            try:
                result = program(setting, number)
            except (SystemExit, subprocess.CalledProcessError, ValueError, LookupError) as error:
                print(f"{name} failed: {error} {getattr(error, 'stderr', None) or ''}", file=sys.stderr)
                continue
            results[name].append(result)
            print(f"{name}, round {number + 1}: {show_all(result.figures)}", file=sys.stderr, flush=True)
    return {name: found for name, found in results.items() if found}


def show_all(figures: Mapping[str, float]) -> str:
    """Return figures in one line."""
    return ", ".join(f"{name} {show(value, name)}" for name, value in figures.items())


def show(value: float, measure_name: str) -> str:
    """Format a figure."""
    if math.isinf(value):
        return "not reached"
    if measure_name in ("accuracy", "copies found"):
        return f"{value:.4f}"
    return f"{value:,.0f}" if value >= 100 or measure_name == "failed" else f"{value:.3g}"


def ratio(ours: float, theirs: float, measure_name: str) -> str:
    """Compare two medians; above 1, or with a plus, is better for Belvedere."""
    if not math.isfinite(ours) or not math.isfinite(theirs) or measure_name == "failed":
        return ""
    if measure_name in ("accuracy", "copies found"):
        return f"{ours - theirs:+.4f}"
    better = ours / theirs if measure_name.split(",")[0].endswith("/s") else theirs / ours
    return f"{better:.2f}x" if better < 10 else f"{better:.0f}x"


def table(row: Row, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """Return the lines of a table, and what the programs found."""
    names = list(dict.fromkeys(name for found in results.values() for each in found for name in each.figures))
    values = {
        program: {
            name: [each.figures[name] for each in found if not math.isnan(each.figures.get(name, math.nan))]
            for name in names
        }
        for program, found in results.items()
    }
    medians = {
        program: {name: statistics.median(each) if each else math.nan for name, each in of_names.items()}
        for program, of_names in values.items()
    }
    lines = [f"## {row.title}\n", f"| program | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for program, of_names in values.items():
        cells = [spread(each, medians[program][name], name) for name, each in of_names.items()]
        lines.append(f"| {program} | {' | '.join(cells)} |")
    for ours in row.ours:
        for peer in row.peers:
            if ours in medians and peer in medians:
                cells = [ratio(medians[ours][name], medians[peer][name], name) for name in names]
                lines.append(f"| *{ours} to {peer}* | {' | '.join(cells)} |")
    notes = [f"- {program}: {found[-1].note}" for program, found in results.items() if found[-1].note]
    return [*lines, "", *notes, ""] if notes else [*lines, ""]


def spread(values: Sequence[float], median: float, name: str) -> str:
    """Format the median and the range."""
    if not values:
        return ""
    if min(values) == max(values):
        return show(median, name)
    return f"{show(median, name)} ({show(min(values), name)} to {show(max(values), name)})"


def packages_of(peers: Path) -> dict[str, list[str]]:
    """Return the packages that each of the peers' programs needs."""
    found = {file.stem: re.search(r"Needs: pip install (.*)", file.read_text("utf-8")) for file in peers.glob("*.py")}
    return {name: match[1].split() for name, match in sorted(found.items()) if match}


def versions(python: str, packages: Sequence[str]) -> str:
    """Return the versions of the packages that are installed."""
    code = (
        "import sys, importlib.metadata as m\nfor name in sys.argv[1:]:\n"
        "    print(name, m.version(name)) if any(m.distributions(name=name)) else None"
    )
    done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    return ", ".join(done.stdout.split("\n")[:-1])


def machine() -> str:
    """Describe processor, system and load."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = re.search(r"model name\s*: (.*)", cpuinfo)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_bf16") if re.search(rf"\b{flag}\b", cpuinfo)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({names[1] if names else platform.machine()}: {' '.join(flags)}), {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}; load average at the start "
        f"{os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}."
    )


def install_sizes(peers: Path) -> list[str]:
    """Install each list of packages into a new environment; return a table of their sizes."""
    lines = ["## Size of the installation\n", "| | MB | packages | largest |", "|---|---|---|---|"]
    tool = [sys.executable, str(ROOT / "tools" / "measure_install.py")]
    for name, packages in (INSTALLED | packages_of(peers)).items():
        done = subprocess.run([*tool, *packages], capture_output=True, text=True, check=False)
        rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
        if done.returncode or not rows:
            print(f"{name}: {done.stderr[-500:]}", file=sys.stderr)
            continue
        largest = ", ".join(f"{package} {float(size):,.0f}" for package, _, size in rows[:3])
        lines.append(f"| {name} | {rows[-1][-1].strip('*| ')} | {len(rows) - 1} | {largest} |")
    return [*lines, ""]


def main() -> None:
    """Run all rows, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", type=Path, required=True, help="folder of the peers' programs")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--fastdup-python", help="default: without fastdup")
    parser.add_argument("--weights", type=Path, required=True, help="weights of vit_tiny_patch16_224")
    parser.add_argument("--model", type=Path, default=ROOT / "src/belvedere/inference/assets/scenes.onnx")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="of train and of test; default: all")
    parser.add_argument("--peer-epochs", type=int, default=30, help="of the article's program, at most")
    parser.add_argument("--seconds", type=float, default=30, help="of load on a server")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--install-sizes", action="store_true")
    parser.add_argument("--out", type=Path, help="Markdown page; default: print only")
    options = parser.parse_args()
    shown = " ".join(Path(word).name if "/" in word else word for word in sys.argv[1:])
    packages = sorted(
        {name for names in packages_of(options.peers).values() for name in names} | {"torch", "keras", "fastdup"}
    )
    peer_pythons = filter(None, (options.peer_python, options.fastdup_python))
    page = [
        "# Belvedere and what a user would take instead\n",
        f"    python benchmarks/versus_peers.py {shown}\n",
        *(
            textwrap.fill(line, 120, break_on_hyphens=False) + "\n"
            for line in (
                machine(),
                f"Belvedere's: {versions(sys.executable, OURS)}.",
                f"The peers': {', '.join(versions(python, packages) for python in peer_pythons)}.",
            )
        ),
        f"Rounds: {options.rounds}. A ratio above 1, or a plus, is in favor of Belvedere.\n",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary).resolve()
        data = copy_data(options.data, scratch / "data", options.images, 0)
        setting = Setting(
            data, scratch, options.peers.resolve(), options.peer_python, options.fastdup_python,
            options.model.resolve(), options.weights.resolve(), options.peer_epochs, options.seconds, options.clients,
        )  # fmt: skip
        for name in options.only:
            page += table(ROWS[name], measure(ROWS[name], setting, options.rounds))
            publish(page, options.out)
    if options.install_sizes:
        page += install_sizes(options.peers)
        publish(page, options.out)
    print("\n".join(page))


def publish(page: Sequence[str], out: Path | None) -> None:
    """Write what is there so far, so that an interruption loses one row at most."""
    if out:
        out.write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
