"""What a path means: a model, weights, a run whose training was cut off, or something else.

Knows names and folders; does not open a model. Where a path that was meant to be a model is none, the reason says what
it is and what to do, so that no other model answers in its place.
"""

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TypeVar

from belvedere.errors import UsageError
from belvedere.images.decode import PICTURE_SUFFIXES
from belvedere.runtime.output_folder import MARK

MODEL_NAME = "model.onnx"
BUNDLED = Path(__file__).with_name("assets") / "scenes.onnx"  # predicts where no model is named
WEIGHTS_SUFFIXES = frozenset(
    (
        *(".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npz", ".gguf"),  # weights
        *(".h5", ".hdf5", ".keras", ".pb", ".tflite", ".ort", ".mlmodel"),  # models of other programs
    )
)
TRAINING_FILES = (
    "train.log",
    "history.csv",
    "checkpoint.safetensors",
    "weights.safetensors",
    "config.toml",
)  # without a model
RESULT_FILES = ("metrics.json", "audit.json", "comparison.json")  # of folders that Belvedere made
ONNX_STARTS = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42\x72")  # second field of an ONNX file, after its version
WHAT_TO_GIVE = "Give a model.onnx that Belvedere wrote, or its folder."
MAX_NAMES = 2000  # of a folder, among which the nearest is looked for

Given = TypeVar("Given")


def is_model_path(path: Path) -> bool:
    """Return whether a path, given among images and folders of them, means a model."""
    try:
        if path.is_dir():
            return (path / MODEL_NAME).is_file()
        return path.suffix.lower() == ".onnx" or _begins_as_onnx(path)
    except OSError:
        return False  # such as a name that is too long


def find_model(path: Path | str) -> Path:
    """Return the model file that a path means: itself, or the one in a run folder."""
    return Path(path) / MODEL_NAME if Path(path).is_dir() else Path(path)


def name_model(file: Path | str) -> str:
    """Name a model file in outputs: with its folder, but without the path to that."""
    name, place = Path(file).name, Path(file).resolve()
    return f"{name} (bundled model)" if place == BUNDLED.resolve() else f"{place.parent.name}/{name}"


def explain_no_model(path: Path | str) -> str:
    """Return why a path is no model and what to do, where its name or its folder tells; else nothing."""
    path = Path(path)
    if missing := explain_missing(path):
        return f"{missing} {WHAT_TO_GIVE}"
    if path.is_dir():
        return "" if is_model_path(path) else _explain_folder(path)
    return _explain_weights(path) if path.suffix.lower() in WEIGHTS_SUFFIXES else ""


def explain_missing(path: Path) -> str:
    """Return that a path can't be found, and what may have been meant; nothing where it is there."""
    try:
        path.stat()
    except FileNotFoundError:
        partial = path.with_name(f"{path.name}.partial")
        if partial.is_dir():
            return f"There is no {path}, but {partial}. {_explain_folder(partial)}"
        nearest = find_nearest(path)
        return f"There is no file or folder {path}." + (f" Did you mean {nearest}?" if nearest else "")
    except (OSError, ValueError) as error:
        return f"{path} can't be opened: {getattr(error, 'strerror', None) or error}."
    return ""


def find_nearest(path: Path) -> Path | None:
    """Return the existing path that is nearest in name; None where there is none like it."""
    while path.parent != path and not os.path.lexists(path.parent):
        path = path.parent
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MAX_NAMES) if entry.name != path.name]
    except (OSError, ValueError):
        return None
    return next((path.with_name(name) for name in get_close_matches(path.name, names, n=1)), None)


def refuse_models(sources: Iterable[Given]) -> Iterator[Given]:
    """Pass on sources of images.

    Raises:
        UsageError: One of them is a model, or was meant to be one: weights, or a run folder without a model.
    """
    for source in sources:
        path = Path(source) if isinstance(source, Path | str) else None
        if path is not None and path.suffix.lower() not in PICTURE_SUFFIXES:
            if is_model_path(path):
                raise UsageError(f"{path} is a model, but stands among the images. Give one model, and before them.")
            if os.path.exists(path) and (reason := explain_no_model(path)):  # noqa: PTH110 - takes any name
                raise UsageError(reason)
        yield source


def _begins_as_onnx(path: Path) -> bool:
    """Whether a regular file begins with an ONNX version and what may follow it."""
    if path.suffix.lower() in PICTURE_SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(3)
    return len(start) == 3 and start[0] == 0x08 and start[1] < 0x20 and start[2] in ONNX_STARTS


def _explain_folder(path: Path) -> str:
    def holds(*names: str) -> bool:
        return any((path / name).is_file() for name in names)

    if holds(MARK) and holds(*RESULT_FILES):
        return f"{path} holds results without a {MODEL_NAME}. Give the run folder of the model."
    if holds(*TRAINING_FILES):
        return (
            f"{path} is a run folder without {MODEL_NAME}: its training was cut off, or still runs. Go on with the "
            "same belvedere train command and --resume, or give another model."
        )
    return ""


def _explain_weights(path: Path) -> str:
    beside = path.with_name(MODEL_NAME)
    instead = str(beside) if beside.is_file() else f"the {MODEL_NAME} that belvedere train wrote, or its folder"
    return f"{path} holds weights, or another program's model, and no model of Belvedere's. Give {instead}."
