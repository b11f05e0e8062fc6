"""Shared by many tests: tiny images, a tiny model made without torch, and a temporary cache."""

import hashlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from belvedere.data.hashing import HashedSamples
from belvedere.evaluation.report.sinks import ContactSheet
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.runtime import memory
from belvedere.runtime.environment import CACHE_DIR_ENV
from belvedere.runtime.progress import Progress
from belvedere.types.data import ModelId, Sample
from belvedere.types.model import Layer, ModelCard, Preprocess, Provenance
from belvedere.types.prediction import Prediction
from command_line import belvedere

# In the background of a script, Ctrl-C is ignored from the start, and child processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "belvedere",
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("belvedere")


def pytest_runtest_setup() -> None:
    """Keep freed memory, as the command `train` does: a tenth of the time of trainings in tests.

    Each test sets it, since a command of an earlier one may have ended it.
    """
    if (library := memory._glibc()) is not None:
        library.mallopt(memory.M_MMAP_MAX, 0)
        library.mallopt(memory.M_TRIM_THRESHOLD, memory.KEEP_ALL)


@pytest.hookimpl(optionalhook=True)  # `make mutate` runs without pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: tests wait for servers, and for processes that they end."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the folders with the longest files first: else one process works alone at the end.

    pytest-xdist keeps this order with `--no-loadscope-reorder` only; by itself it runs files with many tests first.
    """
    items.sort(key=lambda item: item.path.parent.name not in ("training", "demo", "tests", "reviewing"))


COLORS: Mapping[str, tuple[int, int, int]] = {"blue": (20, 40, 220), "green": (20, 200, 40), "red": (230, 30, 10)}
CLASS_NAMES = tuple(COLORS)

MODEL = ModelId("run/model.onnx", "0123456789abcdef" * 4)
CARD = ModelCard(
    class_names=CLASS_NAMES,
    preprocess=Preprocess(8, 8),
    layers=(Layer("mean", "Mean color", (3,), 0, 0), Layer("head", "Linear", (3,), 12, 9)),
    provenance=Provenance(
        recipe="article",
        network="mean-color",
        seed=7,
        epochs=3,
        best_epoch=2,
        device="cpu",
        precision="float32",
        num_images={"train": 1234, "validation": 56, "test": 78},
        data_sha256="9f86d081",
        interrupted=False,
        training_seconds=12.5,
        created="2026-03-01T10:11:12+00:00",
        versions={"torch": "2.13.0"},
        onnx_max_relative_error=2.4e-7,
    ),
)


def new_id() -> str:
    """Return a unique id of a decision, as the review page does."""
    return secrets.token_hex(12)


def make_pixels(name: str, variant: int = 0, side: int = 8) -> NDArray[np.uint8]:
    """Return pixels (side, side, 3) of a color; all variants below a million differ."""
    pixels = np.full((side, side, 3), COLORS[name], dtype=np.uint8)
    pixels[0, 0] = variant % 256, variant // 256 % 256, variant // 65_536 % 256
    return pixels


def write_image(path: Path, name: str, variant: int = 0, side: int = 8) -> Path:
    """Write such an image as PNG, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_pixels(name, variant, side)).save(path, "PNG")
    return path


def write_classes(folder: Path, each: int, names: Sequence[str] = CLASS_NAMES) -> Path:
    """Write a number of different images of each color into class folders."""
    for name in names:
        for number in range(each):
            write_image(folder / name / f"{number}.png", name, number)
    return folder


def model_bytes(metadata: Mapping[str, str], *, renamed: Mapping[str, str] | None = None, side: int = 8) -> bytes:
    """Return a graph with the mean blue, green and red as logits; `renamed` changes names of inputs and outputs."""
    names = {name: name for name in ("images", "logits", "probabilities", "embedding")} | dict(renamed or {})
    nodes = [
        helper.make_node("Cast", [names["images"]], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], [names["embedding"]], axes=[1, 2], keepdims=0),
        helper.make_node("Gather", [names["embedding"], "order"], ["mean"], axis=1),
        helper.make_node("Div", ["mean", "scale"], [names["logits"]]),
        helper.make_node("Softmax", [names["logits"]], [names["probabilities"]], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean-color",
        [helper.make_tensor_value_info(names["images"], TensorProto.UINT8, ("N", side, side, 3))],
        [
            helper.make_tensor_value_info(names[name], TensorProto.FLOAT, ("N", 3))
            for name in ("logits", "probabilities", "embedding")
        ],
        [
            helper.make_tensor("order", TensorProto.INT64, (3,), [2, 1, 0]),
            helper.make_tensor("scale", TensorProto.FLOAT, (), [50.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_prediction(
    image: str, label: str | None, *probabilities: float, names: Sequence[str] = CLASS_NAMES
) -> Prediction:
    """Return a prediction with these probabilities; without any, that of an unreadable image."""
    if not probabilities:
        return Prediction(image, error="empty file", label=label, class_names=tuple(names))
    best = max(range(len(names)), key=lambda index: probabilities[index])
    return Prediction(image, names[best], probabilities[best], probabilities, label=label, class_names=tuple(names))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a temporary cache in every test and every process that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_DIR_ENV, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model.onnx for images of 8 x 8 pixels with the classes blue, green and red."""
    path = tmp_path_factory.mktemp("run") / "model.onnx"
    path.write_bytes(model_bytes(card_to_metadata(CARD)))
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model with class activation maps, alone in a folder."""
    from serve_process import activation_map_model  # which imports this module

    file = tmp_path_factory.mktemp("served") / "model.onnx"
    file.write_bytes(activation_map_model())
    return file


@pytest.fixture(scope="session")
def opened(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on images in `images` with the command line, into `run`, and return the folder of both."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 4)):
        for name, level in (("dark", 40), ("light", 200)):
            (folder / "images" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(level + random.integers(-30, 30, (20, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / part / name / f"{index}.jpg")
    (folder / "bad.onnx").write_bytes(b"no graph")
    (folder / "bad.toml").write_text("[recipe]\nepoch = 3\n")
    done = belvedere("train", "images", "--recipe", "quick", "--epochs", 3, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "epoch 3/3" in done.stderr
    assert "Report: run/report.html" in done.stderr
    return folder


@pytest.fixture
def named_model(tmp_path: Path) -> Callable[[Sequence[str]], Model]:
    """Return a function that opens the tiny model with three other class names."""

    def make(names: Sequence[str]) -> Model:
        path = tmp_path / "named.onnx"
        path.write_bytes(model_bytes(card_to_metadata(replace(CARD, class_names=tuple(names)))))
        return load_model(path)

    return make


def sheets(path: Path | None, *, overwrite: bool = False, progress: Progress | None = None) -> list[ContactSheet]:
    """Return the sinks for `predict_files`: a contact sheet, if it has a path."""
    return [] if path is None else [ContactSheet(path, overwrite=overwrite, progress=progress)]


def contents_of(paths: list[Path]) -> HashedSamples:
    samples = tuple(Sample(path, path.name, "red", "train") for path in paths)
    return HashedSamples(samples, tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths), ())
