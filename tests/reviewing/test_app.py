"""The review without a browser: what it asks, what it answers, and whom it refuses."""

import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import belvedere
from belvedere.data.corrections.corrections_file import CorrectionsFile, active_decisions, read_corrections, utc_now
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.errors import UsageError
from belvedere.images.heatmap import overlay
from belvedere.inference.embeddings import Embeddings, model_embedder, read_embeddings
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.session import Cancellation
from belvedere.inference.writers.text import write_predictions
from belvedere.reviewing import images
from belvedere.reviewing.app import create_app
from belvedere.reviewing.auth import LOGIN_PATH, RequestGuard
from belvedere.reviewing.items import ReviewItems
from belvedere.reviewing.models import Embed
from belvedere.reviewing.neighbors import NeighborIndex
from belvedere.reviewing.queue import LOCK_SECONDS, Entry, Filter, Queue
from belvedere.reviewing.server import create_context, list_entries, load_data, review
from belvedere.reviewing.sources import read_items
from belvedere.reviewing.views import (
    CLASS_KEYS,
    ReviewContext,
    describe_item,
    describe_question,
    list_filters,
    read_filter,
    write_filter,
)
from belvedere.runtime.network import address_of, is_local, listen, url_of
from belvedere.runtime.parallel import running_threads
from belvedere.runtime.progress import Progress
from belvedere.runtime.serialization import write_csv
from belvedere.types.data import Decision, Sample
from conftest import CARD, CLASS_NAMES, make_pixels, make_prediction, model_bytes, new_id, write_classes, write_image
from review_server import open_review, write_run
from serve_process import endless_model

ORIGIN = "http://127.0.0.1"
TAB = "ab" * 8
OTHER = "cd" * 8
PATIENCE = 60  # seconds; far more than anything here takes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with six errors, and correct predictions that need no review."""
    answers = []
    for number in range(9):
        name = CLASS_NAMES[number % 3]
        image = str(write_image(tmp_path / "photos" / name / f"{number}.png", name, number + 1))
        said = number % 3 if number >= 6 else (number + 1) % 3
        sure = 0.9 - number / 100
        answers.append(make_prediction(image, name, *(sure if k == said else (1 - sure) / 2 for k in range(3))))
    answers.append(make_prediction(str(tmp_path / "torn.png"), "red"))
    (tmp_path / "run").mkdir()
    write_predictions(tmp_path / "run" / "predictions.csv", answers, CLASS_NAMES)
    return tmp_path / "run"


def make_scene(run: Path, model: Model | None = None) -> ReviewContext:
    found = read_items(run)
    entries, notes = list_entries(found, Progress())
    assert notes == []
    return create_context(run, found, Queue(entries, CorrectionsFile(run.parent / "j.jsonl")), model, "Ana")


@pytest.fixture
def scene(run: Path) -> ReviewContext:
    return make_scene(run)


@pytest.fixture
def client(scene: ReviewContext) -> Iterator[TestClient]:
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        yield client


def stems(entries: Any) -> list[str]:
    return [Path(entry.item.image).stem for entry in entries]


def list_images(page: str) -> list[str]:
    """The numbers of the images on a page, each once."""
    return list(dict.fromkeys(re.findall(r"/images/(\d+)/", page)))


def decide(client: TestClient, item: str, action: str = "keep", **values: Any) -> Any:
    body = {"id": hashlib.sha256(str(values).encode() + item.encode()).hexdigest(), "tab": TAB}
    return client.post("/decisions", json=body | {"item": item, "action": action} | values)


def test_most_confident_errors_of_a_run_come_first(scene: ReviewContext) -> None:
    assert stems(scene.queue.entries.values()) == ["0", "1", "2", "3", "4", "5"]
    first = next(iter(scene.queue.entries.values()))
    assert (first.item.label, first.item.suggested_label) == ("blue", "green")
    assert describe_question(first) == "blue, or green?"


def test_moved_images_are_found(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "moved")
    lost = read_items(run)
    assert (len(lost.items), len(lost.missing)) == (0, 6)
    dataset = load_dataset(tmp_path / "moved")
    found = read_items(run, dataset)
    assert (len(found.items), len(found.missing)) == (6, 0)


def test_the_dataset_is_read_as_the_audit_read_it(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", 2)  # a class, as those beside it
    write_image(tmp_path / "data" / "car" / "1.png", "red", 9)
    (tmp_path / "t.csv").write_text("image,label\n1.png,red\n")
    dataset = load_dataset(tmp_path / "data", layout="classes")
    table = load_dataset(tmp_path / "t.csv", root=tmp_path / "data" / "car")
    for number, each in enumerate((dataset, table)):
        out = tmp_path / f"audit{number}"
        belvedere.audit(each, out=out, label_issues=False, near_duplicates=False)
        assert load_data(out, None, None, Progress()) == each
    # A table whose images did not move, and both moved.
    (tmp_path / "t.csv").rename(tmp_path / "u.csv")
    assert (found := load_data(tmp_path / "audit1", tmp_path / "u.csv", None, Progress())) is not None
    assert found.samples == table.samples
    (tmp_path / "u.csv").rename(tmp_path / "t.csv")
    (tmp_path / "data").rename(moved := tmp_path / "moved")
    (tmp_path / "t.csv").rename(moved / "car" / "t.csv")
    for audit, data, names in (("audit0", moved, ("car", "train")), ("audit1", moved / "car" / "t.csv", ("red",))):
        found = load_data(tmp_path / audit, data, None, Progress())
        assert found is not None
        assert found.class_names == names


def test_groups_are_read_as_in_the_run(tmp_path: Path) -> None:
    write_classes(tmp_path / "images", 1, ["red"])
    (table := tmp_path / "t.csv").write_text("image,label,patient\nimages/red/0.png,red,7\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text('[run]\ngroup_by = "patient"\n')
    assert (found := load_data(tmp_path / "run", table, None, Progress())) is not None
    assert [sample.group for sample in found.samples] == ["7"]


def test_missing_image_is_not_replaced_by_another_of_its_name(run: Path, tmp_path: Path) -> None:
    """Neither by one of another class nor by one of another split."""
    photos = tmp_path / "photos"
    (photos / "blue" / "0.png").rename(photos / "red" / "0.png")
    found = read_items(run, load_dataset(photos))
    assert (len(found.items), found.missing) == (5, (str(photos / "blue" / "0.png"),))
    photos.rename(tmp_path / "train")
    write_classes(tmp_path / "both" / "test", 9)
    (tmp_path / "train").rename(tmp_path / "both" / "train")
    answers = [make_prediction(f"old/train/blue/{number}.png", "blue", 0.1, 0.8, 0.1) for number in (3, 4)]
    write_predictions(run / "predictions.csv", answers, CLASS_NAMES)
    found = read_items(run, load_dataset(tmp_path / "both"))
    assert [each.path for each in found.items] == [tmp_path / "both" / "train" / "blue" / "3.png"]
    assert found.missing == ("old/train/blue/4.png",)


def write_audit(folder: Path, issues: Sequence[dict[str, Any]], groups: Sequence[object] = ()) -> Path:
    folder.mkdir()
    (folder / "audit.json").write_text(json.dumps({"class_names": list(CLASS_NAMES), "groups": list(groups)}))
    columns = [
        "image",
        "issue_type",
        "issue_score",
        "is_issue",
        "label",
        "suggested_label",
        "suggested_probability",
        "label_probability",
        "sha256",
    ]
    usual: dict[str, Any] = {
        "issue_type": "label_issue",
        "issue_score": 0.9,
        "is_issue": "true",
        "suggested_label": "red",
        "suggested_probability": 0.8,
    }
    write_csv(folder / "issues.csv", columns, [[(usual | issue).get(name) for name in columns] for issue in issues])
    return folder


def test_images_of_an_audit_are_identified_by_content(tmp_path: Path) -> None:
    """Neither a missing image nor a changed one is matched by name."""
    photos = write_classes(tmp_path / "photos", 3)
    files = [photos / "blue" / f"{number}.png" for number in range(3)]
    issues = [
        {"image": str(file), "label": "blue", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in files
    ]
    twice = {"images": [str(files[0])] * 2, "labels": ["blue"] * 2, "splits": ["", ""], "similarity": 1.0}
    audit = write_audit(tmp_path / "audit", issues, [twice])
    files[0].unlink()
    write_image(files[1], "blue", 77)
    files[2].rename(photos / "red" / "2.png")
    found = read_items(audit, load_dataset(photos))
    assert [each.path for each in found.items] == [photos / "red" / "2.png"]
    assert found.missing == (str(files[0]), str(files[1]))


def test_label_probability_of_an_audit(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", 1)
    issue = {"image": str(photos / "blue" / "0.png"), "label": "blue", "label_probability": 0.0625}
    [item] = read_items(write_audit(tmp_path / "audit", [issue])).items
    assert item.probabilities == {"blue": 0.0625, "red": 0.8}


def write_table(tmp_path: Path) -> Path:
    """The images of the run as a table, the first with two extra labels, one of which is no class."""
    rows = [(str(path), path.parent.name, "") for path in sorted((tmp_path / "photos").rglob("*.png"))]
    rows[0] = (rows[0][0], "blue|red|fog", "train")
    write_csv(tmp_path / "photos.csv", ("image", "label", "split"), rows)
    return tmp_path / "photos.csv"


def test_extra_labels_of_a_table_are_shown_and_kept(run: Path, tmp_path: Path) -> None:
    entries, _ = list_entries(found := read_items(run, load_dataset(write_table(tmp_path))), Progress())
    scene = create_context(run, found, Queue(entries, CorrectionsFile(run.parent / "j.jsonl")), None, "Ana")
    assert (entries[0].item.extra_labels, entries[0].item.split) == (("red", "fog"), "train")

    def tagged() -> list[str]:
        rows: Any = describe_item(scene, entries[0], TAB, Filter())["classes"]
        return [row["name"] for row in rows if row["is_tagged"]]

    assert tagged() == ["red", "fog"]
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        assert decide(client, entries[0].id, "tag", to=["green", "fog"]).status_code == 200
        assert tagged() == ["green", "fog"]
        decide(client, entries[0].id, "tag", to=[])
    assert tagged() == []
    assert [each.split for each in scene.queue.corrections_file.decisions] == ["train", "train"]


def make_copies(folder: Path, labels: Sequence[str], parts: Sequence[str]) -> list[Entry]:
    """The items of a group of identical images."""
    images = [write_image(folder / f"{number}.png", "red") for number in range(len(labels))]
    group = {"images": list(map(str, images)), "labels": labels, "splits": parts, "similarity": 1.0}
    return list_entries(read_items(write_audit(folder / "audit", [], [group])), Progress())[0]


@pytest.mark.parametrize("parts", [["train", "test"], ["", ""]])
def test_relabeling_a_copy_is_not_keep(tmp_path: Path, parts: list[str]) -> None:
    entries = make_copies(tmp_path, ["red", "red"], parts)
    queue = Queue(entries, CorrectionsFile(tmp_path / "j.jsonl"))
    scene = create_context(tmp_path, read_items(tmp_path / "audit"), queue, None, "Ana")
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        decide(client, entries[0].id, "relabel", to=["red"])
    [decision] = queue.corrections_file.decisions
    assert (decision.action, decision.to) == ("relabel", ("red",))
    assert (queue.decision_on(entries[0]) is None) == (entries[0].item.issue_type == "split_leak")


def test_excluded_copy_is_closed_for_any_spelling_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = make_copies(tmp_path, ["red", "blue", "green"], [""] * 3)
    for image in (entries[1].item.image, Path(entries[1].item.image).name):
        corrections = CorrectionsFile(tmp_path / f"{len(image)}.jsonl")
        corrections.append(
            Decision(new_id(), utc_now(), "Ana", entries[1].sha256, image, "exclude", issue_type="duplicate")
        )
        queue = Queue(entries, corrections)
        assert [queue.decision_on(entry) is not None for entry in entries] == [False, True, False]


@pytest.mark.parametrize("is_renamed", [False, True])
@pytest.mark.parametrize(
    ("split", "closed"), [("train", ["train", None]), (None, ["train", None]), ("val", ["val", None]), ("test", [None])]
)
def test_a_file_in_three_splits_has_an_item_for_each(
    tmp_path: Path, split: str | None, closed: list[str | None], is_renamed: bool
) -> None:
    """The label of the file is one item, whose split is unknown."""
    image = str(write_image(tmp_path / "a.png", "red"))
    splits = ["train", "val", "test"]
    group = {"images": [image] * 3, "labels": ["red"] * 3, "splits": splits, "similarity": 1.0}
    audit = write_audit(tmp_path / "audit", [{"image": image, "label": "red", "suggested_label": "blue"}], [group])
    entries, _ = list_entries(read_items(audit), Progress())
    assert sorted(str(entry.item.split) for entry in entries) == ["None", "train", "val"]
    queue = Queue(entries, CorrectionsFile(tmp_path / "j.jsonl"))
    name = "elsewhere/a.png" if is_renamed else image
    decision = Decision(
        *(new_id(), utc_now(), "Ana", entries[0].sha256, name, "exclude"), issue_type="split_leak", split=split
    )
    queue.record(TAB, decision)
    decided = [entry.item.split for entry in queue.entries.values() if queue.decision_on(entry) is not None]
    assert decided == closed
    assert (found := queue.find_entry_of(decision)) is not None
    assert split not in ("train", "val") or found.item.split == split


def test_a_decision_without_a_split_closes_the_item_of_its_file(tmp_path: Path) -> None:
    entries = make_copies(tmp_path, ["red", "blue"], ["test", "test"])
    queue = Queue(entries, CorrectionsFile(tmp_path / "j.jsonl"))
    first = entries[0]
    queue.record(TAB, Decision(new_id(), utc_now(), "Ana", first.sha256, first.item.image, "exclude"))
    assert [queue.decision_on(entry) is not None for entry in entries] == [True, False]


def test_a_disk_cannot_be_reviewed(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        review(tmp_path.anchor, port=0, block=False, progress=False)


def test_number_of_shown_copies_is_limited(tmp_path: Path) -> None:
    entries = make_copies(tmp_path, [*["red"] * 29, "blue"], ["train"] * 30)
    assert len({id(entry.item.group) for entry in entries}) == 1
    queue = Queue(entries, CorrectionsFile(tmp_path / "j.jsonl"))
    scene = create_context(tmp_path, read_items(tmp_path / "audit"), queue, None, "Ana")
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        page = client.get(f"/items/{entries[0].id}?tab={TAB}").text
    assert page.count('alt="Copy labeled red"') == 11
    assert page.count('alt="Copy labeled blue"') == 1  # what contradicts is never left out
    assert "and 17 more" in page
    assert "There are 29 other copies" in page


def write_config(run: Path, photos: Path, labels: Path) -> None:
    (run / "config.toml").write_text(f'[run]\ndata = "{photos}"\ncorrections = "{labels}"\n')


def test_second_review_continues_the_corrections_file_of_the_first(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(iter(make_scene(run).queue.entries.values()))
    datasets: list[Dataset | None] = []

    def note(source: Path, dataset: Dataset | None) -> ReviewItems:
        datasets.append(dataset)
        return read_items(source, dataset)

    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    monkeypatch.setattr("belvedere.reviewing.server.read_items", note)
    decision = Decision(
        new_id(), utc_now(), "Ana", first.sha256, first.item.image, "exclude", size_bytes=first.size_bytes
    )
    CorrectionsFile(tmp_path / "first.jsonl").append(decision)
    assert review(run, port=0).corrections == tmp_path / "run.corrections.jsonl"  # nothing names another

    write_config(run, tmp_path / "photos", tmp_path / "first.jsonl")
    done = review(run, port=0)
    assert (done.corrections, done.num_decisions, done.num_left) == (tmp_path / "first.jsonl", 1, 5)
    assert [len(each.samples) for each in datasets if each] == [8]  # read with the corrections

    (tmp_path / "first.jsonl").rename(tmp_path / "moved.jsonl")
    with pytest.raises(UsageError, match=r"first\.jsonl.*`corrections`"):
        review(run, port=0)
    assert review(run, port=0, corrections=tmp_path / "moved.jsonl").num_decisions == 1
    assert [len(each.samples) for each in datasets if each] == [8, 8]


def test_last_page_shows_the_full_path_of_the_corrections_file(tmp_path: Path, run: Path) -> None:
    found, place = read_items(run), tmp_path / "a folder" / "j.jsonl"
    place.parent.mkdir()
    scene = create_context(run, found, Queue([], CorrectionsFile(place)), None, "Ana")
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        page = client.get(f"/items/next?tab={TAB}").text
    assert f"--corrections &#39;{place}&#39; --out" in page


def test_neighbors_are_computed_in_the_background(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the subsample of a large dataset is hashed, after the page is available."""
    hashed: list[tuple[str, int]] = []
    main = threading.current_thread()

    def note(samples: Sequence[Sample], progress: Progress) -> HashedSamples:
        hashed.append(("main" if threading.current_thread() is main else "beside", len(samples)))
        return hash_samples(samples, progress)

    monkeypatch.setattr("belvedere.reviewing.server.hash_samples", note)
    monkeypatch.setattr("belvedere.reviewing.neighbors.MAX_IMAGES", 4)
    done = threading.Event()

    def gather_only(
        _: NeighborIndex, gather: Callable[[Progress], HashedSamples], __: Embed, progress: Progress
    ) -> None:
        gather(progress)
        done.set()

    monkeypatch.setattr(NeighborIndex, "_compute", gather_only)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: done.wait(10))
    model = tmp_path / "model.onnx"
    model.write_bytes(model_bytes(card_to_metadata(CARD)))
    review(run, port=0, data=tmp_path / "photos", model=model)
    assert hashed == [("main", 6), ("beside", 3)]


@pytest.mark.parametrize("name", [None, "audit.json"])
def test_folder_without_run_or_audit_raises(tmp_path: Path, name: str | None) -> None:
    if name:
        (tmp_path / name).write_text('{"groups": 3}')
    with pytest.raises(UsageError, match=re.escape(str(tmp_path))):
        read_items(tmp_path)


def test_items_of_an_audit(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for part in ("train", "test"):
        write_classes(photos / part, 3)
    images = {str(path.relative_to(photos)): str(path) for path in photos.rglob("*.png")}

    def group(kind: str, *names: str) -> dict[str, object]:
        parts = [name.split("/") for name in names]
        labels, sides = [each[1] for each in parts], [each[0] for each in parts]
        chosen = [images[name] for name in names]
        return {"number": 1, "kind": kind, "images": chosen, "labels": labels, "splits": sides, "similarity": 0.99}

    issues: list[tuple[object, ...]] = [
        (
            "image",
            "issue_type",
            "issue_score",
            "is_issue",
            "message",
            "label",
            "suggested_label",
            "suggested_probability",
            "group",
        ),
        (images["train/red/1.png"], "label_issue", 0.9, "true", "", "red", "blue", 0.8, None),
        (images["train/red/2.png"], "label_issue", 0.2, "false", "", "red", "blue", 0.3, None),
        (images["train/red/2.png"], "dark", 1.0, "true", "", "red", None, None, None),
    ]
    audit = {
        "class_names": list(CLASS_NAMES),
        "groups": [
            group("duplicate_file", "test/red/0.png", "train/red/0.png"),
            group("near_duplicate", "train/blue/1.png", "train/green/1.png"),
            group("near_duplicate", "train/blue/2.png", "train/blue/0.png"),
        ],
    }
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(audit))
    write_csv(tmp_path / "audit" / "issues.csv", [str(name) for name in issues[0]], issues[1:])
    found = read_items(tmp_path / "audit")
    found_items = [(each.issue_type, str(Path(each.image).relative_to(photos))) for each in found.items]
    assert found_items == [
        ("split_leak", "train/red/0.png"),  # the copy in test stays
        ("duplicate", "train/blue/1.png"),
        ("duplicate", "train/green/1.png"),
        ("label_issue", "train/red/1.png"),
        ("duplicate", "train/blue/0.png"),  # one of two is enough
    ]
    assert found.items[3].probabilities == {"blue": 0.8}
    entries, _ = list_entries(found, Progress())
    scene = create_context(tmp_path, found, Queue(entries, CorrectionsFile(tmp_path / "j.jsonl")), None, "Ana")
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        page = client.get(f"/items/next?tab={TAB}").text
        assert "The same image in two splits" in page
        assert client.get(f"/images/{list_images(page)[1]}/small").status_code == 200  # the other copy
        leak = entries[0].id
        decide(client, leak, "relabel", to=["blue"])
        assert scene.queue.decision_on(entries[0]) is None  # another label does not mend a leak
        decide(client, leak, "exclude")
        assert scene.queue.decision_on(entries[0]) is not None
        decide(client, entries[1].id, "keep")
        assert (
            next(iter(active_decisions(read_corrections(tmp_path / "j.jsonl").decisions)[::-1])).issue_type
            == "duplicate"
        )
    corrected = load_dataset(photos, corrections=tmp_path / "j.jsonl")
    assert (len(corrected.split("train")), len(corrected.split("test"))) == (8, 9)


def test_each_tab_gets_another_item(run: Path) -> None:
    now = [0.0]
    entries, _ = list_entries(read_items(run), Progress())
    queue = Queue(entries, CorrectionsFile(run.parent / "j.jsonl"), lambda: now[0])
    assert [stems([queue.next(tab, Filter())])[0] for tab in ("a", "b", "a", "c")] == ["0", "1", "0", "2"]
    queue.skip("a", entries[0].id)
    assert stems([queue.next("a", Filter())]) == ["3"]
    assert stems([queue.next("d", Filter())]) == ["0"]  # skipped by a only
    for tab in "efg":
        queue.next(tab, Filter())
    assert queue.next("h", Filter()) is not None  # all are looked at: nobody waits
    now[0] = LOCK_SECONDS + 1
    assert stems([queue.next("i", Filter())]) == ["0"]
    assert queue.count("a", Filter()).skipped == 1
    queue.unskip("a")
    assert queue.count("a", Filter()).skipped == 0


def test_filters(scene: ReviewContext) -> None:
    values = list_filters(scene.queue)
    assert values[0][1:] == ("Label issues", 6)
    assert ("labeled blue, suggested green", 2) in [(text, left) for _, text, left in values]
    for value, _, left in values:
        choice = read_filter(value)
        assert scene.queue.count(TAB, choice).left == left
        assert read_filter(write_filter(choice)) == choice


def test_a_decision_is_on_disk_and_counts_once(client: TestClient, scene: ReviewContext) -> None:
    [first, *_] = scene.queue.entries
    for _ in range(3):
        reply = decide(client, first, "relabel", to=["green"], comment=" looks green ", annotator="Ben").json()
        assert reply["recorded"]
        assert not reply["previous"]
    [decision] = read_corrections(scene.queue.corrections_file.path).decisions
    assert (decision.annotator, decision.action, decision.old_label, decision.to) == (
        "Ben",
        "relabel",
        "blue",
        ("green",),
    )
    assert decision.comment == "looks green"
    again = decide(client, first, "keep").json()
    assert again["previous"] == "This replaces a decision of Ben: blue to green."
    assert "Decided by Ana" in client.get(f"/items/{first}?tab={TAB}").text


def test_missing_image_gets_no_decision(client: TestClient, scene: ReviewContext) -> None:
    [first, second, *_] = scene.queue.entries.values()
    said = decide(client, first.id, "relabel", to=["green"]).json()
    first.item.path.unlink()
    write_image(second.item.path, "red", 9_999)
    for entry in (first, second):
        for action, to in (("keep", []), ("exclude", []), ("relabel", ["red"]), ("tag", ["red"])):
            assert decide(client, entry.id, action, to=to, comment="gone").status_code == 409
        assert client.get(f"/items/{entry.id}?tab={TAB}").text.count("disabled") == 3 + len(CLASS_NAMES) + 1
        assert client.post("/skip", json={"id": "ab" * 12, "tab": TAB, "item": entry.id}).status_code == 200
    assert decide(client, first.id, "relabel", to=["green"]).json() == said  # sent again: it counted while it was there
    assert len(scene.queue.corrections_file.decisions) == 1


def test_class_is_new_only_if_declared(client: TestClient, scene: ReviewContext) -> None:
    [first, second, *_] = scene.queue.entries
    for to, new in (
        (["fjord"], []),
        (["fjord"], ["lake"]),
        (["GREEN"], ["GREEN"]),
        (["a|b"], ["a|b"]),
        ([" f "], [" f "]),
    ):
        assert decide(client, first, "relabel", to=to, new=new).status_code == 409, to
    assert client.get("/classes/new", params={"name": " fjord  "}).json() == {"name": "fjord"}
    assert client.get("/classes/new", params={"name": "Blue"}).status_code == 409
    assert decide(client, first, "relabel", to=["fjord"], new=["fjord"]).status_code == 200
    assert decide(client, second, "tag", to=["fjord", "red"]).status_code == 200
    assert client.get("/classes/new", params={"name": "Fjord"}).status_code == 409
    assert scene.queue.new_classes(CLASS_NAMES) == ["fjord"]


def test_relabeling_to_the_same_label_is_keep(client: TestClient, scene: ReviewContext) -> None:
    decide(client, next(iter(scene.queue.entries)), "relabel", to=["blue"])
    assert scene.queue.corrections_file.decisions[0].action == "keep"


def test_decisions_of_another_process_are_read(client: TestClient, scene: ReviewContext, run: Path) -> None:
    other = make_scene(run)
    [first, *_] = other.queue.entries.values()
    with TestClient(create_app(other, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as elsewhere:
        elsewhere.headers["origin"] = ORIGIN
        decide(elsewhere, first.id, "exclude")
    assert f'data-item="{first.id}"' not in client.get(f"/items/next?tab={TAB}").text
    assert scene.queue.decision_on(scene.queue.entries[first.id]) is not None


def test_last_page(client: TestClient, scene: ReviewContext) -> None:
    for entry in scene.queue.entries:
        decide(client, entry, "exclude")
    page = client.get(f"/items/next?tab={TAB}").text
    assert "All items are decided." in page
    assert "0 left of 6" in page


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "delete"},
        {"action": "relabel", "to": ["blue", "green"]},
        {"action": "relabel", "to": ["purple"]},
        {"action": "relabel", "to": "blue"},
        {"action": "keep", "id": "short"},
        {"action": "keep", "item": "../../etc/passwd"},
        {"action": "keep", "path": "/etc/passwd"},
        {"action": "keep", "comment": "x" * 501},
        {"action": "keep", "annotator": "x" * 61},
    ],
)
def test_invalid_decision_is_rejected(client: TestClient, scene: ReviewContext, body: dict[str, object]) -> None:
    whole = {"id": "ab" * 12, "tab": TAB, "item": next(iter(scene.queue.entries))}
    answered = client.post("/decisions", json=whole | body)
    assert 400 <= answered.status_code < 500
    assert set(answered.json()["error"]) == {"code", "message"}
    assert scene.queue.corrections_file.decisions == ()


def test_other_origins_are_rejected(client: TestClient, scene: ReviewContext) -> None:
    body = {"id": "ab" * 12, "tab": TAB, "item": next(iter(scene.queue.entries)), "action": "keep"}
    content = json.dumps(body)
    for headers, code in (
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ORIGIN, "content-type": "text/plain"}, 415),
        ({"origin": ORIGIN, "host": "evil.example", "content-type": "application/json"}, 421),
    ):
        assert client.post("/decisions", content=content, headers=headers).status_code == code, headers
    large = client.post("/decisions", content="x" * 70_000, headers={"content-type": "application/json"})
    assert large.status_code == 413
    assert client.get("/", headers={"host": "127.0.0.1.evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:8642"}).status_code == 200
    for host in ("[", "[::1", ""):
        assert client.get("/", headers={"host": host}).status_code == 421, host
    assert scene.queue.corrections_file.decisions == ()


def test_other_machines_need_a_token(scene: ReviewContext) -> None:
    guard = RequestGuard("0.0.0.0")  # noqa: S104 - nothing listens
    assert guard.token
    app = create_app(scene, guard, None)
    with TestClient(app, base_url="http://192.0.2.7:8642") as client:
        for path in ("/", "/static/review.js", "/images/0/large", f"/items/next?tab={TAB}", "/filters"):
            assert client.get(path).status_code == 401, path
        assert client.get(f"{LOGIN_PATH}?token=guess").status_code == 401
        assert client.get(f"{LOGIN_PATH}?token=").status_code == 401
        let_in = client.get(f"{LOGIN_PATH}?token={guard.token}", follow_redirects=False)
        cookie = let_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert guard.token not in let_in.headers["location"]
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"host": "["}).status_code < 500
    assert RequestGuard("127.0.0.1").token is None


def test_pages_on_other_ports_keep_their_cookies(scene: ReviewContext) -> None:
    """A browser sends the cookies of a host to all its ports."""
    guards = {port: RequestGuard("0.0.0.0") for port in (8641, 8642)}  # noqa: S104 - nothing listens
    cookies: list[str] = []
    for port, guard in guards.items():
        with TestClient(create_app(scene, guard, None), base_url=f"http://192.0.2.7:{port}") as client:
            answer = client.get(f"{LOGIN_PATH}?token={guard.token}", follow_redirects=False)
            cookies.append(answer.headers["set-cookie"].partition(";")[0])
    assert len({each.partition("=")[0] for each in cookies}) == 2
    for port, guard in guards.items():
        with TestClient(create_app(scene, guard, None), base_url=f"http://192.0.2.7:{port}") as client:
            assert client.get("/", headers={"cookie": "; ".join(cookies)}).status_code == 200
            assert client.get("/", headers={"cookie": cookies[port == 8641]}).status_code == 401


def test_local_name_needs_no_token(scene: ReviewContext) -> None:
    """Any spelling of a local address: no token, and only local names are accepted."""
    with listen("127.1", 0) as listening:
        guard = RequestGuard(address_of(listening), "127.1")
        assert url_of(listening, "127.1").startswith("http://127.1:")
    assert guard.token is None
    with TestClient(create_app(scene, guard, None), base_url="http://127.1") as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(("host", "port"), [("a..b", 0), ("x" * 64, 0), ("", 0), ("127.0.0.1", 70_000)])
def test_unavailable_address_raises_usage_error(host: str, port: int) -> None:
    with pytest.raises(UsageError, match=f" {host}, port {port}: "):
        listen(host, port)


def test_url_if_listening_on_all_addresses() -> None:
    with listen("0.0.0.0", 0) as listening:  # noqa: S104 - that is what is tried here
        assert url_of(listening, "0.0.0.0") == f"http://127.0.0.1:{listening.getsockname()[1]}"  # noqa: S104


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_local_addresses(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])  # noqa: S104
def test_other_addresses(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    "path",
    [
        "/images/99/large",
        "/images/-1/large",
        "/images/0/huge",
        "/images/..%2f..%2fetc%2fpasswd/large",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/app.py",
        "/docs",
        "/openapi.json",
        "/heatmaps/0?class_name=blue",
        "/items/ffffffffffffffff?tab=" + TAB,
        "/items/next?tab=x",
    ],
)
def test_path_traversal_is_rejected(client: TestClient, path: str) -> None:
    client.get(f"/items/next?tab={TAB}")
    answered = client.get(path)
    assert 400 <= answered.status_code < 500
    assert answered.headers["content-security-policy"]


def test_images_are_reencoded_only_if_unchanged(client: TestClient, scene: ReviewContext) -> None:
    [number, *_] = list_images(client.get(f"/items/next?tab={TAB}").text)
    answered = client.get(f"/images/{number}/large")
    assert answered.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answered.content)) as image:
        assert image.format == "JPEG"
    [first, *_] = scene.queue.entries.values()
    write_image(first.item.path, "red", 9_999)
    changed = client.get(f"/images/{number}/large")
    assert changed.status_code == 404
    assert "changed" in changed.json()["error"]["message"]


def test_image_numbers_differ_between_processes(client: TestClient, run: Path) -> None:
    """Otherwise a browser could show a cached image in place of another."""
    before = list_images(client.get(f"/items/next?tab={TAB}").text)
    with TestClient(create_app(make_scene(run), RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as later:
        after = list_images(later.get(f"/items/next?tab={TAB}").text)
        assert not set(before) & set(after)
        assert later.get(f"/images/{before[0]}/large").status_code == 404  # for a page that is still open
        assert later.get(f"/images/{after[0]}/large").status_code == 200


def test_undecodable_names_do_not_stop_a_review(tmp_path: Path) -> None:
    """The names of a copy and its folder are not UTF-8; the audit keeps their bytes."""
    folder = tmp_path / "caf\udce9"
    images = [str(write_image(folder / f"{number}\udce9.png", "red")) for number in range(2)]
    group = {"images": images, "labels": ["red", "red"], "splits": ["train", "test"], "similarity": 1.0}
    audit = write_audit(tmp_path / "audit", [], [group])
    entries, _ = list_entries(found := read_items(audit), Progress())
    scene = create_context(folder, found, Queue(entries, CorrectionsFile(tmp_path / "j.jsonl")), None, "Ana")
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        assert "caf\\udce9" in client.get("/").text
        page = client.get(f"/items/next?tab={TAB}")
        assert page.status_code == 200
        assert "\\udce9.png" in page.text
        said = decide(client, entries[0].id, "exclude").json()["message"]
        assert said == f"{Path(entries[0].item.image).name}: excluded."
        [decision] = read_corrections(tmp_path / "j.jsonl").decisions
        undone = {"id": "ab" * 12, "tab": TAB, "step": decision.id}
        assert client.post("/undo", json=undone).status_code == 200
        refused = client.get(f"/items/{'f' * 16}?tab={TAB}")
        assert (refused.status_code, "caf\udce9" in refused.json()["error"]["message"]) == (409, True)


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ('"><script>alert(1)</script>', "b")
    image = write_image(tmp_path / "<img src=x onerror=alert(1)>" / "1.png", "red")
    (tmp_path / "run").mkdir()
    write_predictions(
        tmp_path / "run" / "predictions.csv", [make_prediction(str(image), names[0], 0.1, 0.9, names=names)], names
    )
    scene = make_scene(tmp_path / "run")
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), None), base_url=ORIGIN) as client:
        page = client.get("/").text + client.get(f"/items/next?tab={TAB}").text
    assert "<script>" not in page
    assert "<img src=x" not in page


def read_embeddings_by(model: Model, contents: HashedSamples, progress: Progress) -> Embeddings:
    return read_embeddings(contents, model_embedder(model), progress)


def test_neighbors_of_each_class(tmp_path: Path, opened: Model) -> None:
    dataset = load_dataset(write_classes(tmp_path / "photos", 6))
    contents = hash_samples(dataset.samples, Progress())
    neighbours = NeighborIndex()
    assert neighbours.find(contents.hashes[0], {}, CLASS_NAMES) == {}
    neighbours.start(lambda _: contents, partial(read_embeddings_by, opened), Progress())
    neighbours.wait(PATIENCE)
    assert neighbours.is_ready
    found = neighbours.find(contents.hashes[0], {contents.hashes[1]: "red"}, CLASS_NAMES)
    assert [len(found[name]) for name in CLASS_NAMES] == [4, 4, 4]
    assert found["red"][0].sha256 == contents.hashes[1]  # as corrected
    assert contents.hashes[0] not in [each.sha256 for group in found.values() for each in group]
    for group in found.values():
        likenesses = [each.similarity for each in group]
        assert likenesses == sorted(likenesses, reverse=True)


def test_embedding_stops_on_request(tmp_path: Path, opened: Model) -> None:
    """At the next image; finished embeddings stay in the cache."""
    contents = hash_samples(load_dataset(write_classes(tmp_path / "photos", 20)).samples, Progress())
    asked: list[int] = []

    class Slow(Model):
        def forward(self, images: Any) -> Any:
            asked.append(len(images))
            assert neighbours._thread is not None
            neighbours._thread.stop(0)  # a thread cannot wait for itself
            return super().forward(images)

    neighbours = NeighborIndex()
    slow = Slow(opened._session, opened.card, opened.content)
    neighbours.start(lambda _: contents, partial(read_embeddings_by, slow), Progress())
    neighbours.stop()
    assert not neighbours.is_ready
    assert neighbours.error == ""
    assert len(asked) <= 1


def test_ctrl_c_during_neighbor_search(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is left in native code, where it would crash the end of the process."""
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model.onnx"
    model.write_bytes(model_bytes(card_to_metadata(CARD)))
    asked, ending, ask = threading.Event(), threading.Event(), Model.forward

    def ask_slowly(self: Model, images: Any) -> Any:
        asked.set()
        ending.wait(PATIENCE)
        return ask(self, images)

    def end(*_: object, **__: object) -> None:
        assert asked.wait(PATIENCE)
        threading.Timer(0.2, ending.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "forward", ask_slowly)
    monkeypatch.setattr("uvicorn.Server.run", end)
    before = set(threading.enumerate())
    assert review(run, port=0, model=model).num_left == 6
    assert [each for each in set(threading.enumerate()) - before if not isinstance(each, threading.Timer)] == []


def test_ctrl_c_ends_with_exit_code_0(tmp_path: Path) -> None:
    with open_review(write_run(tmp_path, 3)) as server:
        said = server.end()
        assert server.process.returncode == 0
    assert "0 decisions" in said
    assert "Traceback" not in said


class _Seeing(Model):
    """The tiny model with activation maps: the left half is blue, the right half green."""

    has_activation_maps = True

    def forward_activation_maps(self, images: Any, cancellation: Cancellation | None = None) -> Any:
        evidence = np.zeros((len(images), 3, 4, 4), np.float32)
        evidence[:, 0, :, :2] = evidence[:, 1, :, 2:] = 50
        return evidence


def test_heatmaps(run: Path, opened: Model) -> None:
    seeing = _Seeing(opened._session, opened.card, opened.content)
    scene = make_scene(run, seeing)
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), seeing), base_url=ORIGIN) as client:
        page = client.get(f"/items/next?tab={TAB}").text
        place = f"/heatmaps/{list_images(page)[0]}"
        assert place in page
        assert client.get(f"{place}?class_name=green").headers["content-type"] == "image/jpeg"
        assert client.get(f"{place}?class_name=purple").status_code == 404
        for name, lit in (("blue", (1, 0)), ("green", (0, 1)), ("red", (0, 0))):
            drawn = np.asarray(Image.open(io.BytesIO(client.get(f"{place}?class_name={name}").content)), np.float32)
            halves = drawn[2:, :3].mean(), drawn[2:, -3:].mean()  # apart from what the edge blurs
            seen, unseen = (overlay(make_pixels("blue"), np.full((1, 1), weight, np.float32)) for weight in (1.0, 0.0))
            expected = [(seen if weight else unseen)[2:].mean() for weight in lit]
            assert halves == pytest.approx(expected, abs=8), name
    blind = make_scene(run, opened)
    assert "activation maps" in blind.no_heatmap


class _Placed(Model):
    """A model with activation maps."""

    has_activation_maps = True


def test_endless_heatmap_times_out(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HEATMAP_SECONDS", 0.2)
    (tmp_path / "endless.onnx").write_bytes(endless_model())
    endless = load_model(tmp_path / "endless.onnx")
    placed = _Placed(endless._session, endless.card, endless.content)
    scene = make_scene(run, placed)
    with TestClient(create_app(scene, RequestGuard("127.0.0.1"), placed), base_url=ORIGIN) as client:
        place = f"/heatmaps/{list_images(client.get(f'/items/next?tab={TAB}').text)[0]}"
        for _ in range(3):  # more than run at once
            answer = client.get(f"{place}?class_name=green")
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert running_threads(PATIENCE) == []


def test_class_keys_are_unique_and_no_commands() -> None:
    assert len(set(CLASS_KEYS)) == len(CLASS_KEYS)
    assert not set(CLASS_KEYS) & set("hkstuwx")


def test_more_classes_than_keys(tmp_path: Path) -> None:
    names = [f"class {number:02}" for number in range(40)]
    image = write_image(tmp_path / "photos" / "1.png", "red")
    (tmp_path / "run").mkdir()
    values = [0.025] * 40
    values[3] = 0.5
    write_predictions(
        tmp_path / "run" / "predictions.csv", [make_prediction(str(image), names[0], *values, names=names)], names
    )
    with TestClient(
        create_app(make_scene(tmp_path / "run"), RequestGuard("127.0.0.1"), None), base_url=ORIGIN
    ) as client:
        page = client.get(f"/items/next?tab={TAB}").text
    assert page.count('class="class"') == 40


def test_item_ids_are_stable(run: Path) -> None:
    first, second = (list_entries(read_items(run), Progress())[0] for _ in range(2))
    assert [entry.id for entry in first] == [entry.id for entry in second]
    assert isinstance(first[0], Entry)
    assert isinstance(first[0].item.path, Path)
    assert Sample(first[0].item.path, first[0].item.image, "blue", "").label == first[0].item.label
