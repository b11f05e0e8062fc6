"""The folder of a model for the Hugging Face Hub: Belvedere's model, and what transformers.js and Optimum read."""

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from belvedere.errors import UsageError
from belvedere.inference.model import Model
from belvedere.inference.model_paths import MODEL_NAME, model_file
from belvedere.runtime.dependencies import require
from belvedere.runtime.files import write_bytes, write_text
from belvedere.runtime.serialization import write_json
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import ModelCard, Preprocess

CARD_NAME = "README.md"
CARD_REPOSITORY = "USER/NAME"  # in the examples of the card, until the model is pushed
WEIGHTS_NAME, CONFIG_NAME, METRICS_NAME = "weights.safetensors", "config.toml", "metrics.json"
LIBRARY_FILES = ("config.json", "preprocessor_config.json")  # of transformers.js and Optimum
FIGURES = {  # of a run's report, those without images of the user
    "confusion-percent.png": "Confusion matrix",
    "calibration.png": "Calibration",
    "history.png": "Training",
}
FILES = (CARD_NAME, MODEL_NAME, f"onnx/{MODEL_NAME}", *LIBRARY_FILES, WEIGHTS_NAME, CONFIG_NAME, *FIGURES)  # all
LOCAL_KEYS = ("weights", "weights_sha256", "teacher", "unlabeled")  # of a recipe: files of the machine
RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def check_license(license_id: str | None) -> None:
    """Check that a license, if given, is an identifier.

    Raises:
        UsageError: It is not.
        MissingDependencyError: huggingface_hub is not installed.
    """
    require("hub", "Exporting for the Hugging Face Hub")
    if license_id is not None and not LICENSE.fullmatch(license_id):
        raise UsageError(
            f"`license` must be an identifier of the Hugging Face Hub, such as apache-2.0. Received: {license_id!r}."
        )


def write_hub_folder(folder: Path, title: str, model: Model, graph: bytes, license_id: str | None) -> None:
    """Write all files of a model into a folder.

    Args:
        folder: An empty folder.
        title: Name of the model.
        model: The model; if its file is in a run folder, weights, metrics and figures are taken from there.
        graph: The file for other libraries, from `pixel_values` to `logits`.
        license_id: Identifier of its license. Default: that of the pretrained weights, if known.
    """
    from belvedere.inference.hub_card import card_text

    source = model_file(model.name)
    (folder / "onnx").mkdir()
    write_bytes(folder / MODEL_NAME, model.content)
    write_bytes(folder / "onnx" / MODEL_NAME, graph)
    for name, content in zip(
        LIBRARY_FILES, (_config(model.card), _preprocessor_config(model.card.preprocess)), strict=True
    ):
        write_json(folder / name, content)
    with suppress(OSError):
        if source.read_bytes() == model.content:  # else the run is another one by now
            _copy_weights(source.parent, folder)
    metrics = _read_metrics(source.parent, model.sha256)
    figures = {} if metrics is None else _copy_figures(source.parent / "figures", folder)
    known = model.card.provenance.pretrained_from.get("license", "").lower()
    license_id = license_id or (known if LICENSE.fullmatch(known) else None)
    try:
        text = card_text(title, model.card, license_id, metrics, figures)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        if metrics is None:
            raise
        reason = f"{type(error).__name__}: {describe_error(error)}"
        raise UsageError(
            f"{source.parent / METRICS_NAME} is not that of a run: {reason}. Train again, or give a copy of the model "
            "file in another folder."
        ) from error
    write_text(folder / CARD_NAME, text)


def _config(card: ModelCard) -> dict[str, object]:
    """Return config.json; transformers.js chooses its classifier by the architecture, whose other fields it ignores."""
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "problem_type": "single_label_classification",
        "id2label": {str(index): name for index, name in enumerate(card.class_names)},
        "label2id": {name: index for index, name in enumerate(card.class_names)},
        "transformers.js_config": {"dtype": "fp32"},  # in browsers it would look for a quantized file
    }


def _preprocessor_config(preprocess: Preprocess) -> dict[str, object]:
    """Return preprocessor_config.json: pixels from 0 to 1 of the whole image, which the graph resizes."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": False,
        "size": {"height": preprocess.height, "width": preprocess.width},
        "resample": RESAMPLE[preprocess.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
    }


def _copy_weights(run: Path, folder: Path) -> None:
    """Copy weights and recipe of a run, which a training may start from, without paths of this machine."""
    import tomli_w

    try:
        weights = (run / WEIGHTS_NAME).read_bytes()
        config = tomllib.loads((run / CONFIG_NAME).read_text(encoding="utf-8"))
        recipe = {key: "" if key in LOCAL_KEYS else value for key, value in config["recipe"].items()}
        tables = {"run": {"class_names": config["run"]["class_names"]}, "recipe": recipe}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return  # a model without a run
    write_bytes(folder / WEIGHTS_NAME, weights)
    write_text(folder / CONFIG_NAME, tomli_w.dumps(tables))


def _read_metrics(run: Path, sha256: str) -> dict[str, Any] | None:
    """Return metrics.json of a run if it is of this model; a calibrated model, for one, has other metrics."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        metrics = json.loads((run / METRICS_NAME).read_text(encoding="utf-8"))
        if metrics["model"]["sha256"] == sha256:
            return dict(metrics)
    return None


def _copy_figures(source: Path, folder: Path) -> Mapping[str, str]:
    """Copy the figures of a report, and return their titles by file."""
    copied = {}
    for file, title in FIGURES.items():
        with suppress(OSError):
            write_bytes(folder / file, (source / file).read_bytes())
            copied[file] = title
    return copied
