"""Answers written bit by bit, so that a job that was killed can go on: no row is lost, none stands twice.

Knows what an unfinished file of answers looks like and where its last whole row ends; does not know where the answers
come from. Beside FILE, until it is whole, stands the folder FILE.partial with the rows so far and, in job.json, what
they are answers of.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from belvedere.errors import UsageError
from belvedere.inference.writers.text import CsvWriter, JsonLinesWriter
from belvedere.runtime.csv_files import unescape_formula
from belvedere.runtime.files import always, clear_once, write_json
from belvedere.runtime.output_folder import PARTIAL, empty_folder, hold, let_go
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction, ResumedRow

RESUMABLE = ("csv", "jsonl", "parquet")
JOB = "job.json"


class Rows(Protocol):
    """Rows that are kept in a folder until they are all there."""

    def read(self) -> Iterator[ResumedRow]:
        """Reads what is there, in order; what was torn by a kill is cut off."""

    def write(self, answer: Prediction) -> None:
        """Adds a row."""

    def finish(self) -> Path:
        """Ends the writing and returns the whole file."""

    def leave(self) -> None:
        """Ends the writing, with what is there kept."""


class ResumableLines:
    """Rows of a CSV or JSON lines file."""

    def __init__(
        self, folder: Path, class_names: Sequence[str], model: ModelId, form: str, *, spreadsheet: bool = False
    ) -> None:
        self._path = folder / f"rows.{form}"
        self._form, self._spreadsheet = form, spreadsheet
        _truncate_partial_record(self._path, form)
        begun = self._path.stat().st_size > 0
        self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        if form == "csv":
            self._writer: CsvWriter | JsonLinesWriter = CsvWriter(
                self._file, class_names, model, header=not begun, spreadsheet=spreadsheet
            )
        else:
            self._writer = JsonLinesWriter(self._file, class_names, model)

    def read(self) -> Iterator[ResumedRow]:
        """As `Rows`."""
        with self._path.open("rb") as file:
            records = (record.decode("utf-8") for record in _whole_records(file, self._form))
            if self._form == "jsonl":
                for record in records:
                    answer = json.loads(record)
                    yield ResumedRow(answer["image"], answer["error"] is not None)
            elif header := next(records, None):
                error = next(csv.reader([header])).index("error")
                for record in records:
                    cells = next(csv.reader(io.StringIO(record, newline="")))
                    image = unescape_formula(cells[0]) if self._spreadsheet else cells[0]
                    yield ResumedRow(image, bool(cells[error]))

    def write(self, answer: Prediction) -> None:
        """As `Rows`."""
        self._writer.write(answer)

    def finish(self) -> Path:
        """As `Rows`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._path

    def leave(self) -> None:
        """As `Rows`."""
        self._file.close()


def _whole_records(file: IO[bytes], form: str) -> Iterator[bytes]:
    """Cuts a file into its whole records: lines, and in CSV as many as a cell with line ends in it takes."""
    record = b""
    for line in file:
        record += line
        if line.endswith(b"\n") and (form == "jsonl" or record.count(b'"') % 2 == 0):
            yield record
            record = b""


def _truncate_partial_record(path: Path, form: str) -> None:
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(sum(map(len, _whole_records(file, form))))


@contextmanager
def open_rows(
    out: Path,
    form: str,
    class_names: Sequence[str],
    model: ModelId,
    fingerprint: str,
    *,
    resume: bool,
    spreadsheet: bool = False,
    check: Callable[[], None] = always,
) -> Iterator[tuple[Rows, Iterable[ResumedRow]]]:
    """Opens a file of answers that appears when it is whole, and can be taken up again until then.

    Args:
        out: The file.
        form: One of `RESUMABLE`.
        class_names: The K classes.
        model: Which one predicts.
        fingerprint: Of that model: rows of one with another are not gone on with.
        resume: Whether the rows that an earlier process left are kept.
        spreadsheet: As `open_writer`.
        check: Is asked once more before the file takes its place; what it raises leaves the rows to go on with.

    Yields:
        What writes the rows, and the rows that are there already.

    Raises:
        UsageError: The file can't be written, another process is at it, or what was left is of another job.
        OutputExistsError: The partial folder is not Belvedere's.
        MissingDependencyError: Parquet is asked for and pyarrow is not installed.
    """
    create = _find_rows(form, spreadsheet)
    target = out.resolve()
    folder = target.with_name(f"{target.name}{PARTIAL}")
    job: dict[str, object] = {
        "form": f"{form} for spreadsheets" if spreadsheet else form,
        "classes": list(class_names),
        "model": fingerprint,
    }
    try:
        with hold(folder) as mark:
            if resume and (folder / JOB).is_file():
                _check_job(folder, job)
            else:
                empty_folder(folder)
                write_json(folder / JOB, job)
            rows = create(folder, class_names, model)
            with _kept(folder, rows):
                yield rows, rows.read() if resume else ()
                whole = rows.finish()
                check()
            whole.replace(target)
            clear_once(target.parent)
            let_go(mark)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        told = UsageError(f"Can't write {out}: {error.strerror or error}. Make room, or give another place.")
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        raise told from error


@contextmanager
def _kept(folder: Path, rows: Rows) -> Iterator[None]:
    """Says where the rows are, should the block raise; leaves nothing where there are none."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError, UsageError):  # the last rows have no room, perhaps: those before them stay
            rows.leave()
        if next(iter(rows.read()), None) is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            error.add_note(f"What was answered so far is in {folder}: the same command with --resume goes on.")
        raise


def _check_job(folder: Path, job: dict[str, object]) -> None:
    try:
        begun = json.loads((folder / JOB).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        begun = {}
    for what in ("form", "classes", "model"):
        if begun.get(what) != job[what]:
            raise UsageError(
                f"{folder} was begun with another {what.removesuffix('es')}: its rows can't be gone on with. "
                "Give the same model and form as then, or leave out --resume to start anew."
            )


def _find_rows(form: str, spreadsheet: bool) -> Callable[[Path, Sequence[str], ModelId], Rows]:
    if form == "parquet":
        from belvedere.inference.writers.parquet import ParquetRows  # here, since pyarrow is an extra

        return ParquetRows
    return lambda folder, class_names, model: ResumableLines(folder, class_names, model, form, spreadsheet=spreadsheet)
