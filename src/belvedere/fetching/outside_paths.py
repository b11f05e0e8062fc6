"""Finds tables of an archive that name files outside of its folder."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from belvedere.data.label_tables import read_label_table
from belvedere.errors import BelvedereError
from belvedere.types.data import DataWarning

MAX_TABLE_BYTES = 20_000_000  # all rows are in memory
_ABSOLUTE = re.compile(r"/|[a-zA-Z]:")


def outside_warnings(folder: Path, tables: Sequence[Path]) -> Iterator[DataWarning]:
    """Yield a warning for each table in a folder that names images outside of the folder, or is too large to tell."""
    for table in tables:
        name = table.relative_to(folder)
        if table.stat().st_size > MAX_TABLE_BYTES:
            yield DataWarning(f"Not checked for images outside of the folder, over {MAX_TABLE_BYTES:,} bytes: {name}")
            continue
        with suppress(BelvedereError, OSError):  # what is no table of images is not read later, either
            images = (row.image for row in read_label_table(table).rows)
            outside = tuple(image for image in images if _leads_out(image, name.parent))
            if outside:
                yield DataWarning(f"{name} names images outside of the folder, which are read if they exist", outside)


def _leads_out(image: str, folder: Path) -> bool:
    plain = image.strip().replace("\\", "/")
    whole = os.path.normpath(f"{folder.as_posix()}/{plain}")
    return bool(_ABSOLUTE.match(plain)) or Path(whole).parts[:1] == ("..",)
