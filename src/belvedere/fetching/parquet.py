"""Writes the images of Parquet files, as Hugging Face exports them, into folders of splits and classes."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from belvedere.data.split_names import split_of
from belvedere.errors import ArchiveError
from belvedere.fetching.layout import DistinctNames, Parts, is_hidden, refusal, split_name
from belvedere.fetching.unpacked_size import MAX_EXPANSION, check_count, check_disk, check_size
from belvedere.images.content import MAX_BYTES
from belvedere.images.formats import START_BYTES, detect_format
from belvedere.runtime.dependencies import require
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count, describe_error
from belvedere.types.data import DataWarning

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

UNLABELED = "unlabeled"  # folder of images without a label
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
NULL_LABELS = (-1, None)  # Hugging Face writes -1 where the label of a test image is held back
BATCH_ROWS = 4  # in memory at once, and an image may have 200 MB
MAX_CLASSES = 100_000
BUFFER_BYTES = 1 << 20  # that are read at once; without it, a whole column of a row group
MAX_CHUNK_BYTES = 64_000_000  # of a column in a row group, unpacked; images may have `MAX_EXPANSION` times their size
SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}  # of formats whose name is not their suffix


@dataclass(frozen=True)
class _Columns:
    """The columns of the images and labels."""

    image: str
    label: str | None
    class_names: Sequence[str] | None  # of labels that are numbers


def check_pyarrow() -> None:
    """Raise `MissingDependencyError` if Parquet cannot be read."""
    require("parquet", "A Parquet file")


def unpack_parquet(
    files: Sequence[tuple[str, Path]], folder: Path, max_bytes: int, progress: Progress
) -> tuple[DataWarning, ...]:
    """Write the images of Parquet files as SPLIT/CLASS/NUMBER.jpg; the split is that in the names of the files.

    Args:
        files: Name and path of each file.
        folder: An empty folder of ours.
        max_bytes: Largest size of all images.
        progress: Receives progress.

    Returns:
        Warnings on rows without an image.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        FetchError: A file is damaged, has no images, or too large ones.
        OSError: The disk is full.
    """
    check_pyarrow()
    writer = _Writer(folder, max_bytes, sum(path.stat().st_size for _, path in files))
    splits = [_split_of_file(name) for name, _ in files]
    default = "train" if any(splits) else ""  # as on the hub
    for (name, path), split in zip(files, splits, strict=True):
        for content, label in _read_rows(name, path, writer, progress):
            writer.write(content, split or default, label, name)
    if not writer.num_images:
        raise refusal("it has no images")
    return writer.warnings()


def _split_of_file(name: str) -> str | None:
    """Return the split of a file such as data/train-00000-of-00002.parquet or default/test/0000.parquet."""
    path = Path(name)
    return split_of(path.stem.split("-")[0]) or split_of(path.parent.name)


@contextmanager
def _parquet_errors(name: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # OSError: a damaged page
        raise ArchiveError(f"{name} is damaged: {describe_error(error)}. Download it again.") from error


def _read_rows(
    name: str, path: Path, writer: "_Writer", progress: Progress
) -> Iterator[tuple[bytes | None, str | None]]:
    """Yield images and classes; no error of the disk that they are written to is mistaken for a damaged file."""
    import pyarrow.parquet

    with (
        _parquet_errors(name),
        pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file,
    ):
        columns = _find_columns(name, file.schema_arrow)
        wanted = [columns.image, *([columns.label] if columns.label else [])]
        writer.check_stated(file.metadata.num_rows, _stated_bytes(name, file, wanted))
        with progress.task("Unpacking", file.metadata.num_rows) as task:
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                labels = batch.column(columns.label).to_pylist() if columns.label else [None] * len(batch)
                for content, label in zip(_contents(batch.column(columns.image)), labels, strict=True):
                    yield content, _class_name(name, label, columns.class_names)
                    task.advance(1)


class _Writer:
    """Writes images into class folders, and counts bytes and rows."""

    def __init__(self, folder: Path, max_bytes: int, packed_bytes: int) -> None:
        self.num_images = self._num_missing = self._num_bytes = 0
        self._folder, self._max_bytes, self._packed_bytes = folder, max_bytes, packed_bytes
        self._labels, self._names = dict[Parts, str | None](), DistinctNames()  # labels by folder

    def check_stated(self, num_rows: int, num_bytes: int) -> None:
        """Check what a file states to have, before it is read."""
        check_count(self.num_images + self._num_missing + num_rows, "rows")
        check_size(self._num_bytes + num_bytes, self._packed_bytes, self._max_bytes)
        check_disk(num_bytes, self._folder)

    def write(self, content: bytes | None, split: str, label: str | None, name: str) -> None:
        """Write an image of a file."""
        if not content:
            self._num_missing += 1
            return
        self._num_bytes += len(content)
        check_size(self._num_bytes, self._packed_bytes, self._max_bytes)
        check_disk(len(content), self._folder)
        if len(content) > MAX_BYTES:
            raise refusal(f"an image of {name} has {len(content):,} bytes, over the limit of {MAX_BYTES:,}")
        parts = (UNLABELED,) if label is None else (*((split,) if split else ()), label)
        folder = self._folder.joinpath(*parts)
        if parts not in self._labels:
            self._labels[parts] = label
            if len(self._labels) > MAX_CLASSES:
                raise refusal(f"it has more than {MAX_CLASSES:,} classes")
            self._names.add((*parts, "file"))
            folder.mkdir(parents=True, exist_ok=True)
        elif self._labels[parts] != label:
            raise refusal(f"a class of {name} is named {UNLABELED}, as the folder of its images without a label")
        kind = detect_format(content[:START_BYTES])
        suffix = SUFFIXES.get(kind, f".{kind.lower()}" if kind else "")
        with (folder / f"{self.num_images:06}{suffix}").open("xb") as file:
            file.write(content)
        self.num_images += 1

    def warnings(self) -> tuple[DataWarning, ...]:
        """Return a warning if rows had no image."""
        rows = count(self._num_missing, "row")
        return (DataWarning(f"{rows} without an image"),) if self._num_missing else ()


def _find_columns(name: str, schema: "pyarrow.Schema") -> _Columns:
    """Find the columns by Hugging Face's description of them, or by their names and types."""
    features = _features(schema)
    images = [column for column in schema.names if _is_image(schema.field(column).type)]
    image = next((each for each in IMAGE_COLUMNS if each in images), images[0] if len(images) == 1 else None)
    if image is None:
        shown = ", ".join(schema.names[:20])
        raise refusal(f"{name} has no column of encoded images, such as `image`, but {shown}")
    classes = [column for column in schema.names if _class_names(features.get(column)) is not None]
    known = next((each for each in LABEL_COLUMNS if each in schema.names), None)
    label = known or (classes[0] if len(classes) == 1 else None)
    if label is None and classes:
        raise refusal(f"{name} has several columns of labels: {', '.join(classes[:10])}")
    if label is not None and not _is_label(schema.field(label).type):
        raise refusal(f"the column {label} of {name} is not one class for each image ({schema.field(label).type})")
    return _Columns(image, label, _class_names(features.get(label)) if label else None)


def _features(schema: "pyarrow.Schema") -> dict[str, Any]:
    """Return the description of the columns that Hugging Face's datasets writes; empty without one."""
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        if isinstance(features, dict):
            return features
    return {}


def _class_names(feature: object) -> list[str] | None:
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    if isinstance(names, dict):  # older files number them: {"0": "cat"}
        names = list(names.values())
    is_list = isinstance(names, list) and all(isinstance(each, str) for each in names)
    return names if is_list else None


def _is_image(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_label(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(value) or types.is_string(value) or types.is_large_string(value))


def _stated_bytes(name: str, file: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> int:
    """Return the unpacked size that a file states for columns, of which the first is that of the images.

    Raises:
        ArchiveError: A column of a row group, which may be in memory at once, unpacks to too many bytes.
    """
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    total = 0
    for chunk in chunks:
        if chunk.path_in_schema.split(".")[0] in columns:
            size = int(chunk.total_uncompressed_size)
            is_image = chunk.path_in_schema in (columns[0], f"{columns[0]}.bytes")
            if size > max(MAX_CHUNK_BYTES, MAX_EXPANSION * chunk.total_compressed_size * is_image):
                column = chunk.path_in_schema[:100]
                raise refusal(f"the column {column} of {name} unpacks to {size:,} bytes in a row group, too many")
            total += size
    return total


def _contents(column: "pyarrow.Array") -> Iterator[bytes | None]:
    for cell in column:
        value = cell.as_py()
        yield value.get("bytes") if isinstance(value, dict) else value


def _class_name(file: str, label: object, names: Sequence[str] | None) -> str | None:
    """Return the class of a row, as the name of a folder; None without a label."""
    if label in NULL_LABELS or label == "":
        return None
    if names is not None and isinstance(label, int):
        if not 0 <= label < len(names):
            raise refusal(f"{file} has the label {label}, but names {count(len(names), 'class', 'classes')}")
        label = names[label]
    name = str(label).strip()
    if "/" in name or "\\" in name or len(split_name(name)) != 1 or is_hidden((name,)):
        raise refusal(f"a class of {file} cannot be the name of a folder: {name[:100]!r}")
    return name
