"""The folder of a training: made, taken up again, and what is written there first."""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from belvedere.data.hashing import fingerprint
from belvedere.errors import UsageError
from belvedere.runtime.files import write_text
from belvedere.runtime.output_folder import atomic_folder, partial_path
from belvedere.training.distillation import weights_of
from belvedere.training.distributed import Distributed
from belvedere.training.recipe_config import to_toml
from belvedere.training.recipes import Recipe
from belvedere.training.trainer import CHECKPOINT, Job

NAMED_BY_PLACE = ("photographs", "labels")  # of config.toml; what they hold is in the checksum of the photographs


@contextmanager
def open_run_folder(
    out: Path, overwrite: bool, resume: bool, ranks: Distributed, inputs: Iterable[Path | str]
) -> Iterator[Path]:
    """The unfinished run folder, which the first process makes and finishes; the others wait for either."""
    if ranks.leads:
        with atomic_folder(out, overwrite=overwrite, keep_if=CHECKPOINT, resume=resume, inputs=inputs) as folder:
            ranks.wait()
            yield folder
            (folder / CHECKPOINT).unlink(missing_ok=True)  # a probe needs none
    else:
        ranks.wait()
        yield partial_path(out)
    ranks.wait()


def write_config(job: Job, minutes: float | None) -> str:
    """Writes the effective values as config.toml and returns its text.

    Raises:
        UsageError: The run that shall be gone on with was begun with other values.
    """
    values: dict[str, dict[str, object]] = {
        "run": {
            "photographs": job.dataset.source,
            **({} if job.dataset.labels is None else {"labels": job.dataset.labels}),
            "photographs_sha256": job.division.sha256,
            **({"unlabelled_sha256": fingerprint(job.unlabeled)} if job.recipe.unlabeled else {}),
            "class_names": list(job.dataset.class_names),
            "seed": job.seed,
            "device": job.hardware.device.type,
            "precision": job.hardware.precision_name,
            "processes": job.ranks.count,
            **({} if minutes is None else {"minutes": minutes}),
            **_hash_files(job.recipe),
        },
    }
    text, file = f"{tomli_w.dumps(values)}\n{to_toml(job.recipe)}", job.folder / "config.toml"
    if (job.folder / CHECKPOINT).exists():
        _check_same(tomllib.loads(file.read_text(encoding="utf-8")), tomllib.loads(text), job.folder)
    if job.ranks.leads:
        write_text(file, text)
    return text


def _hash_files(recipe: Recipe) -> dict[str, object]:
    """Checksums of what a recipe names by its path: the same path may hold something else when it is resumed."""
    files = {"teacher": weights_of(recipe.teacher) if recipe.teacher else None, "weights": recipe.weights or None}
    hashed: dict[str, object] = {}
    for name, file in files.items():
        with suppress(OSError):  # whoever opens it says what is wrong
            hashed |= {f"{name}_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()} if file else {}
    return hashed


def _check_same(begun: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    for table in asked:
        for name in sorted(begun[table].keys() | asked[table].keys()):
            before, now = begun[table].get(name), asked[table].get(name)
            if before != now and name not in NAMED_BY_PLACE:
                raise UsageError(
                    f"The training in {folder} was begun with {name} = {before!r}; this one asks for {now!r}. "
                    "Give the same arguments to resume it, or start anew with --overwrite."
                )
