"""Labeling a folder: which images are asked about, what is recorded, and the page in a browser."""

import json
import math
import re
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

import belvedere
from belvedere.data.corrections.corrections_file import CorrectionsFile
from belvedere.data.dataset import load_dataset
from belvedere.errors import BelvedereError, DatasetError, OutputExistsError, UsageError
from belvedere.inference.embeddings import model_embedder
from belvedere.inference.model import load_model
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.labeling import output
from belvedere.reviewing.labeling.app import create_app
from belvedere.reviewing.labeling.estimate import estimate_accuracy, forecast, predict_out_of_fold
from belvedere.reviewing.labeling.labels import LabelStore, default_labels_file
from belvedere.reviewing.labeling.order import (
    NO_CLASS,
    RANDOM,
    RARE,
    TYPICAL,
    UNLABELED,
    QuestionOrder,
    find_random_sample,
    find_rare_classes,
)
from belvedere.reviewing.labeling.pool import Pool, read_pool
from belvedere.reviewing.labeling.probe import Features, fit_probe, make_features
from belvedere.reviewing.labeling.session import LabelingSession
from belvedere.reviewing.labeling.views import LabelContext
from belvedere.reviewing.queue import LOCK_SECONDS
from belvedere.runtime.network import listen
from belvedere.runtime.progress import Progress
from belvedere.training.recipes import RECIPES
from conftest import CLASS_NAMES, new_id, write_classes, write_image
from review_server import LabelServer, open_browser, open_page, open_review, press, settle

TAB, OTHER = "ab" * 8, "cd" * 8
HEADERS = {"Origin": "http://127.0.0.1"}


def make_clusters(sizes: tuple[int, ...], seed: int = 0) -> tuple[Features, np.ndarray[Any, Any]]:
    """Return features of well separated classes, and the classes, in a random order."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = 3 * np.eye(8)[: len(sizes)]
    values = (centers[labels] + 0.5 * random.normal(size=(len(labels), 8))).astype(np.float32)
    return make_features(values)[0], labels


# -- which images are asked about


def test_typical_images_come_from_all_clusters_and_a_tenth_is_random() -> None:
    features, truth = make_clusters((60, 60, 60))
    order = QuestionOrder(features, np.random.default_rng(1).permutation(180))
    labels = np.full(180, UNLABELED)
    reasons = []
    for _ in range(20):
        [question] = order.choose(labels, labels == UNLABELED, None)
        labels[question.row] = truth[question.row]
        reasons.append(question.reason)
    assert reasons.count(RANDOM) == 2
    assert reasons.count(TYPICAL) == 18
    assert set(labels[labels >= 0]) == {0, 1, 2}


def test_rare_classes_are_sought_and_found() -> None:
    features, truth = make_clusters((150, 150, 8))
    order = QuestionOrder(features, np.random.default_rng(2).permutation(308))
    labels = np.full(308, UNLABELED)
    for row in [*np.flatnonzero(truth < 2)[:40], np.flatnonzero(truth == 2)[0]]:
        labels[row] = truth[row]
    assert find_rare_classes(labels, 3) == [2]
    sought = []
    for _ in range(24):
        rows = np.flatnonzero(labels >= 0)
        probabilities = fit_probe(features, rows, labels[rows], 3).probabilities(features.values)
        order.typical = []  # as if they had been labeled
        [question] = order.choose(labels, labels == UNLABELED, probabilities)
        labels[question.row] = truth[question.row]
        sought.append(question.reason)
    assert RARE in sought
    assert (labels == 2).sum() >= 6


def test_a_class_that_the_probe_does_not_have_yet_is_not_sought() -> None:
    features, truth = make_clusters((30, 30, 8))
    order = QuestionOrder(features, np.random.default_rng(2).permutation(68))
    labels = np.full(68, UNLABELED)
    for label in range(2):
        labels[np.flatnonzero(truth == label)[:12]] = label
    rows = np.flatnonzero(labels >= 0)
    probabilities = fit_probe(features, rows, labels[rows], 3).probabilities(features.values)
    labels[np.flatnonzero(truth == 2)[0]] = 2  # after the fit
    order.typical = []
    found = order.choose(labels, labels == UNLABELED, probabilities, 20)
    assert len(found) == 20
    assert RARE not in {each.reason for each in found}


def test_the_random_sample_ends_at_the_first_open_image() -> None:
    order = np.array([3, 1, 0, 2])
    labels = np.array([0, NO_CLASS, UNLABELED, 1])
    assert find_random_sample(labels, order).tolist() == [3, 1, 0]
    labels[1] = UNLABELED
    assert find_random_sample(labels, order).tolist() == [3]
    assert find_random_sample(labels, order, skipped={1}).tolist() == [3, 0]


def test_questions_end_with_the_images() -> None:
    features, _ = make_clusters((3, 3))
    order = QuestionOrder(features, np.arange(6))
    labels = np.full(6, UNLABELED)
    assert sorted(each.row for each in order.choose(labels, labels == UNLABELED, None, 10)) == list(range(6))
    assert order.choose(np.zeros(6, np.int64), np.zeros(6, bool), None) == []


# -- probe and estimates


def test_a_probe_predicts_classes_and_gives_unseen_ones_no_probability() -> None:
    features, truth = make_clusters((40, 40, 40))
    rows = np.flatnonzero(truth < 2)[:20]
    probabilities = fit_probe(features, rows, truth[rows], 3).probabilities(features.values)
    assert np.all(probabilities[:, 2] == 0)
    seen = truth < 2
    assert (probabilities[seen].argmax(1) == truth[seen]).mean() > 0.95
    alone = fit_probe(features, rows[:1], np.array([1]), 3).probabilities(features.values)
    assert np.allclose(alone[:, 1], 1)


def test_the_accuracy_is_that_of_random_images() -> None:
    features, truth = make_clusters((80, 80), seed=3)
    truth = np.where(np.random.default_rng(4).random(160) < 0.2, 1 - truth, truth)  # a fifth cannot be predicted
    labels = truth.copy()
    out_of_fold = predict_out_of_fold(features, labels, 2)
    assert out_of_fold is not None
    probe = fit_probe(features, np.arange(160), labels, 2)
    found = estimate_accuracy(features, out_of_fold, np.arange(160), probe)
    assert found is not None
    plain = float((out_of_fold.logits.argmax(1) == labels).mean())
    assert math.isclose(found.value, plain, abs_tol=0.02)
    assert found.low < plain < found.high
    assert estimate_accuracy(features, out_of_fold, np.arange(5), probe) is None
    expected = forecast(features, labels, found, 2, seed=0)
    assert expected is not None
    assert 0 <= expected.gain < 1 - found.value
    assert predict_out_of_fold(features, np.zeros(160, np.int64), 2) is None


def test_confidence_does_not_count_where_images_of_no_class_are_in_the_pool() -> None:
    features, truth = make_clusters((80, 80, 80), seed=5)
    labels = np.where(truth == 2, NO_CLASS, truth)
    labels[::7] = np.where(truth[::7] == 2, NO_CLASS, 1 - truth[::7])  # cannot be predicted
    labels[120:] = UNLABELED
    out_of_fold = predict_out_of_fold(features, labels, 2)
    assert out_of_fold is not None
    probe = fit_probe(features, out_of_fold.rows, out_of_fold.labels, 2)
    no_class = np.flatnonzero(labels == NO_CLASS)
    found = estimate_accuracy(features, out_of_fold, np.arange(120), probe, no_class)
    assert found is not None
    assert found.sample_size == 120 - len(no_class)
    assert math.isclose(found.value, float((out_of_fold.logits.argmax(1) == out_of_fold.labels).mean()))


# -- labels


@pytest.fixture
def pool(tmp_path: Path, tiny_model: Path) -> Pool:
    return read_pool(write_classes(tmp_path / "images", 8), model_embedder(load_model(tiny_model)), Progress())


def open_store(pool: Pool, *classes: str) -> LabelStore:
    return LabelStore(pool, CorrectionsFile(default_labels_file(pool.source)), classes)


class Client(TestClient):
    """The page without a browser."""

    def __init__(self, pool: Pool, *classes: str) -> None:
        self.session = LabelingSession(pool, open_store(pool, *classes))
        context = LabelContext(self.session, Gallery(), "Ana")
        super().__init__(create_app(context, RequestGuard("127.0.0.1")), base_url="http://127.0.0.1")

    def change(self, path: str, **content: object) -> dict[str, Any]:
        body = {"id": new_id(), "tab": TAB, "annotator": "", **content}
        answer = self.post(path, json=body, headers=HEADERS)
        return {"status": answer.status_code, **answer.json()}

    def ask(self, tab: str = TAB, *, grid: bool = False) -> list[int]:
        page = self.get("/questions/next", params={"tab": tab, "grid": grid})
        assert page.status_code == 200
        return [int(row) for row in re.findall(r'data-row="(\d+)"', page.text)]


def test_labels_survive_and_are_undone_after_a_restart(pool: Pool) -> None:
    client = Client(pool, "blue", "green")
    rows = client.ask()
    assert len(rows) == 1
    first = client.change("/labels", rows=rows, label="blue")
    client.change("/labels", rows=[(rows[0] + 1) % 24, (rows[0] + 2) % 24], label="teal", is_new=True)
    client.change("/labels", rows=[(rows[0] + 3) % 24], label=None)
    client.change("/tags", rows=rows, tags=["teal"])
    again = Client(pool, "blue", "green").session.store
    assert again.class_names == ("blue", "green", "teal")
    assert again.labels[rows[0]] == 0
    assert again.tags[rows[0]] == ("teal",)
    assert again.counts() == {"blue": 1, "green": 0, "teal": 2}
    assert (again.labels == NO_CLASS).sum() == 1
    assert again.num_left() == 20
    other = Client(pool, "blue", "green")
    same = new_id()
    for _ in range(2):  # repeated, as after a lost response
        assert other.change("/undo", id=same, step=first["step"])["row"] == rows[0]
    assert other.change("/undo", step=first["step"])["status"] == 409
    client.session.store.refresh()
    assert client.session.store.labels[rows[0]] == UNLABELED
    [step] = [each for each in other.session.store.steps() if len(each.decisions) == 2]
    assert [each.decisions[0].action for each in other.session.store.steps(2)] == ["tag", "exclude"]  # latest first
    other.change("/undo", step=step.id)  # both images at once, and with them the class
    assert other.session.store.class_names == ("blue", "green", "teal")  # the tag still has it


def test_labels_of_another_process_and_undone_ones_change_only_their_images(pool: Pool) -> None:
    """New decisions are applied to the state before them, which must be that of all decisions."""
    client, other = Client(pool, "blue"), Client(pool, "blue")
    client.change("/labels", rows=[0, 1], label="green", is_new=True)
    second = other.change("/labels", rows=[1, 2], label=None)
    other.change("/tags", rows=[0], tags=["green"])
    other.change("/tags", rows=[0], tags=[])
    client.ask()
    other.change("/undo", step=second["step"])
    client.ask()
    for store in (client.session.store, other.session.store):
        fresh = open_store(pool, "blue")
        assert store.class_names == fresh.class_names == ("blue", "green")
        assert store.labels.tolist() == fresh.labels.tolist() == [1, 1, *[UNLABELED] * 22]
        assert store.tags == fresh.tags == {}
        assert store.steps() == fresh.steps()


def test_a_request_counts_once(pool: Pool) -> None:
    client = Client(pool, "blue")
    same = new_id()
    for _ in range(2):
        assert client.change("/labels", id=same, rows=[0, 1], label="blue")["status"] == 200
    assert len(client.session.store.corrections_file.decisions) == 2


@pytest.mark.parametrize("label", ["blue", None])
def test_an_undo_with_the_id_of_a_label_is_refused(pool: Pool, label: str | None) -> None:
    client = Client(pool, "blue")
    first, second = (client.change("/labels", rows=[row], label=label) for row in range(2))
    assert client.change("/undo", id=first["step"], step=second["step"])["status"] == 409
    assert len(client.session.store.steps()) == 2


def test_the_name_of_a_new_class_is_normalized(pool: Pool) -> None:
    client = Client(pool, "blue")
    assert client.change("/labels", rows=[0], label="  deep  fjord ", is_new=True)["status"] == 200
    assert client.session.store.class_names == ("blue", "deep fjord")


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/labels", {"rows": [0], "label": "purple"}, 409),
        ("/labels", {"rows": [0], "label": "train", "is_new": True}, 409),
        ("/labels", {"rows": [0], "label": "BLUE", "is_new": True}, 409),
        ("/labels", {"rows": [24], "label": "blue"}, 409),
        ("/labels", {"rows": [-1], "label": "blue"}, 422),
        ("/labels", {"rows": [], "label": "blue"}, 422),
        ("/tags", {"rows": [0], "tags": ["purple"]}, 409),
        ("/skip", {"rows": [99]}, 409),
        ("/undo", {"step": "0" * 24}, 409),
    ],
)
def test_wrong_requests_record_nothing(pool: Pool, path: str, content: dict[str, object], status: int) -> None:
    client = Client(pool, "blue")
    assert client.change(path, **content)["status"] == status
    assert client.session.store.corrections_file.decisions == ()
    assert client.post(path, json={}, headers={"Origin": "http://elsewhere"}).status_code == 403


def test_pages_get_different_images(pool: Pool) -> None:
    now = [0.0]
    client = Client(pool, "blue")
    client.session._clock = lambda: now[0]
    first, second = client.ask(TAB), client.ask(OTHER)
    assert first != second
    assert client.ask(TAB) == first  # until it is answered
    assert client.get(f"/questions/{second[0]}", params={"tab": TAB}).status_code == 200
    client.change("/skip", rows=first)
    assert client.ask(TAB) not in (first, second)
    now[0] = LOCK_SECONDS + 1
    for row in set(range(24)) - {*first, *second}:
        client.change("/labels", rows=[row], label="blue")
    assert client.ask(TAB) == second  # what the other page has had open for too long
    client.change("/labels", rows=second, label="blue")
    assert client.ask(TAB) == []
    assert "Show 1 skipped" in client.get("/end", params={"tab": TAB}).text
    client.change("/skip")
    assert client.ask(TAB) == first


def test_a_grid_of_images_that_another_page_has_open_is_not_empty(pool: Pool) -> None:
    client = Client(pool, "blue")
    last = client.session.order.random_order[:1].tolist()
    assert client.ask(OTHER) == last  # the first question is random
    client.change("/labels", rows=[row for row in range(24) if row not in last], label="blue")
    for _ in range(2):
        assert client.ask(TAB, grid=True) == last


def test_an_image_of_no_class_gets_a_class_after_it_was_moved(pool: Pool) -> None:
    client = Client(pool, "blue")
    client.change("/labels", rows=[0], label=None)
    moved = replace(pool, samples=(replace(pool.samples[0], name="moved.png"), *pool.samples[1:]))
    again = Client(moved, "blue")
    assert again.session.store.labels[0] == NO_CLASS
    again.change("/labels", rows=[0], label="blue")
    assert again.session.store.labels[0] == 0
    again.change("/labels", rows=[0], label=None)
    assert again.session.store.labels[0] == NO_CLASS


def test_a_grid_has_similar_images_of_one_prediction(pool: Pool) -> None:
    client = Client(pool, *CLASS_NAMES)
    session = client.session
    truth = [CLASS_NAMES.index(Path(sample.name).parts[0]) for sample in pool.samples]
    for label in range(3):
        client.change("/labels", rows=[truth.index(label)], label=CLASS_NAMES[label])
    assert session.fit_once()
    while rows := client.ask(grid=True):
        assert len({truth[row] for row in rows}) == 1
        page = client.get("/questions/next", params={"tab": TAB, "grid": True}).text
        assert f'"{CLASS_NAMES[truth[rows[0]]]}" aria-keyshortcuts="{truth[rows[0]] + 1} Enter"' in page
        client.change("/labels", rows=rows, label=CLASS_NAMES[truth[rows[0]]])
    counts = session.store.counts()
    assert counts == dict.fromkeys(CLASS_NAMES, 8)
    shown = client.get("/labeled", params={"tab": TAB, "class_name": "green"}).text
    assert len(re.findall("data-row=", shown)) == counts["green"]
    assert client.get("/labeled", params={"tab": TAB, "class_name": "purple"}).status_code == 409


def test_suggestions_name_the_right_class_after_an_undo_removes_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(pool)
    session = client.session
    rows = {name: [row for row, each in enumerate(pool.samples) if each.name.startswith(name)] for name in CLASS_NAMES}
    first, second, third = CLASS_NAMES
    oldest = client.change("/labels", rows=rows[first][:2], label=first, is_new=True)
    client.change("/labels", rows=rows[second][:6], label=second, is_new=True)
    client.change("/labels", rows=rows[third][:2], label=third, is_new=True)  # a rare class
    assert session.fit_once()
    session.order.typical = []  # as if they had been labeled
    monkeypatch.setattr(session.order, "random_shortage", lambda *_: 0)
    assert "Perhaps" in client.get("/questions/next", params={"tab": TAB}).text
    client.change("/undo", step=oldest["step"])  # before the next fit
    assert session.store.class_names == (second, third)
    for name in (second, third):
        assert (session.suggest(rows[name][-1]) or ("",))[0] == name
    assert f"Is this {third}?" in client.get(f"/questions/{rows[third][-1]}", params={"tab": OTHER}).text
    shown = client.get("/questions/next", params={"tab": "ef" * 8}).text
    assert f"Perhaps {third}" in shown
    assert f'class="path">{third}/' in shown  # the rare class is sought by its own probabilities
    assert first not in session.class_probabilities(0)
    client.change("/labels", rows=[0], label="new", is_new=True)
    assert session.class_probabilities(0)["new"] == 0


def test_the_panel_tells_the_accuracy_once_it_is_known(pool: Pool) -> None:
    client = Client(pool, *CLASS_NAMES)
    assert "Known after" in client.get("/panel").text
    assert not client.session.fit_once()
    for row, sample in enumerate(pool.samples):
        client.change("/labels", rows=[row], label=Path(sample.name).parts[0])
    client.session.fit_once()
    assert 'id="accuracy">100.0%' in client.get("/panel").text
    for step in client.session.store.steps():
        client.change("/undo", step=step.id)
    assert not client.session.fit_once()
    assert "Known after" in client.get("/panel").text
    assert (client.session.curve, client.session.forecast, client.session.recalls) == ([], None, {})


def test_the_table_of_labels_is_a_dataset(pool: Pool) -> None:
    client = Client(pool, "blue", "green")
    assert "no labels yet" in client.get("/end", params={"tab": TAB}).text
    client.change("/labels", rows=[0, 1], label="blue")
    client.change("/labels", rows=[9], label="green")
    client.change("/labels", rows=[10], label=None)
    client.change("/tags", rows=[0], tags=["green"])
    for _ in range(2):  # an older table is replaced
        assert "belvedere train" in client.get("/end", params={"tab": TAB}).text
    table = pool.source.with_name("images.labels.csv")
    dataset = load_dataset(table)
    assert dataset.class_names == ("blue", "green")
    found = {(sample.path, sample.label, sample.extra_labels) for sample in dataset.samples}
    paths = [sample.path.absolute() for sample in pool.samples]
    assert found == {(paths[0], "blue", ("green",)), (paths[1], "blue", ()), (paths[9], "green", ())}
    table.write_text("image,label\n")
    assert client.get("/end", params={"tab": TAB}).status_code == 409
    assert table.read_text() == "image,label\n"


def test_identical_files_are_one_image_and_unreadable_ones_are_named(tmp_path: Path, tiny_model: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name, "red")
    write_image(tmp_path / "images" / "c.png", "blue")
    (tmp_path / "images" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    pool = read_pool(tmp_path / "images", model_embedder(load_model(tiny_model)), Progress())
    assert [sample.name for sample in pool.samples] == ["a.png", "c.png"]
    assert pool.copies == {pool.hashes[0]: (tmp_path / "images" / "b.png",)}
    assert any("torn.jpg" in name for warning in pool.warnings for name in warning.names)


def test_warnings_of_a_table_are_those_of_its_pool(tmp_path: Path, tiny_model: Path) -> None:
    write_image(tmp_path / "a.png", "red")
    (table := tmp_path / "t.csv").write_text("image,label,weather\na.png,a,sunny\n")
    pool = read_pool(table, model_embedder(load_model(tiny_model)), Progress())
    assert any("weather" in warning.message for warning in pool.warnings)


def test_paths_of_a_table_are_relative_to_root(tmp_path: Path, tiny_model: Path) -> None:
    images, embedder = write_classes(tmp_path / "images", 2), model_embedder(load_model(tiny_model))
    (table := tmp_path / "t.csv").write_text("image,label\nred/0.png,a\nblue/1.png,a\n")
    found = read_pool(table, embedder, Progress(), images)
    assert [sample.path for sample in found.samples] == [images / "red" / "0.png", images / "blue" / "1.png"]
    with pytest.raises(UsageError):
        read_pool(images, embedder, Progress(), images)
    with pytest.raises(DatasetError):
        read_pool(tmp_path / "missing.csv", embedder, Progress(), images)


# -- the function and the command


def test_labeling_in_a_thread(tmp_path: Path, tiny_model: Path) -> None:
    images = write_classes(tmp_path / "images", 4)
    with belvedere.label(images, classes=["blue"], model=tiny_model, port=0, block=False, progress=False) as running:
        assert running.is_running
        assert running.summary.num_left == 12
        assert running.summary.table is None
    assert not running.is_running


def test_classes_of_the_labels_file_keep_their_spelling(pool: Pool, tiny_model: Path) -> None:
    Client(pool, "cat").change("/labels", rows=[0], label="cat")
    options: dict[str, Any] = {"model": tiny_model, "port": 0, "block": False, "progress": False}
    with belvedere.label(pool.source, classes=["Dog", "Cat"], **options) as running:
        assert running.summary.counts == {"Dog": 0, "cat": 1}


def test_nothing_is_written_beside_a_disk(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        belvedere.label(tmp_path.anchor, port=0, block=False, progress=False)
    with pytest.raises(UsageError):
        output.output_folders(tmp_path / "a.labels.jsonl", tmp_path.anchor)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": ["none of these"]},
        {"classes": ["cat", "Cat"]},
        {"network": "x", "model": "y"},
        {"corrections": "a.png"},
        {"corrections": "labels.csv"},
    ],
)
def test_wrong_arguments(tmp_path: Path, tiny_model: Path, options: dict[str, Any]) -> None:
    write_image(tmp_path / "a.png", "red")
    if "corrections" in options:
        options = {"corrections": tmp_path / options["corrections"]}
    with pytest.raises(UsageError):
        belvedere.label(tmp_path, **{"model": tiny_model, **options}, port=0, block=False, progress=False)


def test_a_table_of_images_is_not_replaced(tmp_path: Path, tiny_model: Path) -> None:
    """It may have the columns of a table of labels, as a selection of a map does."""
    image = write_image(tmp_path / "a.png", "red")
    table = tmp_path / "images.csv"
    table.write_text(content := f"{','.join(output.HEADER)}\n{image},red,\n")
    options: dict[str, Any] = {"model": tiny_model, "port": 0, "block": False, "progress": False}
    with pytest.raises(UsageError):
        belvedere.label(table, corrections=tmp_path / "images.jsonl", **options)
    with belvedere.label(table, corrections=tmp_path / "other.jsonl", **options) as running:
        assert running.summary.num_left == 1
    assert table.read_text() == content


@pytest.mark.parametrize(
    ("name", "run"),
    [("images.labels.jsonl", "images-run"), ("a.jsonl", "a-run"), ("2026.10.jsonl", "2026.10-run")],
)
def test_a_run_is_named_after_its_labels(name: str, run: str) -> None:
    assert output.output_folders(Path("a", name), None) == (Path("a", run), Path("a", f"{run}-small"))


def test_a_port_in_use_is_found_before_images_are_read(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            belvedere.label(tmp_path / "missing", port=port, block=False, progress=False)


@pytest.mark.parametrize(
    ("num_labeled", "options", "recipe"),
    [(1, {}, "probe"), (2, {}, "quick"), (2, {"network": "a b"}, "probe --network 'a b'")],
)
def test_the_recipe_depends_on_labels_and_network(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, num_labeled: int, options: dict[str, str], recipe: str
) -> None:
    monkeypatch.setattr(output, "MIN_QUICK", 2)
    client = Client(pool, "blue")
    client.change("/labels", rows=list(range(num_labeled)), label="blue")
    store = client.session.store
    [planned] = output.plan_trainings(store, Path("a.labels.csv"), options)
    run = pool.source.with_name("images-run")
    assert planned.command == f"belvedere train a.labels.csv --recipe {recipe} --out {run}"
    monkeypatch.setattr(output, "MIN_DISTILLED", 2)
    first, second = output.plan_trainings(store, Path("a.labels.csv"), options, Path("b"))
    assert first.out == Path("b")
    assert second.command == f"belvedere train a.labels.csv --teacher b --unlabeled {pool.source} --out b-small"
    assert output.plan_trainings(store, None, options) == []


class LastPage(Progress):
    """Ends a labeling by the button of the last page, once its address is known."""

    text = ""

    def log(self, message: str) -> None:
        if message.startswith("Label: "):
            threading.Thread(target=self.end, args=[message.split()[1].split("/")[2]]).start()

    def end(self, host: str) -> None:
        try:
            self.request_end(host)
        except BaseException:
            interrupt_main()  # the labeling would wait forever
            raise

    def request_end(self, host: str) -> None:
        connection = HTTPConnection(host, timeout=60)
        connection.request("GET", f"/end?tab={TAB}")
        self.text = connection.getresponse().read().decode()
        body = json.dumps({"id": new_id(), "tab": TAB})
        headers = {"Origin": f"http://{host}", "Content-Type": "application/json"}
        connection.request("POST", "/end", body, headers)
        assert connection.getresponse().status == 200
        connection.close()


def test_the_labels_are_trained_on_at_the_end(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last page ends the server; then the calls of the shown commands train, with recipes without weights."""
    monkeypatch.setattr(output, "MIN_QUICK", 2)
    monkeypatch.setattr(output, "MIN_DISTILLED", 5)
    small = replace(RECIPES["quick"], epochs=1, min_steps=0, batch_size=16, image_size_schedule=((0.0, 32.0),))
    images = write_classes(tmp_path / "images", 16)
    client = Client(read_pool(images, model_embedder(load_model(tiny_model)), Progress()), *CLASS_NAMES)
    assert client.change("/end")["status"] == 405  # only with `train`
    for row, sample in enumerate(client.session.pool.samples):
        if int(Path(sample.name).stem) < 10:
            client.change("/labels", rows=[row], label=Path(sample.name).parts[0])
    page = LastPage()
    options: dict[str, Any] = {"model": tiny_model, "port": 0, "train": True}
    with RECIPES.scoped("quick", small), RECIPES.scoped("standard", replace(small, name="standard")):
        summary = belvedere.label(images, progress=page, **options)
    assert 'data-action="end"' in page.text
    assert [run.folder for run in summary.runs] == [tmp_path / "images-run", tmp_path / "images-run-small"]
    assert [run.metrics["recipe"] for run in summary.runs] == ["quick", "standard"]
    assert summary.runs[1].report.exists()
    for wrong in ({}, {"out": tmp_path}, {"out": images, "overwrite": True}):  # before any work
        with pytest.raises(OutputExistsError):
            belvedere.label(tmp_path / "images", **options, **wrong)
    with pytest.raises(UsageError):
        belvedere.label(images, **options, block=False)


def test_folders_without_images(tmp_path: Path, tiny_model: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BelvedereError, match=re.escape(str(folder))):
            belvedere.label(folder, model=tiny_model, port=0, block=False, progress=False)


# -- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


def test_two_tabs_a_kill_and_a_reload_lose_nothing(browser: Any, tmp_path: Path, tiny_model: Path) -> None:
    images = write_classes(tmp_path / "images", 30)
    truth = {f"{name}/{number}.png": name for name in CLASS_NAMES for number in range(30)}
    with open_review(images, LabelServer, "--classes", ",".join(CLASS_NAMES), "--model", str(tiny_model)) as server:
        context = browser.new_context()
        pages = [open_page(context, server), open_page(context, server)]
        said: dict[str, str] = {}
        for turn in range(16):
            page = pages[turn % 2]
            if turn == 8:
                server.kill()
                page.evaluate("void end()")
                page.wait_for_function("!busy")  # it is not repeated, which would end the next server
                server.start()
            if turn == 11:
                page.reload()
                settle(page)
            image = page.locator("figcaption .path").inner_text()
            press(page, str(CLASS_NAMES.index(truth[image]) + 1))
            said[image] = truth[image]
        found = {each.image: each.to[0] for each in server.decisions()}
        assert found == said
        server.end()
    rows = load_dataset(tmp_path / "images.labels.csv").samples
    assert {sample.path.relative_to(images).as_posix(): sample.label for sample in rows} == said


def test_images_of_a_grid_are_selected_once_all_classes_have_labels(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("belvedere.reviewing.labeling.views.MIN_LABELS", 6)
    monkeypatch.setattr("belvedere.reviewing.labeling.views.MIN_PROBABILITY", 0.0)
    client = Client(pool, *CLASS_NAMES)
    truth = [CLASS_NAMES.index(Path(sample.name).parts[0]) for sample in pool.samples]
    rows = {label: [row for row, each in enumerate(truth) if each == label] for label in range(3)}

    def num_selected() -> int:
        assert client.session.fit_once()
        return max(
            client.get(f"/questions/{row}", params={"tab": TAB, "grid": True, "similar": True}).text.count(
                'aria-pressed="true"'
            )
            for row in rows[0][-2:]
        )

    for label, number in ((0, 3), (1, 3), (2, 1)):
        client.change("/labels", rows=rows[label][:number], label=CLASS_NAMES[label])
    assert num_selected() == 0  # the third class has one label
    client.change("/labels", rows=rows[2][1:2], label=CLASS_NAMES[2])
    assert num_selected() > 0


def test_an_image_that_was_left_out_of_a_grid_is_not_selected_again(
    browser: Any, tmp_path: Path, tiny_model: Path
) -> None:
    images = write_classes(tmp_path / "images", 30, ["red", "blue"])
    with open_review(images, LabelServer, "--classes", "red,blue", "--model", str(tiny_model)) as server:
        page = open_page(browser.new_context(), server)
        for _ in range(26):
            path = page.locator("figcaption .path").inner_text()
            press(page, "1" if path.startswith("red") else "2")
        press(page, "g")
        selected = page.locator('button.tile[aria-pressed="true"]')
        selected.first.wait_for()
        left_out = {selected.first.get_attribute("data-row")}
        selected.first.click()
        left_out.add(selected.first.get_attribute("data-row"))
        selected.first.click()
        press(page, "Enter")
        for row in left_out:  # a grid of images like it
            page.evaluate(f"() => show('/questions/{row}', {{ similar: true }})")
            tile = page.locator(f'button.tile[data-row="{row}"]')
            assert tile.get_attribute("aria-pressed") == "false"


def test_a_grid_is_selected_by_click_range_and_lasso(browser: Any, tmp_path: Path, tiny_model: Path) -> None:
    images = write_classes(tmp_path / "images", 30, ["red"])
    with open_review(images, LabelServer, "--classes", "red", "--model", str(tiny_model)) as server:
        page = open_page(browser.new_context(), server)
        press(page, "1", "g")
        page.wait_for_selector("#tiles")
        tiles = page.locator("button.tile")
        selected = page.locator('button.tile[aria-pressed="true"]')
        assert selected.count() == 0  # too few labels for that
        page.keyboard.press("a")
        assert tiles.count() == selected.count() >= 6
        page.keyboard.press("a")
        tiles.nth(1).click()
        tiles.nth(4).click(modifiers=["Shift"])
        assert selected.count() == 4
        first, last = tiles.nth(0).bounding_box(), tiles.nth(2).bounding_box()
        page.mouse.move(first["x"] + 5, first["y"] + 5)
        page.mouse.down()
        page.mouse.move(last["x"] + 20, last["y"] + 20, steps=4)
        page.mouse.up()
        assert selected.count() == 3
        page.keyboard.press("n")
        page.locator("#new-name").fill("crimson")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('left').innerText.startsWith('26')")
        settle(page)
        assert [each.to for each in server.decisions()][1:] == [("crimson",)] * 3
        page.keyboard.press("u")
        page.wait_for_function("() => document.getElementById('left').innerText.startsWith('29')")
        assert json.loads(server.corrections.read_text().splitlines()[-1])["action"] == "undo"
