"""The datasets that `fetch` takes by name, from `assets/datasets.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class KnownSource:
    """A place from where a dataset can be downloaded."""

    url: str  # as `fetch` takes it
    sha256: str = ""  # of the file; empty if it is not known yet


@dataclass(frozen=True)
class KnownDataset:
    """A dataset that is fetched by its name."""

    name: str
    title: str
    page: str  # address for people
    license: str
    sources: tuple[KnownSource, ...]
    folders: Mapping[str, str]  # folders of the archive, and their names in the result
    manifest: Path | None = None


def read_registry() -> dict[str, KnownDataset]:
    """Return the datasets by name."""
    entries = tomllib.loads((ASSETS / "datasets.toml").read_text("utf-8"))
    return {
        name: KnownDataset(
            name=name,
            title=entry["title"],
            page=entry["page"],
            license=entry["license"],
            sources=tuple(KnownSource(**source) for source in entry["sources"]),
            folders=entry["folders"],
            manifest=ASSETS / entry["manifest"] if "manifest" in entry else None,
        )
        for name, entry in entries.items()
    }
