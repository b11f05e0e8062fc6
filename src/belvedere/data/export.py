"""A journal and what it corrects, written down for other programs: decisions as CSV, a data set as a table or a folder.

Knows how a corrected folder is laid out; does not know what was decided or why. Photographs are linked to, or copied
where that is asked for, and never changed.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from belvedere.data.corrections.journal import active_decisions, read_corrections
from belvedere.data.dataset import UNDIVIDED, Dataset
from belvedere.errors import UsageError
from belvedere.runtime.csv_files import escape_formula, write_csv
from belvedere.runtime.files import free_name
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.output_folder import atomic_folder, check_output_folder
from belvedere.types.data import Sample

COLUMNS = ("when", "who", "image", "sha256", "action", "from", "to", "about", "why", "holds", "id", "part")


def check_place(out: Path, inputs: Sequence[Path], *, is_table: bool, overwrite: bool) -> None:
    """Check, before the work, that nothing of the user's would be replaced.

    Args:
        out: The table or folder that shall be written.
        inputs: What it is made from, which is never replaced.
        is_table: Whether it is a table.
        overwrite: Whether a file, or an older folder of Belvedere's, that is there may be replaced.

    Raises:
        UsageError: It is one of the inputs, or can't be written.
        OutputExistsError: Something else is there, or a folder that holds one of the inputs.
    """
    if is_table:
        OutputFile(out, overwrite=overwrite, inputs=lambda: inputs)
    else:
        check_output_folder(out, overwrite=overwrite, inputs=inputs)


def export_decisions(journal: Path | str, out: Path, *, overwrite: bool = False, spreadsheet: bool = False) -> int:
    """Writes every decision as a row of a CSV file; `holds` says which were not undone.

    Returns:
        How many there are.

    Raises:
        UsageError: There is no such journal, or the file can't be written.
        OutputExistsError: A file is there, and `overwrite` is not said.
    """
    file = OutputFile(out, overwrite=overwrite, inputs=lambda: (journal,))
    decisions = read_corrections(journal).decisions
    living = {decision.id for decision in active_decisions(decisions)}
    rows = [
        (
            *(each.when, each.who, each.image, each.sha256, each.action, each.given, "|".join(each.to), each.about),
            *(each.why, "true" if each.id in living else "false", each.id, each.part),
        )
        for each in decisions
    ]
    write_csv(out, COLUMNS, rows, file.check, spreadsheet=spreadsheet)
    return len(rows)


def export_table(dataset: Dataset, out: Path, *, overwrite: bool = False, spreadsheet: bool = False) -> None:
    """Writes a data set as the table that `load_dataset` reads: image, label, split.

    Several labels are written as `a|b`, and with the share of the picture that each covers as `a:0.6|b:0.3`. A label
    that a spreadsheet would take for a formula is escaped where that is asked for; an image's name never begins so.

    Raises:
        UsageError: The file can't be written, or is one of those that the data set is made from.
        OutputExistsError: A file is there, and `overwrite` is not said.
    """
    file = OutputFile(out, overwrite=overwrite, inputs=dataset.list_files)
    place = out.resolve().parent
    rows = [(_image_cell(sample, place), _label_cell(sample), sample.part) for sample in dataset.samples]
    if not spreadsheet:  # what looks escaped is so, too: `load_dataset` takes an apostrophe away
        rows = [(image, escape_formula(label) if label[0] == "'" else label, part) for image, label, part in rows]
    write_csv(out, ("image", "label", "split"), rows, file.check, spreadsheet=spreadsheet)


def export_folder(dataset: Dataset, out: Path, *, copy: bool, overwrite: bool) -> None:
    """Writes a data set as a folder of class folders, in train, val and test where it has parts.

    Secondary labels have no place in a folder; a table holds them.

    Args:
        dataset: What `load_dataset` made of photographs and a journal.
        out: The folder. It appears when it is whole.
        copy: Whether the photographs are copied; else they are linked to (symbolic links).
        overwrite: Whether an older folder of Belvedere's there may be replaced.

    Raises:
        OutputExistsError: Something is there that may not be replaced.
        UsageError: The folder can't be written, links can't be made there, or a label is no name for a folder.
    """
    for label in sorted({sample.label for sample in dataset.samples}):
        if label in (".", "..") or any(each in label for each in "/\\\0"):
            raise UsageError(f"The label {label!r} can't be the name of a folder. Give --out a name that ends in .csv.")
    put: Callable[[Path, Path], object] = shutil.copyfile if copy else _link
    with atomic_folder(out, overwrite=overwrite, inputs=dataset.list_files()) as folder:
        for sample in dataset.samples:
            place = folder / sample.part / sample.label if sample.part != UNDIVIDED else folder / sample.label
            place.mkdir(parents=True, exist_ok=True)
            try:
                put(sample.path.resolve(), free_name(place / sample.path.name))
            except OSError as error:
                way = "Give another --out." if copy else "Add --copy to copy the photographs instead of linking them."
                raise UsageError(f"Can't write {out}: {error.strerror} ({sample.image}). {way}") from error


def summarise(journal: Path | str) -> dict[str, object]:
    """Counts what a journal holds, ready for JSON.

    Raises:
        UsageError: There is no such journal.
    """
    text = read_corrections(journal)
    living = active_decisions(text.decisions)
    actions = sorted({decision.action for decision in living})
    people = sorted({decision.who for decision in living})
    return {
        "journal": str(journal),
        "lines": len(text.decisions),
        "hold": len(living),
        "photographs": len({decision.sha256 for decision in living}),
        "actions": {name: sum(decision.action == name for decision in living) for name in actions},
        "people": {name: sum(decision.who == name for decision in living) for name in people},
        "damaged_lines": list(text.damaged),
    }


def _label_cell(sample: Sample) -> str:
    labels = (sample.label, *sample.also)
    if len(sample.areas) == len(labels):
        shares = (np.format_float_positional(area, trim="0") for area in sample.areas)
        labels = tuple(f"{label}:{share}" for label, share in zip(labels, shares, strict=True))
    return "|".join(labels)


def _image_cell(sample: Sample, folder: Path) -> str:
    path = sample.path.absolute()
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return str(path)
    return relative if escape_formula(relative) == relative else os.path.join(".", relative)  # noqa: PTH118


def _link(photograph: Path, place: Path) -> None:
    place.symlink_to(photograph)
