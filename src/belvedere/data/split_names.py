"""Recognizes names of splits: words of English, German and French, with usual additions such as "set" or "images"."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

SPLITS = ("train", "val", "test")
MAX_COLUMN_NAME = 100  # characters
_WORDS = {
    "train": ("train", "training", "trainings", "trn", "lern", "apprentissage", "entrainement"),
    "val": (
        "val",
        "valid",
        "validation",
        "validate",
        "validierung",
        "validierungs",
        "dev",
        "development",
        "tune",
        "tuning",
    ),
    "test": (
        "test",
        "testing",
        "tests",
        "eval",
        "evaluation",
        "holdout",
        "heldout",
        "pruf",
        "pruef",
        "prufung",
        "pruefung",
    ),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
# Words beside that of the split, also joined with it: train_images, Testdaten, jeu_de_test, seg_train.
# fmt: off
_FILLERS = (
    "datasets?", "data", "sets?", "subset", "split", "partition", "folder", "seg", "samples?",
    "images?", "imgs?", "photos?", "pic(?:ture)?s?", "jpe?g", "png",
    "datensatz", "daten", "satz", "bilder", "bild", "fotos?", "menge", "ordner", "donnees", "ensemble", "jeu",
)
# Words for a division into splits, which name a column of a table.
_DIVISIONS = (
    "datasets?", "sets?", "subset", "splits?", "partition", "phase", "usage", "datensatz", "satz", "menge", "teilmenge",
    "aufteilung", "einteilung", "verwendung", "ensemble", "jeu", "repartition", "decoupage",
)
_SMALL_WORDS = frozenset((  # never joined
    "the", "of", "for", "my", "new", "de", "d", "des", "du", "le", "la", "les", "l", "und", "zum", "zur", "fur", "fuer",
    "part", "teil", "partie", "x", "px", "resized", "cropped", "original", "raw", "full", "final", "small", "large",
))
# fmt: on
_FILLER = f"(?:{'|'.join(_FILLERS)})"  # possessive below: no exponential search
_CORE = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
_COMPOUND = re.compile(rf"{_FILLER}*+({_CORE}){_FILLER}*+")
_ONLY_FILLER = re.compile(rf"{_FILLER}++")
_DIVISION = f"(?:{'|'.join(_DIVISIONS)})"
_DIVISION_NAME = re.compile(rf"(?:{_FILLER}|{_CORE})*?{_DIVISION}(?:{_FILLER}|{_CORE})*+")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


@lru_cache(maxsize=1000)  # each row of a table may have one
def split_of(name: str) -> str | None:
    """Return "train", "val" or "test" for the name of a split, such as "Train_data", "test2017" or "Testdaten"."""
    split, rest = _parse(name)
    return None if rest else split


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each name of a split among names.

    Names with a word in common, such as flowers_train and flowers_test, are splits if they name different ones.
    """
    groups: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        split, rest = _parse(name)
        if split is not None:
            groups[rest][name] = split
    return {
        name: split
        for rest, found in groups.items()
        if not rest or len({*found.values()}) > 1
        for name, split in found.items()
    }


def fill_splits(splits: Sequence[str | None]) -> list[str | None]:
    """Return the splits of the images of a dataset; if it has splits, images without one are for training."""
    return [split or "train" for split in splits] if any(splits) else list(splits)


def is_filler(name: str) -> bool:
    """Return whether a name says only that something holds data, as "images" does."""
    words = _words(name)
    return bool(words) and all(_ONLY_FILLER.fullmatch(word) for word in words)


def names_division(name: str) -> bool:
    """Return whether a column is named like one of splits: "Subset", "Aufteilung", "jeu de données", "is_test"."""
    words = [word for word in _words(name[:MAX_COLUMN_NAME]) if word not in _SMALL_WORDS and word != "is"]
    named = [word for word in words if _DIVISION_NAME.fullmatch(word) or _COMPOUND.fullmatch(word)]
    return bool(named) and all(word in named or _ONLY_FILLER.fullmatch(word) for word in words)


def _parse(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the split that a name holds, if it holds one, and its words that have another meaning."""
    rest, split = [], None
    for word in _words(name):
        found = _COMPOUND.fullmatch(word)
        if found and split is None:
            split = _SPLIT_OF[found[1]]
        elif found or not (word in _SMALL_WORDS or _ONLY_FILLER.fullmatch(word)):
            rest.append(word)
    return split, tuple(rest)


def _words(name: str) -> list[str]:
    plain = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    words = re.findall(r"[a-z]+", _CAMEL_CASE.sub(" ", plain).lower())
    return " ".join(words).replace("hold out", "holdout").replace("held out", "heldout").split()
