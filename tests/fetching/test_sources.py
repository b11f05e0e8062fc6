"""Sources: URLs, datasets of the hub and of Kaggle, and files."""

import json
import time
from pathlib import Path

import pytest

from belvedere.errors import FetchError, UsageError
from belvedere.fetching import sources
from belvedere.fetching.registry import read_registry
from belvedere.fetching.sources import HUB, KAGGLE, Source, default_name, find_file, find_source
from file_server import Behavior, serve_file

COMMIT = "a" * 40
DATASET = "hf://datasets/someone/flowers"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BACKOFF_SECONDS", 0.0)
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def listing(*names: str, **values: object) -> bytes:
    return json.dumps({"sha": COMMIT, "siblings": [{"rfilename": name} for name in names], **values}).encode()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://example.org/data/flowers.zip?x=1", "flowers"),
        ("https://example.org/a%20b.parquet", "a_b"),
        ("https://example.org/..%2f..%2fetc.zip", "etc"),
        ("https://example.org/", ""),
        ("https://example.org/v1.5", "v1.5"),
        (DATASET, "flowers"),
        (f"{DATASET}@main/data/x.zip", "flowers"),
        ("kaggle://someone/flowers", "flowers"),
        ("folder/flowers.zip", "flowers"),
    ],
)
def test_name_of_the_folder(source: str, name: str) -> None:
    assert default_name(source) == name


def test_a_file_of_the_hub_needs_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    [file] = find_source(f"{DATASET}@refs%2Fconvert%2Fparquet/my%20data/x y.zip".replace(" y", "%20y")).files
    assert file.url == f"{HUB}/datasets/someone/flowers/resolve/refs%2Fconvert%2Fparquet/my%20data/x%20y.zip"
    assert file.token == "secret"  # noqa: S105


def test_the_endpoint_is_honored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    [file] = find_source(f"{DATASET}/a.zip").files
    assert file.url == "https://mirror.example/datasets/someone/flowers/resolve/main/a.zip"


def test_kaggle() -> None:
    [file] = find_source("kaggle://someone/flowers", "0" * 64).files
    assert (file.url, file.token, file.sha256) == (f"{KAGGLE}/api/v1/datasets/download/someone/flowers", "", "0" * 64)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("README.md", "a.zip"), ["a.zip"]),
        (("data/test-0.parquet", "data/train-0.parquet", "a.zip"), ["data/test-0.parquet", "data/train-0.parquet"]),
    ],
)
def test_the_hub_is_asked_for_its_files(
    names: tuple[str, ...], chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = listing(*names, cardData={"license": ["mit", "cc0-1.0"]})
    with serve_file(Behavior(listing=content)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        found = find_source(f"{DATASET}@v1")
    assert server.requests[0][0] == "/api/datasets/someone/flowers/revision/v1"
    assert [file.name for file in found.files] == chosen
    assert all(f"/resolve/{COMMIT}/" in file.url for file in found.files)
    assert found.license == "mit, cc0-1.0"
    assert found.page == f"{server.url}/datasets/someone/flowers"


@pytest.mark.parametrize(
    "content",
    [
        *(listing("a.zip", "b.zip"), listing("README.md"), listing(), b"<html>", b"[]", b"{}", b"[" * 100_000),
        *(b'{"siblings": [1]}', b'{"siblings": 1}', b"\xff", b'"' + b"a" * 17_000_000),
    ],
    ids=lambda content: str(content[:20]),
)
def test_what_the_hub_cannot_tell_is_one_line(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_file(Behavior(listing=content)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(FetchError) as raised:
            find_source(DATASET)
    assert "\n" not in str(raised.value)


def find_in(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Source:
    with serve_file(Behavior(listing=content)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return find_source(DATASET)


def test_too_many_files_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="1,001"):
        find_in(listing(*(f"{number}.parquet" for number in range(1001))), monkeypatch)


@pytest.mark.parametrize("name", ["../x.zip", "a/../../x.parquet", "/x.zip", "..\\x.zip"])
def test_names_that_lead_out_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="x"):
        find_in(listing(name), monkeypatch)


def test_a_few_licenses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_in(listing("a.zip", cardData={"license": ["mit"] * 1000}), monkeypatch)
    assert found.license == "mit, mit, mit, mit, mit, and 995 more"


def test_a_listing_has_to_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LISTING_SECONDS", -1.0)
    with pytest.raises(FetchError, match="list"):
        find_in(listing("a.zip"), monkeypatch)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with serve_file(Behavior(status=status, headers={"Retry-After": "7"})) as server, monkeypatch.context() as patch:

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if is_back and len(waits) == 2:
                server.behavior.listing = listing("a.zip")

        patch.setattr(time, "sleep", wait)
        patch.setenv("HF_ENDPOINT", server.url)
        is_back = False
        with pytest.raises(FetchError, match=str(status)) as raised:
            find_source(DATASET)
        assert "HF_TOKEN" not in str(raised.value)
        assert (waits, len(server.requests)) == ([7.0, 7.0], 3)
        waits, is_back = [], True
        assert [file.name for file in find_source(DATASET).files] == ["a.zip"]


@pytest.mark.parametrize("source", [f"https://example.org/{'a' * 5000}", "a" * 5000, "a\0b"])
def test_what_cannot_be_a_path_is_no_file(source: str) -> None:
    assert find_file(source) is None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_dataset_that_is_not_there(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_file(Behavior(status=status)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(FetchError, match=f"{status}.*HF_TOKEN"):
            find_source(DATASET)
    assert len(server.requests) == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE"):
        find_source(DATASET)


@pytest.mark.parametrize(
    "source",
    [
        *(
            "hf://flowers",
            "hf://datasets/flowers",
            "hf://models/a/b",
            "hf://datasets/a/../b",
            "kaggle://a",
            "kaggle://a/b/c",
        ),
        *("a" * 5000, "a\0b"),
        *("http://example.org/a.zip", "ftp://example.org/a.zip", "file:///etc/passwd", "no-such-file.zip", "flowers"),
    ],
)
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises((UsageError, FetchError)) as raised:
        find_source(source)
    assert "\n" not in str(raised.value)


def test_a_file_on_this_disk(tmp_path: Path) -> None:
    (tmp_path / "a.zip").touch()
    assert find_source(str(tmp_path / "a.zip")).local == tmp_path / "a.zip"


def test_the_registry_is_valid() -> None:
    for known in read_registry().values():
        assert known.title
        assert known.license
        assert known.page.startswith("https://")
        assert known.manifest is None or known.manifest.is_file()
        for source in known.sources:
            assert find_source(source.url, source.sha256).files
