"""Cross-validation: networks trained on some folds predict the others, to judge labels by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import HashedSamples
from belvedere.data.splits import DataSplit
from belvedere.errors import DatasetError
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.files import write_bytes
from belvedere.runtime.progress import Progress
from belvedere.training.device import Runtime, choose_device
from belvedere.training.distributed import init_distributed
from belvedere.training.embedders import NetworkEmbedder, embedding_key
from belvedere.training.fit_uncertainty import FittedUncertainty
from belvedere.training.held_out import select_train_rows
from belvedere.training.input_size import fit_size_to_images
from belvedere.training.networks import architecture_for, find_backbone
from belvedere.training.recipes import RECIPES
from belvedere.training.results import TrainingOutput, collect_output
from belvedere.training.run_folder import RunConfig, write_trained
from belvedere.training.trainer import FitPlan, build_network, fit
from belvedere.training.training_data import NO_IMAGES, load_training_data
from belvedere.training.transfer import load_weights, open_backbone
from belvedere.types.data import Sample
from belvedere.types.model import Uncertainty

RECIPE = "quick"
MIN_STEPS = 60  # of a network; few images need no more steps than there are images
CHANGED = "Images were changed or removed during the audit. Start again."


@dataclass(frozen=True)
class Fold:
    """Embeddings of the network of one fold."""

    held_out_embeddings: NDArray[np.float32]  # (n, D), of the images of the fold
    train_embeddings: NDArray[np.float32]  # (m, D), of some images that it was trained on
    rows: NDArray[np.intp]  # (m,) indices of these


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold predictions for N images."""

    logits: NDArray[np.float32]  # (N, K)
    folds: tuple[Fold, ...]


def cross_val_predict(
    dataset: Dataset,
    contents: HashedSamples,
    folds: NDArray[np.intp],
    seed: int,
    progress: Progress,
    model_path: Path | None = None,
) -> CrossValidation:
    """Train a quick network for each fold, (N,), of N readable images on the images of the other folds.

    Every class of the dataset is in two folds at least. The first network is also written to `model_path`, as a model.

    Raises:
        DatasetError: A file was changed in the meantime.
        KeyboardInterrupt: A training was interrupted; it would judge labels badly.
        TrainingError: A class has no readable image.
    """
    runtime = Runtime(choose_device("auto"), init_distributed("auto"), progress)
    recipe = RECIPES[RECIPE]
    recipe = replace(recipe, flip_tta=True, min_steps=min(recipe.min_steps, max(MIN_STEPS, len(folds))))
    labels = np.array([dataset.class_names.index(sample.label) for sample in contents.samples], np.int64)
    logits = np.empty((len(folds), len(dataset.class_names)), np.float32)
    results = []
    num_folds = int(folds.max()) + 1
    for fold in range(num_folds):
        held_out, others = (contents.select(np.flatnonzero(mask).tolist()) for mask in (folds == fold, folds != fold))
        progress.log(f"Training network {fold + 1} of {num_folds}")
        run = RunConfig(recipe, seed + fold, dataset, DataSplit(others, held_out, (), NO_IMAGES, (), ""))
        trained = _train(run, runtime)
        if model_path is not None and fold == 0 and runtime.distributed.is_main:
            with TemporaryDirectory(prefix="belvedere-") as folder:
                write_trained(Path(folder), trained, FittedUncertainty(Uncertainty(), None), run, runtime)
                write_bytes(model_path, (Path(folder) / MODEL_NAME).read_bytes())
        if (trained.num_images["train"], len(trained.held_out.labels)) != (len(others.samples), len(held_out.samples)):
            raise DatasetError(CHANGED)
        logits[folds == fold] = trained.held_out.logits
        rows = np.flatnonzero(folds != fold)[select_train_rows(labels[folds != fold])]
        results.append(Fold(trained.held_out.embeddings, trained.held_out.train_embeddings, rows))
    return CrossValidation(logits, tuple(results))


def _train(run: RunConfig, runtime: Runtime) -> TrainingOutput:
    data = load_training_data(run.split, run.recipe, run.dataset.class_names, runtime)
    network = build_network(run.recipe, data, run.seed, runtime)
    result = fit(network, data, FitPlan(run.recipe, run.seed, runtime))
    if result.interrupted:
        raise KeyboardInterrupt
    return collect_output(network, data, result, runtime)


def open_pretrained(
    network: str | None, weights: str, progress: Progress, samples: Sequence[Sample] = ()
) -> NetworkEmbedder:
    """Open a pretrained timm network, by default that of the recipe `probe`, as an embedder.

    Without a file of its weights, they are downloaded. With samples, the image size is that of a probe on them.

    Raises:
        UnknownNameError: There is no such network.
        WeightsError: The weights cannot be loaded, or are of another architecture.
    """
    device = choose_device("auto")
    name = find_backbone(network or RECIPES["probe"].network).name
    recipe = fit_size_to_images(replace(RECIPES["probe"], network=name, weights=weights), samples)
    spec = architecture_for(recipe)
    loaded = load_weights(recipe, progress, offline=False)
    backbone = open_backbone(spec, loaded, 2, recipe, progress).to(device.torch_device)
    return NetworkEmbedder(backbone, device, spec.preprocess, f"{embedding_key(recipe, loaded)}-{device.key}")
