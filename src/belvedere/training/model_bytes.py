"""Trains a model of labeled images without a run folder: no test images, no report."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import HashedSamples, fingerprint, hash_samples
from belvedere.data.splits import DataSplit, stratified_group_split
from belvedere.errors import DatasetError
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.progress import Progress
from belvedere.training.custom_augment import Augment
from belvedere.training.device import Runtime, choose_device
from belvedere.training.distillation import find_unlabeled
from belvedere.training.distributed import init_distributed
from belvedere.training.fit_uncertainty import fit_on_held_out
from belvedere.training.input_size import adapt_size_schedule, choose_image_size
from belvedere.training.network_check import prepare_network
from belvedere.training.own_network import accepts_networks
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import Recipe
from belvedere.training.run_folder import RunConfig, write_trained
from belvedere.training.train import check_recipe, run_stages
from belvedere.training.training_data import NO_IMAGES
from belvedere.types.data import DataWarning

MIN_IMAGES = {True: 2, False: 4}  # of each class, by whether only a linear probe is fitted


@accepts_networks
def train_bytes(
    dataset: Dataset,
    *,
    recipe: Recipe | str,
    seed: int,
    device: str = "auto",
    offline: bool = False,
    augment: Augment | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> tuple[bytes, tuple[DataWarning, ...]]:
    """Train a model on all images of a dataset, some of them for validation.

    Args:
        dataset: Labeled images; splits are ignored.
        recipe: Name of a recipe, or a recipe.
        seed: As for `train`.
        device: As for `train`.
        offline: As for `train`.
        augment: As for `train`.
        progress: As for `train`.
        **changes: Recipe keys, as for `train`.

    Returns:
        The content of the model file, and warnings, such as the images that cannot be read.

    Raises:
        BelvedereError: As `train`; or a class has too few images.
    """
    chosen = choose_recipe(recipe, None, **changes)
    check_recipe(chosen, seed, augment)
    runtime = Runtime(choose_device(device), init_distributed(device), progress or Progress())
    chosen = adapt_size_schedule(chosen, runtime.progress)
    chosen = prepare_network(chosen, len(dataset.class_names), seed, runtime.progress)
    hashed = hash_samples(dataset.samples, runtime.progress)
    _check_sizes(hashed, dataset.class_names, chosen)
    rest, validation = hashed, NO_IMAGES
    if not chosen.linear_probe_only:
        rest, validation = stratified_group_split(hashed, chosen.validation_fraction, seed)
    if not (validation.samples or chosen.linear_probe_only):
        raise DatasetError(
            "No images are held out for validation. Set validation_fraction over 0, or give more images."
        )
    split = DataSplit(rest, validation, (), NO_IMAGES, _unreadable(hashed), fingerprint(hashed))
    chosen = choose_image_size(chosen, split, runtime, None)
    run = RunConfig(chosen, seed, dataset, split, find_unlabeled(chosen, split, runtime.progress), augment=augment)
    with TemporaryDirectory(prefix="belvedere-") as folder:
        trained = run_stages(Path(folder), run, runtime, None, offline)
        uncertainty = fit_on_held_out(trained.held_out, runtime.progress)
        write_trained(Path(folder), trained, uncertainty, run, runtime)
        return (Path(folder) / MODEL_NAME).read_bytes(), trained.warnings


def _check_sizes(hashed: HashedSamples, class_names: tuple[str, ...], recipe: Recipe) -> None:
    needed = MIN_IMAGES[recipe.linear_probe_only]
    counts = dict.fromkeys(class_names, 0)
    for sample in hashed.samples:
        counts[sample.label] += 1
    for name, count in counts.items():
        if count < needed:
            raise DatasetError(
                f"Too few images of the class {name!r}: {count}. The recipe {recipe.name!r} needs at least {needed} of "
                "each class."
            )


def _unreadable(hashed: HashedSamples) -> tuple[DataWarning, ...]:
    names = tuple(f"{sample.name}: {reason}" for sample, reason in hashed.unreadable)
    return (DataWarning(f"{len(names)} left out: cannot be opened", names),) if names else ()
