"""Datasets from the server to the folder."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import belvedere
from belvedere.data.array_cache import list_caches
from belvedere.data.dataset import load_dataset
from belvedere.errors import ArchiveError, FetchError, OutputExistsError, UsageError
from belvedere.fetching import download, sources
from belvedere.fetching import fetch as fetch_module
from belvedere.fetching.fetch import UNPACKING, fetch
from belvedere.fetching.manifest import Manifest, list_pixels, write_manifest
from belvedere.fetching.registry import KnownDataset, KnownSource
from belvedere.runtime.progress import Progress
from belvedere.types.data import DataWarning
from conftest import write_classes
from file_server import Behavior, FileServer, serve_file

FOLDERS = {"seg_train": "train", "seg_test": "test", "seg_pred": "unlabeled"}


class Warnings(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[DataWarning] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def log_warnings(self, warnings: object) -> None:
        assert isinstance(warnings, tuple)
        self.warnings += warnings


def make_archive(folder: Path, renamed: Mapping[str, str] | None = None) -> bytes:
    """Pack a folder of splits with doubled folders, as the archive of the Intel scenes; `renamed` changes labels."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            split, *rest = path.relative_to(folder).parts
            label = (renamed or {}).get("/".join(rest), rest[0])
            old = next(old for old, new in FOLDERS.items() if new == split)
            archive.write(path, "/".join([old, old, label, *rest[1:]]))
    return packed.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "original"
    write_classes(folder / "train", 6)
    write_classes(folder / "test", 2, ("red", "blue"))
    for path in (folder / "test").rglob("*.png"):
        path.rename(path.with_stem(f"test{path.parent.name}{path.stem}"))
    write_classes(folder / "unlabeled", 1, ("green",))
    return folder


@pytest.fixture
def server(images: Path) -> Iterator[FileServer]:
    with serve_file(Behavior(make_archive(images))) as started:
        yield started


@pytest.fixture
def known(images: Path, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownDataset:
    """Add a dataset to the registry, with a manifest of its images."""
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(sources, "KAGGLE", server.url)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    found = tuple(list_pixels(images, ("train", "test"), Progress()))
    write_manifest(tmp_path / "manifest.txt", Manifest(found, {"train": 18, "test": 4}))
    dataset = KnownDataset(
        "scenes",
        "Some scenes",
        "https://example.org/scenes",
        "not stated",
        (KnownSource("hf://datasets/someone/scenes/archive.zip"), KnownSource("kaggle://someone/scenes")),
        FOLDERS,
        tmp_path / "manifest.txt",
    )
    monkeypatch.setattr(fetch_module, "read_registry", lambda: {"scenes": dataset})
    return dataset


@pytest.mark.usefixtures("known")
def test_a_known_dataset_is_read_as_it_is(server: FileServer) -> None:
    fetched = belvedere.fetch("scenes", progress=False)
    assert fetched.folder == Path("scenes")
    assert fetched.num_images == {"train": 18, "test": 4, "unlabeled": 1}
    assert fetched.comparison is not None
    assert fetched.comparison.num_same == fetched.comparison.num_listed == 22
    assert fetched.source == "hf://datasets/someone/scenes/archive.zip"
    assert fetched.to_dict()["folder"] == "scenes"
    dataset = load_dataset("scenes")
    assert {sample.split for sample in dataset.samples} == {"train", "test"}
    assert len(dataset.samples) == 22
    assert len(server.requests) == 1
    assert list_caches() == []
    assert sorted(path.name for path in Path("scenes").iterdir()) == [".belvedere", "test", "train", "unlabeled"]


@pytest.mark.usefixtures("known")
def test_the_second_source_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Warnings()
    with serve_file(Behavior(status=404)) as other:
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        fetched = fetch("scenes", progress=progress)
    assert fetched.source == "kaggle://someone/scenes"
    assert any("404" in line and "kaggle://" in line for line in progress.lines)


def test_a_pinned_checksum_is_checked(known: KnownDataset, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def pin(checksum: str) -> None:
        pinned = replace(known, sources=tuple(replace(source, sha256=checksum) for source in known.sources))
        monkeypatch.setattr(fetch_module, "read_registry", lambda: {"scenes": pinned})

    pin("0" * 64)
    with pytest.raises(FetchError, match="0000"):
        fetch("scenes", progress=False)
    assert len(server.requests) == 2  # both sources
    pin(hashlib.sha256(server.behavior.content).hexdigest())
    progress = Warnings()
    assert fetch("scenes", progress=progress).folder.is_dir()
    assert not any("pinned" in line for line in progress.lines)


@pytest.mark.usefixtures("known")
def test_another_mirror_is_accepted_and_its_differences_are_named(images: Path, tmp_path: Path) -> None:
    (images / "test/red/testred0.png").unlink()
    archive = tmp_path / "mirror.zip"
    archive.write_bytes(make_archive(images, {"green/3.png": "unknown"}))
    progress = Warnings()
    fetched = fetch("scenes", "mirror", archive=archive, progress=progress)
    assert fetched.comparison is not None
    assert fetched.comparison.missing == ("test/red/testred0",)
    assert archive.is_file()
    assert fetched.comparison.other_label == ("train/unknown/3 (listed as green)",)
    assert {name for warning in progress.warnings for name in warning.names} == {
        *fetched.comparison.missing,
        *fetched.comparison.other_label,
    }


@pytest.mark.usefixtures("known")
def test_an_interrupted_fetch_begins_again(server: FileServer) -> None:
    """As after `kill -9` while files are unpacked; another unfinished folder stays."""
    partial = Path("scenes.partial")
    (partial / "train" / "old").mkdir(parents=True)
    (partial / ".belvedere").touch()
    with pytest.raises(OutputExistsError):
        fetch("scenes", progress=False)
    assert server.requests == []
    (partial / UNPACKING).touch()
    fetch("scenes", progress=False)
    assert not partial.exists()
    assert not Path("scenes/train/old").exists()
    assert not Path("scenes", UNPACKING).exists()


@pytest.mark.usefixtures("known")
def test_existing_folders_are_replaced_only_if_they_are_ours(server: FileServer) -> None:
    Path("mine").mkdir()
    Path("mine/1.png").touch()
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError):
            fetch("scenes", "mine", overwrite=overwrite, progress=False)
    assert server.requests == []
    fetch("scenes", progress=False)
    with pytest.raises(OutputExistsError):
        fetch("scenes", progress=False)
    Path("scenes/train/red/0.png").unlink()
    assert fetch("scenes", overwrite=True, progress=False).num_images["train"] == 18


@pytest.mark.usefixtures("known")
def test_a_refused_archive_leaves_nothing(server: FileServer) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../1.png", b"x")
    server.behavior.content = packed.getvalue()
    with pytest.raises(ArchiveError):
        fetch(f"{server.url}/flowers.zip", progress=False)
    server.behavior.content = packed.getvalue()[:-5]
    with pytest.raises(ArchiveError, match="damaged"):
        fetch(f"{server.url}/flowers.zip", progress=False)
    table = pa.table({"image": [bytes(100)], "label": ["a"]})
    damaged = io.BytesIO()
    pq.write_table(table, damaged)
    server.behavior.content = b"PAR1" + b"\xff" * 20 + damaged.getvalue()[24:]  # the header of the first page
    with pytest.raises(ArchiveError, match="damaged") as raised:
        fetch(f"{server.url}/flowers.parquet", progress=False)
    assert isinstance(raised.value.__cause__, OSError)
    assert not list(Path.cwd().glob("flowers*"))
    assert list_caches() == []


@pytest.mark.usefixtures("known")
def test_archives_of_ones_own(server: FileServer, images: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((images / "train").rglob("*.png")):
            archive.write(path, f"flowers/{path.parent.name}/{path.name}")
    server.behavior.content = packed.getvalue()
    fetched = fetch(f"{server.url}/files/flowers.zip?raw=1", keep_archive=True, progress=False)
    assert fetched.folder == Path("flowers")
    assert fetched.num_images == {"blue": 6, "green": 6, "red": 6}
    assert (fetched.comparison, fetched.license) == (None, "not stated")
    assert [cached.kind for cached in list_caches()] == ["downloads"]
    Path("local.zip").write_bytes(packed.getvalue())
    assert fetch("local.zip", progress=False).num_images == fetched.num_images


@pytest.mark.usefixtures("known")
def test_parquet_files_of_the_hub(server: FileServer, images: Path) -> None:
    paths = sorted((images / "train").rglob("*.png"))
    table = pa.table(
        {"image": [{"bytes": path.read_bytes()} for path in paths], "label": [path.parent.name for path in paths]}
    )
    packed = io.BytesIO()
    pq.write_table(table, packed)
    server.behavior.content = packed.getvalue()
    server.behavior.listing = b'{"siblings": [{"rfilename": "train-0.parquet"}, {"rfilename": "test-0.parquet"}]}'
    fetched = fetch("hf://datasets/someone/colors", progress=False)
    assert fetched.num_images == {"train": 18, "test": 18}
    assert {sample.label for sample in load_dataset("colors").samples} == {"blue", "green", "red"}


@pytest.mark.usefixtures("known")
def test_wrong_arguments_ask_for_nothing(server: FileServer) -> None:
    with pytest.raises(UsageError, match="`archive`"):
        fetch("kaggle://a/b", archive="x.zip", progress=False)
    with pytest.raises(UsageError, match="`out`"):
        fetch("https://example.org/", progress=False)
    with pytest.raises(UsageError, match="`max_bytes`"):
        fetch("scenes", max_bytes=0, progress=False)
    with pytest.raises(UsageError, match="such"):
        fetch("intel-scene", progress=False)
    with pytest.raises(UsageError):
        fetch("scenes", archive="none.zip", progress=False)
    assert server.requests == []
