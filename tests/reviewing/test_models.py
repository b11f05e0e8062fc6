"""The model of a review: the one that is named, the run's, the audit's, the bundled one, or none."""

import json
from pathlib import Path
from typing import Any

import pytest

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.errors import InvalidModelError
from belvedere.inference.model import load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_paths import BUNDLED
from belvedere.reviewing.models import ReviewModels, find_models
from belvedere.runtime.progress import Progress
from conftest import CARD, CLASS_NAMES, model_bytes, write_classes

SCENES = load_model(BUNDLED).class_names


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def log(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "photos", 8)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "judge.onnx"
    file.write_bytes(model_bytes(card_to_metadata(CARD)))
    return file


def find(
    folder: Path, named: Path | None = None, names: tuple[str, ...] = CLASS_NAMES
) -> tuple[ReviewModels, list[str]]:
    heard = Heard()
    return find_models(folder, named, names, heard), heard.said


def describe(sight: ReviewModels, contents: HashedSamples) -> int:
    assert sight.embed is not None
    return len(sight.embed(contents, Progress()).values)


def test_the_audits_model_is_found_without_naming_it(photos: Path, model: Path, tmp_path: Path) -> None:
    """By its full path, although it was named by another; and where it is gone or changed, a line says so."""
    belvedere.audit(photos, model=model.name, near_duplicates=False, out=tmp_path / "audit")
    contents = hash_samples(load_dataset(photos).samples, Progress())
    sight, said = find(tmp_path / "audit")
    assert sight.model is not None
    assert (sight.model.sha256, said) == (load_model(model).sha256, [])
    assert describe(sight, contents) == 24
    for change in (lambda: model.write_bytes(BUNDLED.read_bytes()), lambda: model.unlink()):
        change()
        sight, [line] = find(tmp_path / "audit")
        assert sight.model is None
        assert str(model) in line
        assert "`model`" in line
        assert describe(sight, contents) == 24  # as it saw them in the audit
    named, said = find(tmp_path / "audit", BUNDLED)
    assert named.model is not None
    assert (named.model.sha256, said) == (load_model(BUNDLED).sha256, [])


def test_an_audit_without_a_network_has_the_bundled_model_or_none(photos: Path, model: Path, tmp_path: Path) -> None:
    belvedere.audit(photos, label_issues=False, out=tmp_path / "audit")
    assert find(tmp_path / "audit") == (ReviewModels(), [])
    sight, _ = find(tmp_path / "audit", names=SCENES)
    assert sight.model is not None
    assert sight.embed is not None
    model.rename(tmp_path / "model.onnx")
    sight, _ = find(tmp_path)  # a run
    assert sight.model is not None
    assert sight.model.class_names == CLASS_NAMES


@pytest.mark.parametrize(
    "network",
    [
        *(None, 3, [], {}, {"model": 3}, {"embeddings": "x"}, {"embeddings": "x", "embedding_dim": "8"}),
        {"model": None, "sha256": None, "embeddings": None, "embedding_dim": None},
    ],
)
def test_what_says_nothing_of_a_network_is_no_fault(tmp_path: Path, network: Any) -> None:
    (tmp_path / "audit.json").write_text(json.dumps({"network": network}))
    assert find(tmp_path) == (ReviewModels(), [])


def test_a_store_is_no_path(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps({"network": {"embeddings": "../../photos", "embedding_dim": 8}}))
    sight, _ = find(tmp_path)
    with pytest.raises(belvedere.BelvedereError):
        describe(sight, hash_samples(load_dataset(photos).samples, Progress()))


def test_a_model_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError):
        find(tmp_path, tmp_path / "gone.onnx")
