"""Prediction files that an interrupted run can resume: no row is lost or written twice.

Until FILE is complete, the folder FILE.partial holds the rows so far and job.json, which describes the run.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from belvedere.errors import OutputExistsError, UsageError
from belvedere.inference.writers.text import CsvWriter, JsonLinesWriter, Writer
from belvedere.runtime.files import always, clear_once
from belvedere.runtime.operating_system import copy_mode, replace
from belvedere.runtime.output_folder import close_on_windows, delete_folder, empty_folder, lock_folder, partial_path
from belvedere.runtime.serialization import unescape_formula, write_json
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction, ResumedRow

RESUMABLE = ("csv", "jsonl", "parquet")
JOB = "job.json"


class ResumableWriter(Protocol):
    """Keeps rows in a folder until all are there."""

    def read(self) -> Iterator[ResumedRow]:
        """Yield the rows that are there, in order."""

    def write(self, prediction: Prediction) -> None:
        """Add a row."""

    def finish(self) -> Path:
        """End the writing; return the complete file."""

    def suspend(self) -> None:
        """End the writing; keep the rows."""


class ResumableLines(ResumableWriter):
    """Rows of a CSV or JSON lines file."""

    def __init__(
        self, folder: Path, class_names: Sequence[str], model: ModelId, format: str, *, spreadsheet: bool = False
    ) -> None:
        self._path = folder / f"rows.{format}"
        self._format, self._spreadsheet = format, spreadsheet
        _truncate_partial_record(self._path, format)
        has_rows = self._path.stat().st_size > 0
        self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        self._writer: Writer = (
            CsvWriter(self._file, class_names, model, header=not has_rows, spreadsheet=spreadsheet)
            if format == "csv"
            else JsonLinesWriter(self._file, class_names, model)
        )

    def read(self) -> Iterator[ResumedRow]:
        """Yield the complete rows.

        Raises:
            UsageError: A row is damaged.
        """
        try:
            yield from self._read()
        except (ValueError, LookupError, TypeError, csv.Error, RecursionError) as error:
            raise UsageError(
                f"Cannot resume from {self._path}, which is damaged: {describe_error(error)}. Start over without "
                "`resume`."
            ) from error

    def _read(self) -> Iterator[ResumedRow]:
        with self._path.open("rb") as file:
            records = (record.decode("utf-8") for record in _complete_records(file, self._format))
            if self._format == "jsonl":
                for record in records:
                    row = json.loads(record)
                    yield ResumedRow(row["image"], row["error"] is not None)
            elif header := next(records, None):
                error = next(csv.reader([header])).index("error")
                for record in records:
                    cells = next(csv.reader(io.StringIO(record, newline="")))
                    image = unescape_formula(cells[0]) if self._spreadsheet else cells[0]
                    yield ResumedRow(image, bool(cells[error]))

    def write(self, prediction: Prediction) -> None:
        """Add a row."""
        self._writer.write(prediction)

    def finish(self) -> Path:
        """End the writing; return the complete file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._path

    def suspend(self) -> None:
        """End the writing; keep the rows."""
        self._file.close()


def _complete_records(file: IO[bytes], format: str) -> Iterator[bytes]:
    """Yield the complete records of a file: a record of CSV may hold quoted line ends."""
    record = b""
    for line in file:
        record += line
        if line.endswith(b"\n") and (format == "jsonl" or record.count(b'"') % 2 == 0):
            yield record
            record = b""


def _truncate_partial_record(path: Path, format: str) -> None:
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(sum(map(len, _complete_records(file, format))))


@contextmanager
def open_resumable(
    out: Path,
    format: str,
    class_names: Sequence[str],
    model: ModelId,
    fingerprint: str,
    *,
    resume: bool,
    spreadsheet: bool = False,
    check: Callable[[], None] = always,
) -> Iterator[tuple[ResumableWriter, Iterable[ResumedRow]]]:
    """Open a prediction file that appears when it is complete, and can be resumed until then.

    Args:
        out: The file.
        format: One of `RESUMABLE`.
        class_names: K names.
        model: The model that predicts.
        fingerprint: Fingerprint of the model; rows of another one are not resumed.
        resume: Whether to keep the rows of an interrupted run.
        spreadsheet: Whether to escape cells that spreadsheets take for formulas; for "csv" only.
        check: Called again before the file gets its name; if it raises, the rows stay.

    Yields:
        The writer, and the rows that are already there.

    Raises:
        UsageError: The file cannot be written, is being written by another process, or belongs to another run.
        OutputExistsError: The partial folder was not made by Belvedere.
        MissingDependencyError: The format is Parquet and pyarrow is not installed.
    """
    create = _factory(format, spreadsheet)
    target = out.resolve()
    folder = partial_path(target)
    variant = f"{format} for spreadsheets" if spreadsheet else format
    job: dict[str, object] = {"format": variant, "classes": list(class_names), "model": fingerprint}
    try:
        with lock_folder(folder) as marker:
            if resume and (folder / JOB).is_file():
                _check_job(folder, job)
            else:
                empty_folder(folder)
                write_json(folder / JOB, job)
            rows = create(folder, class_names, model)
            with _suspended_on_error(folder, rows):
                yield rows, rows.read() if resume else ()
                file = rows.finish()
                check()
            copy_mode(target, file)
            replace(file, target)
            clear_once(target.parent)
            close_on_windows(marker)
            with suppress(OSError):
                delete_folder(folder)
    except OutputExistsError:
        raise
    except OSError as error:
        hint = " ".join(["Free disk space, or choose another file.", *getattr(error, "__notes__", ())])
        raise UsageError(f"Cannot write {out}: {describe_error(error)}. {hint}") from error


@contextmanager
def _suspended_on_error(folder: Path, rows: ResumableWriter) -> Iterator[None]:
    """Keep the rows if the block raises, and name their folder; remove the folder if there are none."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError, UsageError):  # the disk may be full: the rows before the last ones stay
            rows.suspend()
        if next(iter(rows.read()), None) is None:
            with suppress(OSError):
                delete_folder(folder)
        else:
            error.add_note(f"The predictions so far are in {folder}. The same call with `resume` continues.")
        raise


def _check_job(folder: Path, job: dict[str, object]) -> None:
    try:
        found = json.loads((folder / JOB).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = {}
    differences = {"format": "another `format`", "classes": "other classes", "model": "another `model`"}
    for key, difference in differences.items():
        if found.get(key) != job[key]:
            raise UsageError(
                f"Cannot resume {folder}: it was created with {difference}. Use the same model and format, or start "
                "over without `resume`."
            )


def _factory(format: str, spreadsheet: bool) -> Callable[[Path, Sequence[str], ModelId], ResumableWriter]:
    if format == "parquet":
        from belvedere.inference.writers.parquet import ResumableParquet  # here, since pyarrow is an extra

        return ResumableParquet
    return lambda folder, class_names, model: ResumableLines(
        folder, class_names, model, format, spreadsheet=spreadsheet
    )
