"""Run folder of a training: created or resumed, with config.toml, weights and model.onnx."""

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import HashedSamples, fingerprint, minhash
from belvedere.data.splits import DataSplit
from belvedere.errors import UsageError
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.environment import list_versions
from belvedere.runtime.files import write_bytes, write_text
from belvedere.runtime.output_folder import atomic_folder, partial_path
from belvedere.runtime.terminal import describe_error
from belvedere.training.custom_augment import Augment, name_of_augment
from belvedere.training.device import Runtime
from belvedere.training.distillation import weights_path
from belvedere.training.distributed import Distributed
from belvedere.training.fit_uncertainty import FittedUncertainty
from belvedere.training.networks import list_layers
from belvedere.training.onnx_export import export_graph, write_model
from belvedere.training.recipe_config import to_toml
from belvedere.training.recipes import Recipe
from belvedere.training.results import TrainingOutput
from belvedere.training.start_from import StartRun, write_splits
from belvedere.training.training_data import NO_IMAGES
from belvedere.types.model import ModelCard, Provenance

CHECKPOINT = "checkpoint.safetensors"
# Names in config.toml that may differ when a run is resumed: the content has a hash.
MAY_DIFFER = ("data", "root", "layout", "corrections", "start_from")
PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "pillow", "simplejpeg")


@dataclass(frozen=True)
class RunConfig:
    """Inputs of a run."""

    recipe: Recipe
    seed: int
    dataset: Dataset
    split: DataSplit
    unlabeled: HashedSamples = NO_IMAGES
    max_minutes: float | None = None
    augment: Augment | None = None  # the user's
    start: StartRun | None = None
    num_folds: int | None = None
    group_by: str | None = None


@contextmanager
def open_run_folder(
    out: Path, overwrite: bool, resume: bool, distributed: Distributed, inputs: Iterable[Path | str]
) -> Iterator[Path]:
    """Yield the unfinished run folder, which the main process creates and then renames to `out`."""
    with ExitStack() as stack:
        with distributed.main_process_first():
            folder = partial_path(Path(os.path.realpath(out)))  # `atomic_folder` reports a loop of links
            if distributed.is_main:
                folder = stack.enter_context(
                    atomic_folder(out, overwrite=overwrite, keep_if=CHECKPOINT, resume=resume, inputs=inputs)
                )
        yield folder
        if distributed.is_main:
            (folder / CHECKPOINT).unlink(missing_ok=True)  # a linear probe has none
    distributed.barrier()


def write_config(folder: Path, config: RunConfig, runtime: Runtime) -> str:
    """Write config.toml and return its text.

    Raises:
        UsageError: The folder holds an interrupted run with other values.
    """
    dataset = config.dataset
    values: dict[str, dict[str, object]] = {
        "run": {
            "data": dataset.source,
            **({} if dataset.root is None else {"root": dataset.root}),
            **({} if dataset.layout == "auto" else {"layout": dataset.layout}),
            **({} if dataset.corrections is None else {"corrections": dataset.corrections}),
            "data_sha256": config.split.sha256,
            **({"unlabeled_sha256": fingerprint(config.unlabeled)} if config.recipe.unlabeled else {}),
            "class_names": list(dataset.class_names),
            "seed": config.seed,
            "device": runtime.device.torch_device.type,
            "precision": runtime.device.precision_name,
            "world_size": runtime.distributed.world_size,
            **({} if config.max_minutes is None else {"max_minutes": config.max_minutes}),
            **({} if config.augment is None else {"augment": name_of_augment(config.augment)}),
            **({} if config.num_folds is None else {"folds": config.num_folds}),
            **({} if config.group_by is None else {"group_by": config.group_by}),
            **_describe_start(config.start),
            **_hash_files(config.recipe),
        }
    }
    text, file = f"{tomli_w.dumps(values)}\n{to_toml(config.recipe)}", folder / "config.toml"
    text = text.encode(errors="replace").decode()  # TOML has no escape for the bytes of a path that are not UTF-8
    if (folder / CHECKPOINT).exists():
        try:
            before = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = describe_error(error)
            raise UsageError(f"Cannot resume {folder}: {file}: {reason}. Set `overwrite` to start over.") from error
        _check_same(before, tomllib.loads(text), folder)
    if runtime.distributed.is_main:
        write_text(file, text)
    return text


def _describe_start(start: StartRun | None) -> dict[str, object]:
    return {} if start is None else {"start_from": str(start.folder), "start_from_sha256": start.sha256}


def _hash_files(recipe: Recipe) -> dict[str, object]:
    """Return hashes of the files of a recipe, whose content may change before a run is resumed."""
    files = {"teacher": weights_path(recipe.teacher) if recipe.teacher else None, "weights": recipe.weights or None}
    hashes: dict[str, object] = {}
    for name, file in files.items():
        with suppress(OSError):  # reported when the file is opened
            hashes |= {f"{name}_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()} if file else {}
    return hashes


def _check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    for table in now:
        earlier = before.get(table, {})
        for name in sorted(earlier.keys() | now[table].keys()):
            old, new = earlier.get(name), now[table].get(name)
            if old != new and name not in MAY_DIFFER:
                raise UsageError(
                    f"Cannot resume {folder}: it was started with {name} = {old!r}, not {new!r}. Give the same "
                    "arguments, or set `overwrite` to start over."
                )


def write_trained(
    folder: Path, trained: TrainingOutput, uncertainty: FittedUncertainty, config: RunConfig, runtime: Runtime
) -> ModelCard:
    """Write weights.safetensors, splits.csv and model.onnx.

    Raises:
        TrainingError: The outputs of model.onnx differ from those of the network.
    """
    result, preprocess = trained.fit, trained.preprocess
    # Written again: Ctrl-C may have come between the last epoch and its checkpoint.
    write_bytes(folder / "weights.safetensors", safetensors.torch.save(result.weights))
    write_splits(folder, config.split)
    with runtime.progress.stage("export"):
        exported = export_graph(
            trained.network,
            preprocess,
            trained.sample_images,
            uncertainty.uncertainty.temperature,
            uncertainty.ood_scorer,
        )
        runtime.progress.log(
            f"Exported to ONNX: outputs differ from the network's by at most {exported.max_relative_error:.1e}."
        )
        provenance = Provenance(
            recipe=config.recipe.name,
            network=config.recipe.network,
            seed=config.seed,
            epochs=len(result.history),
            best_epoch=result.best_epoch,
            device=runtime.device.description,
            precision=runtime.device.precision_name,
            num_images=trained.num_images,
            data_sha256=config.split.sha256,
            interrupted=result.interrupted,
            training_seconds=sum(row.seconds for row in result.history),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=list_versions(*PACKAGES),
            onnx_max_relative_error=exported.max_relative_error,
            pretrained_from=trained.pretrained_from,
            data_minhash=minhash(config.split.train.hashes + config.split.validation.hashes),
        )
        layers = list_layers(trained.network, preprocess)
        card = ModelCard(config.dataset.class_names, preprocess, layers, provenance, uncertainty.uncertainty)
        write_model(exported, card, folder / MODEL_NAME)
    return card
