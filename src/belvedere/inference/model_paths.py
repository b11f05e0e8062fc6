"""Paths of models: recognized, named, and explained when they are not models.

A path that was meant to be a model is refused with a reason, so that no other model predicts instead.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TypeVar

from belvedere.errors import UsageError
from belvedere.images.listing import IMAGE_SUFFIXES
from belvedere.runtime.hub import download, is_hub_address, parse_address, snapshot_address
from belvedere.runtime.output_folder import MARKER_FILE, partial_path
from belvedere.runtime.progress import choose_progress
from belvedere.runtime.terminal import describe_error

MODEL_NAME = "model.onnx"
BUNDLED = Path(__file__).with_name("assets") / "scenes.onnx"  # the default model
WEIGHTS_SUFFIXES = frozenset(
    (
        *(".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npz", ".gguf"),  # weights
        *(".h5", ".hdf5", ".keras", ".pb", ".tflite", ".ort", ".mlmodel"),  # models of other programs
    )
)
TRAINING_FILES = ("train.log", "history.csv", "checkpoint.safetensors", "weights.safetensors", "config.toml")
RESULT_FILES = ("metrics.json", "audit.json", "comparison.json")
ONNX_STARTS = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42\x72")  # second field of an ONNX file, after its version
HINT = "Give a model.onnx that Belvedere wrote, or its folder."
MAX_FILE_BYTES = (1 << 31) - 1  # of a model, as of protocol buffers
MAX_NAMES = 2000  # of a folder, among which the closest is looked for

Given = TypeVar("Given")


def is_model_path(path: Path) -> bool:
    """Return whether a path is a model file, a run folder with one, or an address on the Hugging Face Hub."""
    if is_hub_address(path):
        return True
    try:
        if path.is_dir():
            return (path / MODEL_NAME).is_file()
        return path.suffix.lower() == ".onnx" or _starts_like_onnx(path)
    except OSError:
        return False  # such as a name that is too long


def local_path(path: Path | str) -> Path:
    """Return the path of a model on this machine: a model on the Hugging Face Hub is downloaded, into its cache.

    Raises:
        HubError: The model cannot be downloaded.
        UsageError: The address is invalid.
        MissingDependencyError: huggingface_hub is not installed.
    """
    if not is_hub_address(path):
        return Path(path)
    folder = download(parse_address(path), [MODEL_NAME], choose_progress(None), max_bytes=MAX_FILE_BYTES)
    return folder / MODEL_NAME


def model_file(path: Path | str) -> Path:
    """Return the model file of a path: itself, or the one in a run folder."""
    return Path(path) / MODEL_NAME if Path(path).is_dir() else Path(path)


def read_model_file(file: Path) -> bytes:
    """Read a regular file of limited size: a pipe or device may be endless."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file.name} has {status.st_size:,} bytes, and a model at most {MAX_FILE_BYTES:,}")
    return file.read_bytes()


def name_model(file: Path | str) -> str:
    """Return the name of a model file with its folder, for outputs."""
    if address := snapshot_address(file):
        return address
    name, path = Path(file).name, Path(file).resolve()
    return f"{name} (bundled model)" if path == BUNDLED.resolve() else f"{path.parent.name}/{name}"


def explain_no_model(path: Path | str) -> str:
    """Return why a path is not a model and what to do, if its name or folder shows it; else an empty string."""
    path = Path(path)
    if missing := explain_missing(path):
        return f"{missing} {HINT}"
    if path.is_dir():
        return "" if is_model_path(path) else _explain_folder(path)
    return _explain_weights(path) if path.suffix.lower() in WEIGHTS_SUFFIXES else ""


def explain_missing(path: Path) -> str:
    """Return that a path does not exist, with the closest name; an empty string if it exists."""
    try:
        path.stat()
    except FileNotFoundError:
        partial = partial_path(path)
        if partial.is_dir():
            return f"There is no {path}, but {partial}. {_explain_folder(partial)}"
        closest = closest_path(path)
        return f"There is no file or folder {path}." + (f" Did you mean {closest}?" if closest else "")
    except (OSError, ValueError) as error:
        return f"{path} cannot be opened: {describe_error(error)}."
    return ""


def closest_path(path: Path) -> Path | None:
    """Return the existing path with the most similar name, if any."""
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
        UsageError: A source is a model, weights, or a run folder without a model.
    """
    for source in sources:
        path = Path(source) if isinstance(source, Path | str) else None
        if path is not None and path.suffix.lower() not in IMAGE_SUFFIXES:
            if is_model_path(path):
                raise UsageError(f"{path} is a model among the images. Give one model, before the images.")
            if os.path.exists(path) and (reason := explain_no_model(path)):  # noqa: PTH110 - takes any name
                raise UsageError(reason)
        yield source


def _starts_like_onnx(path: Path) -> bool:
    if path.suffix.lower() in IMAGE_SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(3)
    return len(start) == 3 and start[0] == 0x08 and start[1] < 0x20 and start[2] in ONNX_STARTS


def _explain_folder(path: Path) -> str:
    def holds(*names: str) -> bool:
        return any((path / name).is_file() for name in names)

    if holds(MARKER_FILE) and holds(*RESULT_FILES):
        return f"{path} holds results without a {MODEL_NAME}. Give the run folder of the model."
    if holds(*TRAINING_FILES):
        return (
            f"{path} is a run folder without {MODEL_NAME}: its training was interrupted, or is still running. Resume "
            "its training, or give another model."
        )
    return ""


def _explain_weights(path: Path) -> str:
    beside = path.with_name(MODEL_NAME)
    instead = str(beside) if beside.is_file() else f"the {MODEL_NAME} that training wrote, or its folder"
    return f"{path} holds weights or a model of another program, not a model of Belvedere. Give {instead}."
