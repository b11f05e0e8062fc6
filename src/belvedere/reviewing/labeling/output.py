"""The results of a labeling: the table that `train` reads, and the commands to run."""

import shlex
from pathlib import Path

from belvedere.data.corrections.corrections_file import CorrectionsFile
from belvedere.errors import OutputExistsError, UsageError
from belvedere.reviewing.labeling.labels import LabelStore
from belvedere.runtime.serialization import write_csv

HEADER = ("image", "label", "sha256")
TABLE_SUFFIX = ".csv"
MIN_QUICK = 300  # labels, for a network that is trained without pretrained weights
MIN_DISTILLED = 500  # unlabeled images, for a distillation


def table_path(corrections_file: CorrectionsFile) -> Path:
    """Return the path of the table: that of the labels file, with .csv as its suffix."""
    return corrections_file.path.with_suffix(TABLE_SUFFIX)


def check_labels_file(corrections_file: CorrectionsFile) -> None:
    """Check that the table has another path than the labels file.

    Raises:
        UsageError: It has the same.
    """
    path = corrections_file.path
    if path.suffix.lower() == TABLE_SUFFIX:
        raise UsageError(f"The table of labels is written to {path}. Give `corrections` a path that ends in .jsonl.")


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


def list_commands(store: LabelStore, table: Path, network_options: str) -> list[str]:
    """Return the commands that train on the labels, and distill to a small network if enough images are unlabeled.

    With the network of the embeddings, a linear probe is trained on it. Without one, the weights that a probe needs may
    not be on this machine: from `MIN_QUICK` labels on, a small network is trained without them.
    """
    run = table.with_name(f"{table.with_suffix('').stem}-run")
    data, teacher = shlex.quote(str(table)), shlex.quote(str(run))
    recipe = "probe" if network_options or store.num_labeled() < MIN_QUICK else "quick"
    commands = [f"belvedere train {data} --recipe {recipe}{network_options} --out {teacher}"]
    if store.num_left() >= MIN_DISTILLED and store.pool.root.is_dir():
        pool, small = shlex.quote(str(store.pool.root)), shlex.quote(f"{run}-small")
        commands.append(f"belvedere train {data} --teacher {teacher} --unlabeled {pool} --out {small}")
    return commands


def _is_older_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().rstrip("\n") == ",".join(HEADER)
    except (OSError, UnicodeError):
        return False
