"""The results of a labeling: the table that `train` reads, and the trainings on it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from belvedere.data.corrections.corrections_file import CorrectionsFile
from belvedere.errors import OutputExistsError, UsageError
from belvedere.reviewing.labeling.labels import LabelStore
from belvedere.runtime.files import beside
from belvedere.runtime.progress import Progress
from belvedere.runtime.serialization import write_csv

if TYPE_CHECKING:
    from belvedere.training.run import Run

HEADER = ("image", "label", "sha256")
TABLE_SUFFIX = ".csv"
MIN_QUICK = 300  # labels, for a network that is trained without pretrained weights
MIN_DISTILLED = 500  # unlabeled images, for a distillation


def table_path(corrections_file: CorrectionsFile) -> Path:
    """Return the path of the table: that of the labels file, with .csv as its suffix."""
    return corrections_file.path.with_suffix(TABLE_SUFFIX)


def check_labels_file(corrections_file: CorrectionsFile, data: Path) -> None:
    """Check that the table of labels replaces neither the labels file nor the table of images.

    Raises:
        UsageError: It would replace one.
    """
    path, table = corrections_file.path, table_path(corrections_file)
    if path.suffix.lower() == TABLE_SUFFIX:
        raise UsageError(f"The table of labels is written to {path}. Give `corrections` a path that ends in .jsonl.")
    if data.is_file() and table.exists() and table.samefile(data):
        raise UsageError(f"The table of labels would replace the images in {data}. Give `corrections` another name.")


def write_table(store: LabelStore) -> Path | None:
    """Write the images with a class, and their tags, as a table beside the labels file; return its path.

    Without labels, nothing is written. An older table of labels is replaced.

    Raises:
        OutputExistsError: The path has another file.
        UsageError: The table cannot be written.
    """
    rows = [row for row, label in enumerate(store.labels.tolist()) if label >= 0]
    if not rows:
        return None
    path = table_path(store.corrections_file)
    if path.exists() and not _is_older_table(path):
        raise OutputExistsError(path, "It is no table of labels. Choose another labels file.", can_overwrite=False)
    pool = store.pool
    table = (
        (
            str(pool.samples[row].path.absolute()),
            "|".join(dict.fromkeys((store.class_names[store.labels[row]], *store.tags.get(row, ())))),
            pool.hashes[row],
        )
        for row in rows
    )
    write_csv(path, HEADER, table)
    return path


@dataclass(frozen=True)
class PlannedTraining:
    """A training on the table of labels: a command, and the same call from Python."""

    table: Path
    out: Path
    options: Mapping[str, Any]  # arguments of `train`

    @property
    def command(self) -> str:
        """The command."""
        options = "".join(f" --{name} {shlex.quote(value)}" for name, value in self.options.items())
        return f"belvedere train {shlex.quote(str(self.table))}{options} --out {shlex.quote(str(self.out))}"

    def run(self, *, overwrite: bool, progress: Progress) -> "Run":
        """Train."""
        from belvedere.training.train import train

        progress.log(self.command)
        return train(self.table, out=self.out, overwrite=overwrite, progress=progress, **self.options)


def output_folders(labels_file: Path, out: Path | str | None) -> tuple[Path, Path]:
    """Return the folders of the runs: of the first training, and of the distillation."""
    run = labels_file.parent / f"{labels_file.stem.removesuffix('.labels')}-run" if out is None else Path(out)
    return run, beside(run, "-small")


def plan_trainings(
    store: LabelStore, table: Path | None, network_options: Mapping[str, str], out: Path | str | None = None
) -> list[PlannedTraining]:
    """Return the training on the labels, and the distillation to a small network if enough images are unlabeled.

    With the network of the embeddings, a linear probe is trained on it. Without one, the weights that a probe needs may
    not be on this machine: from `MIN_QUICK` labels on, a small network is trained without them.
    """
    if table is None:
        return []
    run, small = output_folders(store.corrections_file.path, out)
    recipe = "probe" if network_options or store.num_labeled() < MIN_QUICK else "quick"
    trainings = [PlannedTraining(table, run, {"recipe": recipe, **network_options})]
    if store.num_left() >= MIN_DISTILLED and store.pool.source.is_dir():
        options = {"teacher": str(run), "unlabeled": str(store.pool.source)}
        trainings.append(PlannedTraining(table, small, options))
    return trainings


def _is_older_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().rstrip("\n") == ",".join(HEADER)
    except (OSError, UnicodeError):
        return False
