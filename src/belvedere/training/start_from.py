"""Start of a training from an earlier run: its weights, its classes, and the images that it held out."""

import csv
import hashlib
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from belvedere.data.hashing import HashedSamples
from belvedere.data.splits import DataSplit
from belvedere.errors import BelvedereError, UsageError
from belvedere.inference.model import load_model
from belvedere.inference.model_paths import MAX_FILE_BYTES, MODEL_NAME
from belvedere.runtime.hub import download, is_hub_address, parse_address, snapshot_address
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.serialization import write_csv
from belvedere.runtime.terminal import count
from belvedere.training.distillation import BACKBONE, read_run
from belvedere.training.networks import Network
from belvedere.training.pretrained_weights import Weights
from belvedere.training.recipes import Recipe
from belvedere.types.data import DataWarning

SPLITS = "splits.csv"
COLUMNS = ("sha256", "split")
HEAD = ("classify.weight", "classify.bias")


@dataclass(frozen=True)
class StartRun:
    """The run that a training starts from."""

    folder: Path
    recipe: Recipe
    class_names: tuple[str, ...]
    tensors: dict[str, Tensor]  # weights of the whole network
    sha256: str  # of weights.safetensors
    split_of: Mapping[str, str]  # "train", "val" or "test" by SHA-256 of the image; empty if unknown
    pretrained_from: Mapping[str, str] = field(default_factory=dict)  # of its model card
    group_by: str | None = None  # groups of its images

    @property
    def name(self) -> str:
        """Folder name or address, and hash, for the model card, which must not contain paths of this machine."""
        return f"{snapshot_address(self.folder) or self.folder.resolve().name}, SHA-256 {self.sha256}"

    @property
    def origin(self) -> dict[str, str]:
        """The run and the pretrained weights that it started from, for the model card."""
        known = {
            key: self.pretrained_from[key] for key in ("weights", "sha256", "license") if key in self.pretrained_from
        }
        return {**known, "run": self.name}

    def backbone(self) -> Weights:
        """Return the weights of a pretrained backbone.

        The hash is that of the tensors, so that embeddings are cached once for all runs with this backbone. The model
        card names the hash of a file, but anyone may have written it.

        Raises:
            UsageError: The run is not of a pretrained network.
        """
        tensors = {key.removeprefix(BACKBONE): each for key, each in self.tensors.items() if key.startswith(BACKBONE)}
        if not tensors:
            raise UsageError(
                f"The run {self.folder} has no pretrained backbone: its network is {self.recipe.network!r}. "
                "Leave `recipe` and `network` out, to continue with those of the run."
            )
        return Weights(tensors, str(self.folder), hashlib.sha256(safetensors.torch.save(tensors)).hexdigest())


def start_folder(run: Path | str, *, offline: bool = False) -> Path:
    """Return the folder of a run to start from; a run on the Hugging Face Hub is downloaded, unless `offline` is set.

    Raises:
        HubError: It cannot be downloaded.
    """
    if not is_hub_address(run):
        return Path(run)
    files, optional = ("config.toml", "weights.safetensors"), (MODEL_NAME,)
    limit = MAX_FILE_BYTES  # the weights, too, are those of a model.onnx
    return download(
        parse_address(run), files, choose_progress(None), max_bytes=limit, optional=optional, offline=offline
    )


def read_start(run: Path | str, *, offline: bool = False) -> StartRun:
    """Read a run to start from.

    Args:
        run: Run folder, a model.onnx or weights.safetensors in one, or an address on the Hugging Face Hub.
        offline: Whether nothing may be downloaded.

    Raises:
        HubError: It cannot be downloaded.
        UsageError: It is no run folder, or its weights cannot be read.
    """
    path = start_folder(run, offline=offline)
    folder = path.parent if path.suffix in (".onnx", ".safetensors") else path
    if folder.is_dir() and (folder / MODEL_NAME).exists() and not (folder / "weights.safetensors").exists():
        raise UsageError(
            f"Cannot train from {run}: there is no weights.safetensors beside it, and an ONNX file alone cannot be "
            "trained. Give the folder that `train` wrote."
        )
    recipe, class_names, content = read_run(folder, "run")
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise UsageError(f"The weights of the run {folder} cannot be read: {error}. Choose another run.") from error
    origin: Mapping[str, str] = {}
    with suppress(BelvedereError):  # the weights suffice
        origin = load_model(folder).card.provenance.pretrained_from
    _check_head(tensors, len(class_names), folder)
    sha256 = hashlib.sha256(content).hexdigest()
    config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    group_by = config["run"].get("group_by")
    if not isinstance(group_by, str | None):
        raise UsageError(
            f"The run {folder} has an invalid `group_by` in config.toml: {group_by!r}. Choose another run."
        )
    return StartRun(folder, recipe, class_names, tensors, sha256, _read_splits(folder / SPLITS), origin, group_by)


def _check_head(tensors: Mapping[str, Tensor], num_classes: int, folder: Path) -> None:
    rows = [len(tensors[key]) if tensors[key].ndim else 0 for key in HEAD if key in tensors]
    if any(each != num_classes for each in rows):
        raise UsageError(
            f"The weights of the run {folder} do not fit its {num_classes} classes: its head has "
            f"{' and '.join(map(str, rows))} rows. Choose another run."
        )


def recipe_of(start: StartRun) -> Recipe:
    """Return the recipe of a run, without the files that were needed to start it."""
    return replace(start.recipe, weights="", weights_sha256="", teacher="", unlabeled="")


def check_start(start: StartRun | None, recipe: Recipe) -> None:
    """Check recipe keys that need a run to start from, or exclude one.

    Raises:
        UsageError: `weights` is set beside the run, or blocks without trained weights are frozen.
    """
    if start is not None and recipe.weights:
        raise UsageError(f"`start_from` and `weights` exclude each other. Received: {recipe.weights!r}. Leave one out.")
    if start is None and recipe.freeze and not recipe.pretrained:
        raise UsageError(
            f"`freeze` is for trained weights: {recipe.network!r} starts from random ones. Set `start_from`, or take "
            "the recipe 'finetune'."
        )


def write_splits(folder: Path, split: DataSplit) -> None:
    """Write splits.csv: the hash and the split of each image of a run."""
    splits = {"train": split.train, "val": split.validation, "test": split.hashed_test}
    write_csv(folder / SPLITS, COLUMNS, [(key, name) for name, hashed in splits.items() for key in hashed.hashes])


def _read_splits(file: Path) -> dict[str, str]:
    """Read splits.csv; a run without one gives no splits, which `leak_warnings` reports."""
    try:
        with file.open(newline="", encoding="utf-8") as rows:
            return {row["sha256"]: row["split"] for row in csv.DictReader(rows)}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def leak_warnings(split: DataSplit, start: StartRun) -> tuple[DataWarning, ...]:
    """Return warnings about held-out images that the run was trained on, or may have been."""
    if not start.split_of:
        return (
            DataWarning(
                f"The run {start.folder} has no {SPLITS}: images that it was trained on may be held out now, and "
                "metrics be optimistic"
            ),
        )
    held_out: dict[str, HashedSamples] = {"test": split.hashed_test, "validation": split.validation}
    found = {
        title: tuple(
            sample.name
            for sample, key in zip(hashed.samples, hashed.hashes, strict=True)
            if start.split_of.get(key) == "train"
        )
        for title, hashed in held_out.items()
    }
    return tuple(
        DataWarning(
            f"{count(len(names), f'{title} image')} that the run {start.folder} was trained on: {title} metrics are "
            "optimistic",
            names,
        )
        for title, names in found.items()
        if names
    )


def take_weights(network: Network, start: StartRun, class_names: tuple[str, ...], progress: Progress) -> None:
    """Copy the weights of a run whose names and shapes fit, and the rows of the head of the classes it has in common.

    Tensors that do not fit keep their initial weights. One line of the log counts those that were taken.

    Raises:
        UsageError: No weights of the backbone fit.
    """
    own = network.state_dict()
    fitting = {
        key: each
        for key, each in start.tensors.items()
        if key in own and key not in HEAD and own[key].shape == each.shape
    }
    expected = [key for key in own if key not in HEAD]
    if expected and not any(key.endswith(".weight") for key in fitting):
        raise UsageError(
            f"The weights of the run {start.folder}, of the network {start.recipe.network!r}, do not fit the network "
            "of this recipe. Leave `recipe` and `network` out, to continue with those of the run."
        )
    network.load_state_dict(fitting, strict=False)
    common = [name for name in class_names if name in start.class_names]
    has_head = _grow_head(network, start, class_names)
    new = [name for name in class_names if name not in common]
    dropped = [name for name in start.class_names if name not in common]
    num_taken = len(fitting) + (len(HEAD) if has_head and common else 0)
    others = [key for key in expected if key not in fitting]
    missing = f"; initialized: {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}" if others else ""
    head = "" if has_head else " The head has another width, and is initialized."
    progress.log(
        f"Started from the run {start.folder}: {num_taken} of {len(own)} tensors taken{missing}. "
        f"Classes: {len(common)} kept, {_names(new, 'new')}, {_names(dropped, 'dropped')}.{head}"
    )


def _grow_head(network: Network, start: StartRun, class_names: tuple[str, ...]) -> bool:
    """Copy the rows of the classes that the run has; return whether the embeddings have the same width."""
    weight, bias = (start.tensors.get(key) for key in HEAD)
    layer = network.classify
    if weight is None or bias is None or weight.shape[1:] != layer.weight.shape[1:]:
        return False
    with torch.no_grad():
        for row, name in enumerate(class_names):
            if name in start.class_names:
                index = start.class_names.index(name)
                layer.weight[row].copy_(weight[index])
                layer.bias[row].copy_(bias[index])
    return True


def _names(names: list[str], word: str) -> str:
    shown = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
    return f"{len(names)} {word}{shown}"
