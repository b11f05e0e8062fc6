"""The map of a dataset or run: its server, and its page in a browser."""

import base64
import csv
import http.client
import io
import json
import shlex
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import belvedere
import command_line
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import HashedSamples, hash_file
from belvedere.errors import UsageError
from belvedere.inference.embeddings import Embedder, model_embedder
from belvedere.inference.writers.text import write_predictions
from belvedere.reviewing.exploring import projection
from belvedere.reviewing.exploring.pairs import PairFinder
from belvedere.reviewing.exploring.selection import label_command
from belvedere.reviewing.exploring.sources import read_map, select_rows
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.progress import Progress
from belvedere.runtime.serialization import CsvRows
from belvedere.types.data import Sample
from command_line import assert_one_line
from conftest import CLASS_NAMES, make_prediction, new_id, write_classes, write_image
from decisions import decide
from review_server import BROWSERS
from serve_process import PATIENCE

pytest.importorskip("openTSNE")
MOVE = """() => {  // the canvas as moved by the browser, without drawing
  const view = () => {
    const matrix = new DOMMatrix(document.getElementById("points").style.transform);
    return [matrix.a, matrix.e, matrix.f];
  };
  scatter.pan(30, 20);
  scatter.shift();
  const moved = view();
  scatter.zoomAt(1.25, 100, 100);
  scatter.shift();
  const stretched = view();
  scatter.zoomAt(10, 100, 100);
  const isEnough = scatter.shift();
  scatter.reset();
  return [moved, stretched, isEnough];
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder of images, one of them twice, and a run with predictions on them; one is wrong."""
    folder = tmp_path_factory.mktemp("explored")
    images = write_classes(folder / "images", 8)
    write_image(images / "red" / "copy.png", "red", 0)
    predictions = []
    for path in sorted(images.rglob("*.png")):
        probabilities = [0.9 if name == path.parent.name else 0.05 for name in CLASS_NAMES]
        predictions.append(make_prediction(str(path), path.parent.name, *probabilities))
    first = predictions[0]
    predictions[0] = make_prediction(first.image, str(first.label), 0.1, 0.1, 0.8)
    (folder / "run").mkdir()
    write_predictions(folder / "run" / "predictions.csv", predictions, CLASS_NAMES)
    return folder / "run"


@pytest.fixture(scope="module")
def embedder(tiny_model: Path) -> Embedder:
    return model_embedder(belvedere.load_model(tiny_model))


@pytest.fixture(scope="module")
def server(run: Path, tiny_model: Path) -> Iterator[BackgroundServer]:
    with belvedere.explore(run, model=tiny_model, port=0, progress=False, block=False) as started:
        yield started


def ask(server: BackgroundServer, path: str, body: object = None) -> tuple[int, bytes]:
    address = urlsplit(server.url).netloc
    headers = {"Content-Type": "application/json", "Origin": f"http://{address}"} if body is not None else {}
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()


def test_points_have_places_and_columns(server: BackgroundServer) -> None:
    content = json.loads(ask(server, "/points")[1])
    number = content["count"]
    positions = np.frombuffer(base64.b64decode(content["positions"]), "<f4").reshape(-1, 2)
    assert len(positions) == number == 3 * 8 + 1
    assert np.abs(positions).max() == pytest.approx(1)
    columns = {each["name"]: each for each in content["columns"]}
    assert columns["label"]["values"] == sorted(CLASS_NAMES)
    assert sorted(columns["correct"]["values"]) == ["correct", "wrong"]
    assert min(columns["correct"]["counts"]) == 1
    codes = np.frombuffer(base64.b64decode(columns["label"]["codes"]), "<u4")
    assert np.bincount(codes).tolist() == columns["label"]["counts"]
    assert "split" not in columns  # all have the same


def test_images_and_their_neighbors(server: BackgroundServer) -> None:
    names = json.loads(ask(server, "/names")[1])
    status, content = ask(server, f"/images/{names['numbers'][0]}/small")
    assert status == 200
    assert content.startswith(b"\xff\xd8")
    rows = json.loads(ask(server, "/neighbors/0")[1])["rows"]
    assert rows[0] == 0
    assert len(rows) == len(set(rows)) == 24
    assert ask(server, "/neighbors/99")[0] == 409
    file = Path(names["names"][3])
    example = base64.b64encode(file.read_bytes()).decode()
    found = json.loads(ask(server, "/search", {"image": example})[1])["rows"]
    assert Path(names["names"][found[0]]).parent == file.parent


@pytest.mark.parametrize("image", ["no base64!", "\xe9", base64.b64encode(b"no image").decode()])
def test_an_example_that_is_no_image_is_refused(server: BackgroundServer, image: str) -> None:
    status, content = ask(server, "/search", {"image": image})
    assert status == 404
    assert json.loads(content)["error"]["message"]


def test_copies_are_pairs(server: BackgroundServer) -> None:
    found = json.loads(ask(server, "/pairs")[1])
    names = json.loads(ask(server, "/names")[1])["names"]
    identical = {frozenset(Path(names[row]).name for row in pair) for pair in found["pairs"]}
    assert any("copy.png" in pair for pair in identical)
    assert not any(found["leaks"])


def test_a_selection_is_labeled(server: BackgroundServer, tiny_model: Path) -> None:
    names = json.loads(ask(server, "/names")[1])["names"]
    copy = next(row for row, name in enumerate(names) if Path(name).name == "copy.png")
    rows = [copy, 5, 3, 3]
    saved = json.loads(ask(server, "/selections", {"rows": rows})[1])
    content = Path(saved["table"]).read_text(encoding="utf-8")
    Path(saved["table"]).write_text(changed := content.replace(",red,", ",blue,"), encoding="utf-8")
    again = json.loads(ask(server, "/selections", {"rows": rows[::-1]})[1])
    assert saved == again
    assert Path(saved["table"]).read_text(encoding="utf-8") == changed != content
    _, verb, table, *options = shlex.split(saved["command"])
    assert (verb, table) == ("label", saved["table"])
    assert options == ["--classes", ",".join(sorted(CLASS_NAMES)), "--model", str(tiny_model)]
    with belvedere.label(table, classes=CLASS_NAMES, model=tiny_model, port=0, progress=False, block=False) as labeling:
        assert labeling.summary.num_left == 3
        body = {"id": new_id(), "tab": new_id(), "rows": [0, 1, 2], "label": "red"}
        assert ask(labeling, "/labels", body)[0] == 200
        summary = labeling.summary
    assert summary.num_left == 0
    assert summary.table is not None
    with summary.table.open(newline="", encoding="utf-8") as file:
        labeled = {row["sha256"] for row in csv.DictReader(file)}
    assert labeled == {hash_file(Path(names[row])) for row in rows}


@pytest.mark.parametrize("rows", [[], [-1], [99], ["1"]])
def test_a_selection_of_no_images_is_refused(server: BackgroundServer, rows: list[object]) -> None:
    assert ask(server, "/selections", {"rows": rows})[0] in (409, 422)


def test_an_audit_colors_its_issues(tmp_path: Path, embedder: Embedder, tiny_model: Path) -> None:
    images = write_classes(tmp_path / "images", 8)
    (images / "green" / "copy.png").write_bytes((images / "red" / "0.png").read_bytes())
    pytest.importorskip("jinja2")
    belvedere.audit(images, out=tmp_path / "audit", label_issues=False, near_duplicates=False, progress=False)
    shutil.move(images, tmp_path / "moved")
    with pytest.raises(UsageError):
        read_map(tmp_path / "audit", None, embedder, Progress())
    found = read_map(tmp_path / "audit", tmp_path / "moved", embedder, Progress())
    names = [sample.path.name for sample in found.samples]
    issues = {row: value for row, value in enumerate(found.columns["issue"]) if value == "conflicting_labels"}
    assert sorted(Path(found.samples[row].path).parent.name for row in issues) == ["green", "red"]
    assert [names[row] for row in issues].count("copy.png") == 1
    assert found.pairs is not None
    assert set(issues) in [set(pair) for pair in found.pairs]
    with belvedere.explore(
        tmp_path / "audit", data=tmp_path / "moved", model=tiny_model, port=0, progress=False, block=False
    ) as server:
        pairs = json.loads(ask(server, "/pairs")[1])
    assert pairs["done"]
    assert [tuple(pair) for pair in pairs["pairs"]] == list(found.pairs)


def test_a_dataset_is_explored(tmp_path: Path, tiny_model: Path) -> None:
    """Every folder is a class, as `--layout classes` reads them."""
    images = write_classes(tmp_path / "images", 4, ["red", "green"])
    (images / "green").rename(images / "train")
    dataset = load_dataset(images, layout="classes")
    with belvedere.explore(dataset, model=tiny_model, port=0, progress=False, block=False) as server:
        names = json.loads(ask(server, "/names")[1])["names"]
        assert str(images).encode() in ask(server, "/")[1]
    assert sorted({Path(name).parent.name for name in names}) == ["red", "train"]
    with pytest.raises(UsageError):
        belvedere.explore(dataset, data=images, model=tiny_model, port=0, progress=False, block=False)


def test_the_search_for_copies_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its next step; identical files are known before."""
    started = threading.Event()

    def search(_: HashedSamples, progress: Progress) -> None:
        started.set()
        for _step in range(int(PATIENCE / 0.01)):
            with progress.task("Comparing images", 9) as task:
                time.sleep(0.01)
                task.advance(1)

    monkeypatch.setattr("belvedere.reviewing.exploring.pairs.find_shifted_pairs", search)
    sample = Sample(tmp_path / "1.png", "1.png", "red", None)
    finder = PairFinder([sample, sample], ["0", "0"])
    finder.start()
    assert started.wait(PATIENCE)
    finder.stop()
    assert finder.pairs == [(0, 1)]
    assert "copies" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_search_that_fails_has_ended(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def search(*_: object) -> None:
        raise error

    monkeypatch.setattr("belvedere.reviewing.exploring.pairs.find_shifted_pairs", search)
    finder = PairFinder([Sample(Path("1.png"), "1.png", "red", None)], ["0"])
    with suppress(ValueError):
        finder._search(Progress())
    assert finder.is_done


def make_finder(*splits: str | None) -> PairFinder:
    """Return the pairs of identical files in splits."""
    samples = [Sample(Path(f"{number}.png"), f"{number}.png", "red", split) for number, split in enumerate(splits)]
    return PairFinder(samples, ["0"] * len(splits))


@pytest.mark.parametrize(
    ("splits", "leaks"), [(("train", None, "test"), [False, True]), ((None, None), [False]), ((None, "val"), [True])]
)
def test_images_without_a_split_are_for_training(splits: tuple[str | None, ...], leaks: list[bool]) -> None:
    assert make_finder(*splits).describe()["leaks"] == leaks


def test_pairs_that_are_found_meanwhile_are_described_later() -> None:
    class Splits(list[str | None]):
        """Splits during whose comparison the search ends."""

        def __getitem__(self, index: Any) -> Any:
            finder.pairs, finder.is_done = [*finder.pairs, (0, 1)], True
            return super().__getitem__(index)

    finder = make_finder(None, None)
    finder._splits = Splits([None, None])
    assert finder.describe() == {"pairs": [(0, 1)], "leaks": [False], "done": False}


@pytest.mark.parametrize("options", [["--layout", "classes"], ["--root", "images"]])
def test_options_for_images_are_refused_for_a_run(options: list[str], run: Path) -> None:
    assert_one_line(command_line.belvedere("explore", run, *options, "--port", "0"), 2, "--data")


def test_a_damaged_audit_is_refused(tmp_path: Path, embedder: Embedder) -> None:
    write_classes(tmp_path / "images", 2)
    (tmp_path / "audit.json").write_text(json.dumps({"data": str(tmp_path / "images"), "checks": 3}))
    with pytest.raises(UsageError):
        read_map(tmp_path, None, embedder, Progress())


def test_a_cell_and_an_image_are_rows(run: Path, embedder: Embedder) -> None:
    images = read_map(run, None, embedder, Progress())
    wrong = [row for row, value in enumerate(images.columns["correct"]) if value == "wrong"]
    sample = images.samples[wrong[0]]
    cell = f"{sample.label},{images.columns['prediction'][wrong[0]]}"
    assert select_rows(images, None, cell) == wrong
    assert select_rows(images, sample.path, None) == wrong
    with pytest.raises(UsageError):
        select_rows(images, None, "red,none")


class Recorder(Progress):
    """Keeps messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, message: str) -> None:
        self.messages.append(message)


def write_configured_run(folder: Path, images: list[Path], **configured: Path) -> Path:
    """Write a run that records files, and predicted red for all images."""
    folder.mkdir()
    lines = "\n".join(f'{name} = "{path.as_posix()}"' for name, path in configured.items())
    (folder / "config.toml").write_text(f"[run]\n{lines}\n")
    predictions = [make_prediction(str(image), image.parent.name, 0.1, 0.1, 0.8) for image in images]
    write_predictions(folder / "predictions.csv", predictions, CLASS_NAMES)
    return folder


def test_the_corrections_of_a_run_apply(tmp_path: Path, embedder: Embedder) -> None:
    images = write_classes(tmp_path / "images", 2)
    wrong, excluded, corrections = images / "blue" / "0.png", images / "green" / "0.png", tmp_path / "j.jsonl"
    decide(corrections, wrong, "relabel", "red")
    decide(corrections, excluded, "exclude")
    run = write_configured_run(tmp_path / "run", [wrong], data=images, corrections=corrections)
    found = read_map(run, None, embedder, Progress())
    paths = [sample.path for sample in found.samples]
    assert excluded not in paths
    assert select_rows(found, None, "red,red") == [paths.index(wrong)]
    assert found.columns["correct"][paths.index(wrong)] == "correct"
    corrections.unlink()
    found = read_map(run, None, embedder, progress := Recorder())
    assert len(found.samples) == len(paths) + 1
    assert any(str(corrections) in message for message in progress.messages)


@pytest.mark.parametrize("kind", ["dataset", "table", "run"])
def test_warnings_of_the_dataset_are_logged(kind: str, tmp_path: Path, embedder: Embedder) -> None:
    images = sorted(write_classes(tmp_path / "images", 1).rglob("*.png"))
    rows = [f"{path},{path.parent.name},sunny" for path in images]
    (table := tmp_path / "t.csv").write_text("\n".join(["image,label,weather", *rows]) + "\n")
    sources: dict[str, Dataset | Path] = {
        "dataset": load_dataset(table),
        "table": table,
        "run": write_configured_run(tmp_path / "run", images[:1], data=table),
    }
    read_map(sources[kind], None, embedder, progress := Recorder())
    assert sum("weather" in message for message in progress.messages) == 1


@pytest.mark.parametrize(
    ("names", "is_given"),
    [(["cat", "dog"], True), (["cat", "train"], False), (["indoor/outdoor", "sky"], False), (["a,b", "c"], False)],
)
def test_the_command_has_classes_that_it_accepts(
    run: Path, embedder: Embedder, names: list[str], is_given: bool
) -> None:
    images = replace(read_map(run, None, embedder, Progress()), columns={"label": tuple(names)})
    options = ["--classes", ",".join(names)] if is_given else []
    assert shlex.split(label_command(images, Path("t.csv"), "")) == ["belvedere", "label", "t.csv", *options]


def test_weights_replace_the_model_of_a_run(
    tmp_path: Path, embedder: Embedder, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the command that labels a selection, which accepts one of them."""
    monkeypatch.setattr("belvedere.reviewing.exploring.server.open_embedder", lambda *_: embedder)
    images = sorted(write_classes(tmp_path / "images", 1).rglob("*.png"))
    run = write_configured_run(tmp_path / "run", images)
    shutil.copy(tiny_model, run / "model.onnx")
    for weights, options in ((None, ["--model", str(run)]), ("w.safetensors", ["--weights", "w.safetensors"])):
        with belvedere.explore(run, weights=weights, port=0, progress=False, block=False) as server:
            command = json.loads(ask(server, "/selections", {"rows": [0]})[1])["command"]
        assert shlex.split(command)[-2:] == options
        assert ("--model" in command) == (weights is None)


def test_positions_are_computed_once(run: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_map(run, None, embedder, Progress()).positions
    monkeypatch.setattr(projection, "_positions", None)
    after = read_map(run, None, embedder, Progress()).positions
    assert (before == after).all()


def test_arguments_are_checked(run: Path, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UsageError):
        belvedere.explore(run, image="a.jpg", cell="a,b", port=0, progress=False, block=False)
    write_image(tmp_path / "red" / "a.png", "red")
    write_image(tmp_path / "blue" / "b.png", "blue")
    with pytest.raises(UsageError, match="3 images"):
        belvedere.explore(tmp_path, model=tiny_model, port=0, progress=False, block=False)


@pytest.mark.skipif(not BROWSERS, reason="Chromium is not installed")
def test_the_page_in_a_browser(server: BackgroundServer, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--disable-background-networking", "--enable-unsafe-swiftshader"]
        browser = started.chromium.launch(executable_path=str(BROWSERS[0]), args=options)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("html[data-ready]")
        page.get_by_role("button", name="red 9").click()
        assert "red: 9 images" in page.locator("#chosen").inner_text()
        with page.expect_download() as download:
            page.locator("#table").click()
        download.value.save_as(tmp_path / "table.csv")
        with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as rows:
            table = list(csv.DictReader(rows))
        assert {row["label"] for row in table} == {"red"}
        cells = ["plain", "=1", "\uff1d1+1", "a;=1", 'a "b"', "'=1", " -2", "\t1", ""]
        CsvRows(text := io.StringIO(), spreadsheet=True).write(cells)
        assert page.evaluate("cells => cells.map(csvCell).join(',')", cells) == text.getvalue().rstrip("\n")
        assert len(table) == 9
        page.get_by_role("button", name="Label these").click()
        page.wait_for_selector("#command:not([hidden])")
        assert shlex.split(page.locator("#command pre").inner_text())[:2] == ["belvedere", "label"]
        page.locator("#grid button").first.click()
        assert page.locator("#path").inner_text() == table[0]["image"]
        page.keyboard.press("ArrowRight")
        assert page.locator("#facts").inner_text().startswith("2 of 9")
        page.keyboard.press("Escape")
        moved, stretched, is_enough = page.evaluate(MOVE)
        assert moved == pytest.approx([1, 30, 20])
        assert stretched[0] == pytest.approx(1.25)
        assert not is_enough
        box = page.locator("#map").bounding_box()
        corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
        page.locator("#lasso").click()
        for number, (x, y) in enumerate(corners):
            page.mouse.move(box["x"] + 2 + x * (box["width"] - 4), box["y"] + 2 + y * (box["height"] - 4))
            if not number:
                page.mouse.down()
        page.mouse.up()
        assert "25 images" in page.locator("#chosen").inner_text()
        assert not problems
        browser.close()
