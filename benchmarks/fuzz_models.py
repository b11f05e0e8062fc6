"""200 hostile models: no traceback, one line of error, no file read but the model.

Run as `python benchmarks/fuzz_models.py [--count 200] [--seed 0] [--keep FOLDER]`, with strace. `predict` and one
other command process each model. Opened files are compared with those opened for a good model. A command fails if it
prints a traceback, NaN or more than one own line on stderr, ends by a signal, takes over 60 s, or opens another file.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from belvedere.inference.model_paths import BUNDLED

SECONDS = 60
SIZE = 32
SECRET = "secret.bin"  # noqa: S105 - the name of a file
LOCATIONS = (SECRET, f"./{SECRET}", f"sub/../{SECRET}", "link.bin", "../secret.bin", "/etc/passwd",
             "/proc/self/environ", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "")  # fmt: skip
OPENED = re.compile(r'open(?:at)?\((?:AT_FDCWD, |\d+, )?"([^"]*)"[^)]*\) = \d+')
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("show", "MODEL", "--json"),
    ("evaluate", "MODEL", "images", "--out", "out", "--json"),
    ("export", "MODEL", "--format", "float16-weights", "--calibration-data", "images", "--out", "out.onnx", "--json"),
    ("export", "MODEL", "--format", "nchw", "--calibration-data", "images", "--out", "out.onnx"),
    ("export", "MODEL", "--format", "int8", "--calibration-data", "images", "--out", "out.onnx"),
    ("calibrate", "MODEL", "labels.csv", "--out", "out.onnx"),
    ("audit", "images", "--model", "MODEL", "--out", "out"),
    ("predict", "MODEL", "images", "--format", "csv"),
    ("predict", "MODEL", "images", "--contact-sheet", "sheet.png", "--heatmaps", "out"),
)

Node = onnx.NodeProto
Change = Callable[[onnx.ModelProto, random.Random], None]


def base() -> onnx.ModelProto:
    """Return a good model: logits from the mean color, metadata of the bundled model."""
    bundled = onnx.load(BUNDLED)
    metadata = {entry.key: entry.value for entry in bundled.metadata_props}
    names = json.loads(metadata["class_names"])
    metadata["preprocess"] = json.dumps(json.loads(metadata["preprocess"]) | {"height": SIZE, "width": SIZE})
    weights = np.random.default_rng(0).normal(0, 0.01, (3, len(names))).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["colors"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["colors", "axes"], ["color"], keepdims=0),
        helper.make_node("MatMul", ["color", "weights"], ["mean"]),
        helper.make_node("Identity", ["mean"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["logits"], ["embedding"]),
        helper.make_node("Transpose", ["colors"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["quarters"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Conv", ["quarters", "kernel"], ["class_activation_maps"]),
    ]
    shapes: dict[str, list[Any]] = {name: ["N", len(names)] for name in ("logits", "probabilities", "embedding")} | {
        "class_activation_maps": ["N", len(names), 2, 2]
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", SIZE, SIZE, 3))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [
            numpy_helper.from_array(np.array([1, 2]), "axes"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(weights.T[:, :, None, None], "kernel"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata)
    return model


def between(model: onnx.ModelProto, *nodes: Node, **tensors: Any) -> None:
    """Insert nodes between "mean" and "logits"."""
    del model.graph.node[3]
    for number, node in enumerate(nodes):
        model.graph.node.insert(3 + number, node)
    for name, values in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def outside(draw: random.Random, dims: list[int]) -> TensorProto:
    """Return a tensor with external data."""
    tensor = TensorProto(name="stolen", data_type=TensorProto.UINT8, dims=dims, data_location=TensorProto.EXTERNAL)
    entries = {"location": draw.choice(LOCATIONS), "offset": str(draw.choice((0, 0, 3, -1, 10**18)))}
    for key, value in (entries | {"length": str(draw.choice((dims[0], 10**12)))}).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def steal(model: onnx.ModelProto, draw: random.Random) -> None:
    """Reference another file from one of the places that may hold a tensor."""
    tensor, place = outside(draw, [6]), draw.randrange(6)
    cast = helper.make_node("Cast", ["stolen"], ["read"], to=TensorProto.FLOAT)
    add = helper.make_node("Add", ["mean", "read"], ["logits"])
    if place == 0:
        between(model, cast, add)
        model.graph.initializer.append(tensor)
    elif place == 1:
        between(model, helper.make_node("Constant", [], ["stolen"], value=tensor), cast, add)
    elif place == 2:
        between(model, cast, add)
        tensor.data_type = TensorProto.FLOAT
        places = numpy_helper.from_array(np.arange(6), "places")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, places, [6]))
    elif place == 3:
        inner = [helper.make_node("Constant", [], ["s"], value=tensor), helper.make_node("Cast", ["s"], ["o"], to=1)]
        opsets = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("own", "Steal", [], ["o"], inner, opsets))
        model.opset_import.append(helper.make_opsetid("own", 1))
        between(model, helper.make_node("Steal", [], ["read"], domain="own"), add)
    elif place == 4:
        branch = helper.make_graph([cast], "b", [], [helper.make_tensor_value_info("read", 1, [6])], [tensor])
        between(model, helper.make_node("If", ["yes"], ["read"], then_branch=branch, else_branch=branch), add, yes=True)
    else:
        second = onnx.ModelProto()
        second.graph.initializer.append(tensor)
        between(model, cast, add)
        model.MergeFromString(second.SerializeToString())


def operators(model: onnx.ModelProto, draw: random.Random) -> None:
    """Add loops, operators of other domains, or operators that read files."""
    kind = draw.randrange(5)
    if kind == 0:
        values = [helper.make_tensor_value_info(name, t, None) for name, t in (("i", 7), ("go", 9), ("v", 1))]
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Identity", ["v"], ["v2"])],
            "body",
            values,
            [helper.make_tensor_value_info("go2", 9, None), helper.make_tensor_value_info("v2", 1, None)],
        )
        between(model, helper.make_node("Loop", ["", "yes", "mean"], ["logits"], body=body), yes=True)
    elif kind == 1:
        domain = draw.choice(("com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml", "own.library", "ai.onnx.training"))
        name = draw.choice(("EPContext", "FusedConv", "Anything", "TreeEnsembleClassifier", "Inverse", "Conv"))
        attributes: dict[str, Any] = {"embed_mode": 0, "ep_cache_context": SECRET} if name == "EPContext" else {}
        model.opset_import.append(helper.make_opsetid(domain, 1))
        between(model, helper.make_node(name, ["mean"], ["logits"], domain=domain, **attributes))
    elif kind == 2:
        call = [helper.make_node("Round", ["a"], ["b"], domain="own")]
        opsets = [helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", "Round", ["a"], ["b"], call, opsets))  # calls itself
        model.opset_import.append(helper.make_opsetid("own", 1))
        between(model, helper.make_node("Round", ["mean"], ["logits"], domain="own"))
    elif kind == 3:
        name = draw.choice(("ImageDecoder", "StringNormalizer", "NoSuchOperator", "SequenceEmpty", "Optional"))
        between(model, helper.make_node(name, ["mean"], ["logits"]))
    else:
        between(model, *deep(draw.choice((100, 5_000, 60_000))))


def deep(count: int) -> list[Node]:
    """Add a chain of nodes."""
    names = ["mean", *(f"n{number}" for number in range(count - 1)), "logits"]
    return [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)]


def failing(model: onnx.ModelProto, draw: random.Random) -> None:
    """Return a model that fails when it runs, or has wrong outputs."""
    if draw.random() < 0.7:  # else ONNX Runtime refuses many of them when they are opened
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
    big = draw.choice((10**9, 10**11, 10**12, 10**15, 2**62))
    several: list[tuple[list[Node], dict[str, Any]]] = [
        ([helper.make_node("Reshape", ["mean", "s"], ["logits"])], {"s": [7, 5]}),
        ([helper.make_node("Gather", ["mean", "s"], ["logits"], axis=1)], {"s": [9] * 6}),
        ([helper.make_node("Slice", ["mean", "s", "s"], ["logits"])], {"s": [0]}),
        ([helper.make_node("Tile", ["mean", "s"], ["logits"])], {"s": [draw.choice((2, big)), 1]}),
        ([helper.make_node("Mul", ["mean", "s"], ["logits"])], {"s": np.float32(draw.choice((np.nan, np.inf, 3e38)))}),
        ([helper.make_node("Log", ["mean"], ["logits"])], {}),
        ([helper.make_node("Unsqueeze", ["mean", "s"], ["logits"])], {"s": [0]}),
        ([helper.make_node("Concat", ["mean", "mean"], ["logits"], axis=draw.choice((0, 1)))], {}),
        ([helper.make_node("Cast", ["mean"], ["logits"], to=draw.choice((8, 11, 10, 7, 9)))], {}),
        ([helper.make_node("SplitToSequence", ["mean"], ["logits"])], {}),
        ([helper.make_node("ConstantOfShape", ["s"], ["z"]), helper.make_node("Add", ["mean", "z"], ["logits"])],
         {"s": [big, 6]}),
        ([helper.make_node("Expand", ["mean", "s"], ["logits"])], {"s": [big, 1, 6]}),
        ([helper.make_node("Pad", ["mean", "s"], ["logits"])], {"s": [0, 0, big, 0]}),
        ([helper.make_node("Range", ["a", "s", "b"], ["r"]), helper.make_node("Cast", ["r"], ["f"], to=1),
          helper.make_node("ReduceMax", ["f"], ["m"], keepdims=0), helper.make_node("Add", ["mean", "m"], ["logits"])],
         {"a": np.int64(0), "s": np.int64(big), "b": np.int64(1)}),
        ([helper.make_node("Div", ["i", "s"], ["d"]), helper.make_node("Cast", ["d"], ["f"], to=1),
          helper.make_node("Add", ["mean", "f"], ["logits"])], {"i": [1] * 6, "s": np.int64(0)}),
        ([helper.make_node("NonZero", ["mean"], ["n"]), helper.make_node("Cast", ["n"], ["logits"], to=1)], {}),
        ([helper.make_node("Resize", ["c4", "", "s"], ["l4"], mode="nearest"),
          helper.make_node("ReduceMean", ["l4", "axes"], ["m"]), helper.make_node("Reshape", ["m", "q"], ["logits"])],
         {"s": np.array([1, 1, 1e5, 1e5], np.float32), "c4": np.ones((1, 1, 9, 9), np.float32), "q": [-1, 6]}),
    ]  # fmt: skip
    nodes, tensors = draw.choice(several)
    between(model, *nodes, **tensors)


VALUES: tuple[Any, ...] = (None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**30, "", "x", "\ud800", "\x1b[2J",
                           [], {}, [[]], [None], ["a", "a"], {"height": 0}, [1.0], [3.0, 1.0],
                           "forest" * 10_000)  # fmt: skip


def metadata(model: onnx.ModelProto, draw: random.Random) -> None:
    """Add metadata of a wrong kind, depth or size."""
    entry = draw.choice([each for each in model.metadata_props if each.key != "format"])
    kind = draw.randrange(3)
    if kind == 0:
        depth = draw.choice((900, 5_000, 100_000, 1_000_000))
        entry.value = draw.choice(("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth))
    elif kind == 1:
        entry.value = draw.choice(("", "null", "[", "1e999", "-" * 9, "9" * 6_000, json.dumps(draw.choice(VALUES))))
    else:
        held = json.loads(entry.value)
        for _ in range(draw.randint(1, 3)):
            spoil(held, draw)
        entry.value = json.dumps(held)


def spoil(held: Any, draw: random.Random) -> None:
    """Put an odd value into a document."""
    keys = list(held) if isinstance(held, dict) else list(range(len(held))) if isinstance(held, list) else []
    if not keys:
        return
    key = draw.choice(keys)
    if isinstance(held[key], dict | list) and held[key] and draw.random() < 0.6:
        spoil(held[key], draw)
    elif isinstance(held, dict) and draw.random() < 0.2:
        del held[key]
    else:
        held[key] = draw.choice(VALUES)


def write_bytes(file: Path, content: bytes, draw: random.Random) -> None:
    """Flip bits, truncate or repeat."""
    corrupted = bytearray(content)
    kind = draw.randrange(4)
    if kind == 0:
        for _ in range(draw.randint(1, 30)):
            corrupted[draw.randrange(len(corrupted))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del corrupted[draw.randrange(len(corrupted)) :]
    elif kind == 2:
        corrupted += corrupted[: draw.randrange(len(corrupted))]
    else:
        corrupted = bytearray(b"\x3b" * draw.choice((10, 100_000)) + b"\x3a\xff\xff\xff\xff\x07" + bytes(corrupted))
    file.write_bytes(corrupted)


CHANGES: dict[str, Change | None] = {
    "external data": steal, "operators": operators, "failing": failing, "metadata": metadata, "bytes": None,
}  # fmt: skip


def write_model(file: Path, number: int, seed: int) -> str:
    """Write hostile model `number`; return its kind."""
    draw, kind = random.Random(f"{seed}-{number}"), list(CHANGES)[number % len(CHANGES)]  # noqa: S311
    model, change = base(), CHANGES[kind]
    if change is None:
        write_bytes(file, model.SerializeToString(), draw)
    else:
        change(model, draw)
        file.write_bytes(model.SerializeToString())
    return kind


def prepare(folder: Path) -> None:
    """Write images, a table of labels, and files to protect."""
    names = json.loads({entry.key: entry.value for entry in onnx.load(BUNDLED).metadata_props}["class_names"])
    rows = ["image,label"]
    for number in range(36):
        file = folder / "images" / names[number % 6] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        rows.append(f"{file.relative_to(folder)},{names[number % 6]}|{names[(number + 1) % 6]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "sub").mkdir()
    (folder / SECRET).write_bytes(b"-----BEGIN A SECRET-----" * 99)
    (folder / "link.bin").symlink_to(SECRET)


@dataclass
class Outcome:
    """Result of a command."""

    code: int | None
    out: str
    err: str
    seconds: float
    opened: set[str] = field(default_factory=set)


def run(command: tuple[str, ...], model: str, folder: Path) -> Outcome:
    """Run a command in the folder, under strace if available."""
    for name in ("out", "out.onnx", "sheet.png"):
        target = folder / name
        shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
    trace = folder.with_suffix(".trace")
    words = [model if word == "MODEL" else word for word in command]
    traced = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat", "-o", str(trace)]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [*traced, sys.executable, "-m", "belvedere", *words],
            cwd=folder,
            capture_output=True,
            timeout=SECONDS,
            env=os.environ | {"XDG_CACHE_HOME": str(folder.with_suffix(".cache")), "OMP_NUM_THREADS": "1"},
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, out, err = None, error.stdout or b"", error.stderr or b""
    opened = {os.path.realpath(folder / name) for name in OPENED.findall(trace.read_text(errors="replace"))}
    return Outcome(code, out.decode(errors="replace"), err.decode(errors="replace"), time.monotonic() - began, opened)


def wrong(done: Outcome, command: tuple[str, ...], usual: set[str], folder: Path) -> Iterator[str]:
    """List the violations."""
    if done.code is None:
        yield f"still running after {SECONDS} s"
    elif done.code < 0 or done.code > 2:
        yield f"ended with {done.code}: {done.err[-200:]!r}"
    if "Traceback" in done.out + done.err:
        yield f"a traceback: {done.err.strip().splitlines()[-1][:200]!r}"
    if "A fault in Belvedere" in done.err:
        yield f"unforeseen: {done.err[-300:]!r}"
    if done.code and sum(line.startswith("belvedere:") for line in done.err.splitlines()) != 1:
        yield f"not one line: {done.err[-300:]!r}"
    if "--json" in command and done.out.strip():
        try:
            json.loads(done.out, parse_constant=refuse)
        except ValueError:
            yield f"no JSON: {done.out[-200:]!r}"
    for name in sorted(done.opened - usual):
        if not is_expected(name, folder):
            yield f"opened {name}"


def refuse(constant: str) -> None:
    """Reject NaN and Infinity in JSON."""
    raise ValueError(constant)


def is_expected(name: str, folder: Path) -> bool:
    """Return whether a file belongs to the job: model, images, outputs, Python, system."""
    inside = os.path.relpath(name, folder)
    if not inside.startswith(".."):
        return not inside.startswith((SECRET, "link")) and SECRET not in inside
    if name in ("/etc/passwd", "/dev/zero") or name.endswith("/environ"):
        return False
    places = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), tempfile.gettempdir(), "/proc", "/sys")
    return name.startswith((*places, "/usr", "/lib", "/etc/ld.so", "/dev/null", "/dev/urandom", "/dev/shm"))  # noqa: S108


def main() -> int:
    """Make the models and run two commands on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="A folder for the models that failed.")
    options = parser.parse_args()
    failures, kinds, codes, slowest = 0, Counter[str](), Counter[int | None](), 0.0
    first = ("predict", "MODEL", "images", "--json")
    with tempfile.TemporaryDirectory(prefix="fuzz-models-") as name:
        folder = Path(name) / "job"
        folder.mkdir()
        prepare(folder)
        good = folder / "good.onnx"
        good.write_bytes(base().SerializeToString())
        usual = {}
        for command in (first, *COMMANDS):
            done = run(command, good.name, folder)
            usual[command] = done.opened
            if done.code:
                raise SystemExit(f"The good model fails in {' '.join(command)}: {done.err}")
        for number in range(options.count):
            file = folder / f"hostile{number}.onnx"
            kind = write_model(file, number, options.seed)
            kinds[kind] += 1
            for command in (first, COMMANDS[number // len(CHANGES) % len(COMMANDS)]):
                done = run(command, file.name, folder)
                codes[done.code] += 1
                slowest = max(slowest, done.seconds)
                for what in wrong(done, command, usual[command], folder):
                    failures += 1
                    print(f"{number} ({kind}), {' '.join(command)}: {what}", flush=True)
                    if options.keep is not None:
                        options.keep.mkdir(exist_ok=True)
                        shutil.copy(file, options.keep)
            file.unlink()
    print(f"{options.count} models: {dict(kinds)}; exit codes {dict(codes)}; slowest {slowest:.1f} s under strace")
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
