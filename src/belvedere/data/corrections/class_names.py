"""Names for classes that a person adds: such as a folder, a table and a journal can hold alike.

Knows what a name must not be; does not know who adds a class, or why.
"""

import re
import unicodedata
from collections.abc import Iterable

from belvedere.data.dataset import FOREIGN_FOLDERS, SPLIT_ALIASES, spelling_of
from belvedere.errors import UsageError

LONGEST_BYTES = 200  # of a name in UTF-8: folders take 255
SEPARATORS = "|/\\"  # of labels in a table, and of folders
RESERVED = {"none of these", *FOREIGN_FOLDERS, *(name for names in SPLIT_ALIASES.values() for name in names)}
_SHARE = re.compile(r":\s*[\d.]*$")  # sea:0.6 in a table is a label and a share
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # categories of characters that no name has


def check_new_class(name: str, known: Iterable[str]) -> str:
    """Checks the name of a class that is added to others.

    Args:
        name: As it was typed.
        known: The classes that there are.

    Returns:
        The name as it is kept: accents composed, and single spaces.

    Raises:
        UsageError: It can't be a class's name, or one of the known is spelt so, or so but for case.
    """
    kept = " ".join(unicodedata.normalize("NFC", name).split())
    same = next((each for each in known if spelling_of(each) == spelling_of(kept)), None)
    if same is not None:
        raise UsageError(f"There is a class {same!r} already. Choose it.")
    reason = _find_fault(kept)
    if reason:
        raise UsageError(f"A class can't be called {kept[:80]!r}: {reason}. Give another name.")
    return kept


def _find_fault(name: str) -> str:
    if not name:
        return "a name has a letter at least"
    if len(name.encode(errors="replace")) > LONGEST_BYTES:
        return f"a name has {LONGEST_BYTES} bytes at most"
    if any(unicodedata.category(each) in _CONTROLS for each in name):
        return "it holds a character that can't be shown"
    if found := next((each for each in SEPARATORS if each in name), ""):
        return f"{found} separates names"
    if _SHARE.search(name):
        return "what follows the colon would be read as a share"
    if name.startswith("."):
        return "a folder of that name is hidden"
    return "that name means something else" if name.casefold() in RESERVED else ""
