"""The review without a browser: what it asks, what it answers, and whom it refuses."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from belvedere.dataset import read_folder
from belvedere.errors import UsageError
from belvedere.journal import Journal, list_living, read_journal
from belvedere.model import Model
from belvedere.progress import Progress
from belvedere.records import Sample
from belvedere.review.app import create_app
from belvedere.review.guard import ENTRANCE, Guard, is_local
from belvedere.review.neighbours import Neighbours
from belvedere.review.page import CLASS_KEYS, Scene, ask, list_choices, read_choice, write_choice
from belvedere.review.queue import HELD_SECONDS, Choice, Entry, Queue
from belvedere.review.serving import create_scene, list_entries
from belvedere.review.sources import read_doubts
from belvedere.splits import read_contents
from belvedere.storage import write_csv
from belvedere.tables import write_predictions
from conftest import CLASS_NAMES, answer, write_classes, write_picture

ORIGIN = "http://127.0.0.1"
TAB = "ab" * 8
OTHER = "cd" * 8


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with six mistakes, and right answers that are in no doubt."""
    answers = []
    for number in range(9):
        name = CLASS_NAMES[number % 3]
        image = str(write_picture(tmp_path / "photos" / name / f"{number}.png", name, number + 1))
        said = number % 3 if number >= 6 else (number + 1) % 3
        sure = 0.9 - number / 100
        answers.append(answer(image, name, *(sure if k == said else (1 - sure) / 2 for k in range(3))))
    answers.append(answer(str(tmp_path / "torn.png"), "red"))
    (tmp_path / "run").mkdir()
    write_predictions(tmp_path / "run" / "predictions.csv", answers, CLASS_NAMES)
    return tmp_path / "run"


def make_scene(run: Path, model: Model | None = None) -> Scene:
    found = read_doubts(run)
    entries, notes = list_entries(found, Progress())
    assert notes == []
    return create_scene(run, found, Queue(entries, Journal(run.parent / "j.jsonl")), model, "Ana")


@pytest.fixture
def scene(run: Path) -> Scene:
    return make_scene(run)


@pytest.fixture
def client(scene: Scene) -> Iterator[TestClient]:
    with TestClient(create_app(scene, Guard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        yield client


def stems(entries: Any) -> list[str]:
    return [Path(entry.doubt.image).stem for entry in entries]


def decide(client: TestClient, doubt: str, action: str = "keep", **values: Any) -> Any:
    body = {"id": hashlib.sha256(str(values).encode() + doubt.encode()).hexdigest(), "tab": TAB}
    return client.post("/decisions", json=body | {"doubt": doubt, "action": action} | values)


def test_a_runs_surest_mistakes_come_first(scene: Scene) -> None:
    assert stems(scene.queue.entries.values()) == ["0", "1", "2", "3", "4", "5"]
    first = next(iter(scene.queue.entries.values()))
    assert (first.doubt.given, first.doubt.suggested) == ("blue", "green")
    assert ask(first) == "blue, or green?"


def test_photographs_that_moved_are_found(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "moved")
    lost = read_doubts(run)
    assert (len(lost.doubts), len(lost.lost)) == (0, 6)
    dataset = read_folder(tmp_path / "moved")
    found = read_doubts(run, dataset.samples)
    assert (len(found.doubts), len(found.lost)) == (6, 0)


@pytest.mark.parametrize("name", [None, "audit.json"])
def test_no_run_and_no_audit(tmp_path: Path, name: str | None) -> None:
    if name:
        (tmp_path / name).write_text('{"groups": 3}')
    with pytest.raises(UsageError, match="belvedere"):
        read_doubts(tmp_path)


def test_an_audits_doubts(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for part in ("train", "test"):
        write_classes(photos / part, 3)
    images = {str(path.relative_to(photos)): str(path) for path in photos.rglob("*.png")}

    def group(kind: str, *names: str) -> dict[str, object]:
        parts = [name.split("/") for name in names]
        labels, sides = [each[1] for each in parts], [each[0] for each in parts]
        chosen = [images[name] for name in names]
        return {"number": 1, "kind": kind, "images": chosen, "labels": labels, "parts": sides, "likeness": 0.99}

    issues: list[tuple[object, ...]] = [
        ("image", "check", "score", "flagged", "detail", "label", "suggestion", "probability", "group"),
        (images["train/red/1.png"], "wrong_label", 0.9, "true", "", "red", "blue", 0.8, None),
        (images["train/red/2.png"], "wrong_label", 0.2, "false", "", "red", "blue", 0.3, None),
        (images["train/red/2.png"], "dark", 1.0, "true", "", "red", None, None, None),
    ]
    audit = {
        "classes": list(CLASS_NAMES),
        "groups": [
            group("same_bytes", "test/red/0.png", "train/red/0.png"),
            group("near_duplicate", "train/blue/1.png", "train/green/1.png"),
            group("near_duplicate", "train/blue/2.png", "train/blue/0.png"),
        ],
    }
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(audit))
    write_csv(tmp_path / "audit" / "issues.csv", [str(name) for name in issues[0]], issues[1:])
    found = read_doubts(tmp_path / "audit")
    told = [(each.kind, str(Path(each.image).relative_to(photos))) for each in found.doubts]
    assert told == [
        ("leak", "train/red/0.png"),  # the copy in test stays
        ("duplicate", "train/blue/1.png"),
        ("duplicate", "train/green/1.png"),
        ("label", "train/red/1.png"),
        ("duplicate", "train/blue/0.png"),  # one of two is enough
    ]
    assert found.doubts[3].probabilities == {"blue": 0.8}
    entries, _ = list_entries(found, Progress())
    scene = create_scene(tmp_path, found, Queue(entries, Journal(tmp_path / "j.jsonl")), None, "Ana")
    with TestClient(create_app(scene, Guard("127.0.0.1"), None), base_url=ORIGIN) as client:
        client.headers["origin"] = ORIGIN
        page = client.get(f"/doubts/next?tab={TAB}").text
        assert "The same picture in two parts" in page
        assert client.get("/pictures/1/small").status_code == 200  # the other copy
        leak = entries[0].id
        decide(client, leak, "relabel", to=["blue"])
        assert scene.queue.find_decided(entries[0]) is None  # another label does not mend a leak
        decide(client, leak, "exclude")
        assert scene.queue.find_decided(entries[0]) is not None
        decide(client, entries[1].id, "keep")
        assert next(iter(list_living(read_journal(tmp_path / "j.jsonl").decisions)[::-1])).about == "duplicate"
    corrected = read_folder(photos, labels=tmp_path / "j.jsonl")
    assert (len(corrected.part("train")), len(corrected.part("test"))) == (8, 9)


def test_every_tab_gets_its_own(run: Path) -> None:
    now = [0.0]
    entries, _ = list_entries(read_doubts(run), Progress())
    queue = Queue(entries, Journal(run.parent / "j.jsonl"), lambda: now[0])
    assert [stems([queue.next(tab, Choice())])[0] for tab in ("a", "b", "a", "c")] == ["0", "1", "0", "2"]
    queue.skip("a", entries[0].id)
    assert stems([queue.next("a", Choice())]) == ["3"]
    assert stems([queue.next("d", Choice())]) == ["0"]  # skipped by a only
    for tab in "efg":
        queue.next(tab, Choice())
    assert queue.next("h", Choice()) is not None  # all are looked at: nobody waits
    now[0] = HELD_SECONDS + 1
    assert stems([queue.next("i", Choice())]) == ["0"]
    assert queue.count("a", Choice()).skipped == 1
    queue.unskip("a")
    assert queue.count("a", Choice()).skipped == 0


def test_choices(scene: Scene) -> None:
    values = list_choices(scene.queue)
    assert values[0][1:] == ("Labels", 6)
    assert ("blue, perhaps green", 2) in [(text, left) for _, text, left in values]
    for value, _, left in values:
        choice = read_choice(value)
        assert scene.queue.count(TAB, choice).left == left
        assert read_choice(write_choice(choice)) == choice


def test_a_decision_is_on_disk_and_counts_once(client: TestClient, scene: Scene) -> None:
    [first, *_] = scene.queue.entries
    for _ in range(3):
        told = decide(client, first, "relabel", to=["green"], why=" looks green ", who="Ben").json()
        assert told["recorded"]
        assert told["before"] is None
    [decision] = read_journal(scene.queue.journal.path).decisions
    assert (decision.who, decision.action, decision.given, decision.to) == ("Ben", "relabel", "blue", ("green",))
    assert decision.why == "looks green"
    again = decide(client, first, "keep").json()
    assert again["before"] == "Ben had said: blue to green."
    assert "Decided by Ana" in client.get(f"/doubts/{first}?tab={TAB}").text


def test_the_label_it_has_is_kept(client: TestClient, scene: Scene) -> None:
    decide(client, next(iter(scene.queue.entries)), "relabel", to=["blue"])
    assert scene.queue.journal.decisions[0].action == "keep"


def test_another_process_has_decided(client: TestClient, scene: Scene, run: Path) -> None:
    other = make_scene(run)
    [first, *_] = other.queue.entries.values()
    with TestClient(create_app(other, Guard("127.0.0.1"), None), base_url=ORIGIN) as elsewhere:
        elsewhere.headers["origin"] = ORIGIN
        decide(elsewhere, first.id, "exclude")
    assert f'data-doubt="{first.id}"' not in client.get(f"/doubts/next?tab={TAB}").text
    assert scene.queue.find_decided(scene.queue.entries[first.id]) is not None


def test_the_end(client: TestClient, scene: Scene) -> None:
    for entry in scene.queue.entries:
        decide(client, entry, "exclude")
    page = client.get(f"/doubts/next?tab={TAB}").text
    assert "All is decided." in page
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
        {"action": "keep", "doubt": "../../etc/passwd"},
        {"action": "keep", "path": "/etc/passwd"},
        {"action": "keep", "why": "x" * 501},
        {"action": "keep", "who": "x" * 61},
    ],
)
def test_what_is_no_decision_is_refused(client: TestClient, scene: Scene, body: dict[str, object]) -> None:
    whole = {"id": "ab" * 12, "tab": TAB, "doubt": next(iter(scene.queue.entries))}
    answered = client.post("/decisions", json=whole | body)
    assert 400 <= answered.status_code < 500
    assert isinstance(answered.json()["error"], str)
    assert scene.queue.journal.decisions == ()


def test_only_the_page_itself_decides(client: TestClient, scene: Scene) -> None:
    body = {"id": "ab" * 12, "tab": TAB, "doubt": next(iter(scene.queue.entries)), "action": "keep"}
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
    assert scene.queue.journal.decisions == ()


def test_elsewhere_a_token_is_demanded(scene: Scene) -> None:
    guard = Guard("0.0.0.0")  # noqa: S104 - nothing listens
    assert guard.token
    app = create_app(scene, guard, None)
    with TestClient(app, base_url="http://192.0.2.7:8642") as client:
        for path in ("/", "/static/review.js", "/pictures/0/large", f"/doubts/next?tab={TAB}", "/choices"):
            assert client.get(path).status_code == 401, path
        assert client.get(f"{ENTRANCE}?token=guess").status_code == 401
        assert client.get(f"{ENTRANCE}?token=").status_code == 401
        let_in = client.get(f"{ENTRANCE}?token={guard.token}", follow_redirects=False)
        cookie = let_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert guard.token not in let_in.headers["location"]
        assert client.get("/").status_code == 200
    assert Guard("127.0.0.1").token is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_local_addresses(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])  # noqa: S104
def test_other_addresses(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/99/large",
        "/pictures/-1/large",
        "/pictures/0/huge",
        "/pictures/..%2f..%2fetc%2fpasswd/large",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/app.py",
        "/docs",
        "/openapi.json",
        "/heatmaps/0?of=blue",
        "/doubts/ffffffffffffffff?tab=" + TAB,
        "/doubts/next?tab=x",
    ],
)
def test_no_path_reaches_the_disk(client: TestClient, path: str) -> None:
    client.get(f"/doubts/next?tab={TAB}")
    answered = client.get(path)
    assert 400 <= answered.status_code < 500
    assert answered.headers["content-security-policy"]


def test_pictures_are_decoded_anew_and_only_as_listed(client: TestClient, scene: Scene) -> None:
    client.get(f"/doubts/next?tab={TAB}")
    answered = client.get("/pictures/0/large")
    assert answered.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answered.content)) as picture:
        assert picture.format == "JPEG"
    [first, *_] = scene.queue.entries.values()
    write_picture(first.doubt.path, "red", 9_999)
    changed = client.get("/pictures/0/large")
    assert changed.status_code == 404
    assert "was changed" in changed.json()["error"]


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ('"><script>alert(1)</script>', "b")
    image = write_picture(tmp_path / "<img src=x onerror=alert(1)>" / "1.png", "red")
    (tmp_path / "run").mkdir()
    write_predictions(
        tmp_path / "run" / "predictions.csv", [answer(str(image), names[0], 0.1, 0.9, names=names)], names
    )
    scene = make_scene(tmp_path / "run")
    with TestClient(create_app(scene, Guard("127.0.0.1"), None), base_url=ORIGIN) as client:
        page = client.get("/").text + client.get(f"/doubts/next?tab={TAB}").text
    assert "<script>" not in page
    assert "<img src=x" not in page


def test_neighbours_are_of_each_class(tmp_path: Path, opened: Model) -> None:
    dataset = read_folder(write_classes(tmp_path / "photos", 6))
    contents = read_contents(dataset.samples, Progress())
    neighbours = Neighbours()
    assert neighbours.find(contents.hashes[0], {}, CLASS_NAMES) == {}
    neighbours.start(opened, contents, Progress()).join()
    assert neighbours.ready
    found = neighbours.find(contents.hashes[0], {contents.hashes[1]: "red"}, CLASS_NAMES)
    assert [len(found[name]) for name in CLASS_NAMES] == [4, 4, 4]
    assert found["red"][0].sha256 == contents.hashes[1]  # as corrected
    assert contents.hashes[0] not in [each.sha256 for group in found.values() for each in group]
    for group in found.values():
        likenesses = [each.likeness for each in group]
        assert likenesses == sorted(likenesses, reverse=True)


class _Seeing(Model):
    """The tiny model, with evidence."""

    def explain(self, images: Any) -> Any:
        return np.random.default_rng(0).normal(0, 1, (len(images), 3, 4, 4)).astype(np.float32)


def test_heatmaps(run: Path, opened: Model) -> None:
    seeing = _Seeing(opened._session, opened.card, opened.name, opened.sha256)
    scene = make_scene(run, seeing)
    with TestClient(create_app(scene, Guard("127.0.0.1"), seeing), base_url=ORIGIN) as client:
        page = client.get(f"/doubts/next?tab={TAB}").text
        assert "/heatmaps/0" in page
        assert client.get("/heatmaps/0?of=green").headers["content-type"] == "image/jpeg"
        assert client.get("/heatmaps/0?of=purple").status_code == 404
        assert client.get("/heatmaps/0?of=green").content != client.get("/heatmaps/0?of=blue").content
    blind = make_scene(run, opened)
    assert "does not say where" in blind.no_heatmap


def test_keys_are_no_commands_and_no_doubles() -> None:
    assert len(set(CLASS_KEYS)) == len(CLASS_KEYS)
    assert not set(CLASS_KEYS) & set("hkstuwx")


def test_more_classes_than_keys(tmp_path: Path) -> None:
    names = [f"class {number:02}" for number in range(40)]
    image = write_picture(tmp_path / "photos" / "1.png", "red")
    (tmp_path / "run").mkdir()
    shares = [0.025] * 40
    shares[3] = 0.5
    write_predictions(tmp_path / "run" / "predictions.csv", [answer(str(image), names[0], *shares, names=names)], names)
    with TestClient(create_app(make_scene(tmp_path / "run"), Guard("127.0.0.1"), None), base_url=ORIGIN) as client:
        page = client.get(f"/doubts/next?tab={TAB}").text
    assert page.count('class="class"') == 40


def test_a_doubt_keeps_its_name(run: Path) -> None:
    first, second = (list_entries(read_doubts(run), Progress())[0] for _ in range(2))
    assert [entry.id for entry in first] == [entry.id for entry in second]
    assert isinstance(first[0], Entry)
    assert isinstance(first[0].doubt.path, Path)
    assert Sample(first[0].doubt.path, first[0].doubt.image, "blue", "").label == first[0].doubt.given
