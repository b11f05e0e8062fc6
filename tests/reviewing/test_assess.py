"""The page of an assessment: it shows neither label nor prediction, and loses no answer."""

import hashlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

import belvedere
from belvedere.data.corrections.corrections_file import CorrectionsFile, active_decisions, read_corrections
from belvedere.data.dataset import load_dataset
from belvedere.errors import BelvedereError, OutputExistsError, UsageError
from belvedere.evaluation.assessment.outcomes import NONE, UNSURE
from belvedere.inference.model import Model
from belvedere.reviewing.assessing.app import AssessmentContext, create_app
from belvedere.reviewing.assessing.images import AssessmentData, read_images
from belvedere.reviewing.assessing.output import make_assessment
from belvedere.reviewing.assessing.session import AssessmentSession
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.images import Gallery
from belvedere.runtime.progress import Progress
from conftest import CLASS_NAMES, new_id, write_classes, write_image
from notebook_html import NotebookHtml
from review_server import Server, open_browser, open_page, press, settle

ORIGIN, TAB, OTHER_TAB = "http://127.0.0.1:8642", "ab" * 8, "cd" * 8


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write eight images of each color; the label of one is wrong."""
    folder = write_classes(tmp_path / "images", 8)
    write_image(folder / "red" / "wrong.png", "blue", 77)
    return folder


@pytest.fixture
def data(images: Path, opened: Model) -> AssessmentData:
    return read_images([opened], images, 0, Progress(), unlabeled=False)


def open_session(data: AssessmentData, folder: Path, budget: int = 12, repeats: int = 0) -> AssessmentSession:
    return AssessmentSession(data, CorrectionsFile(folder / "answers.jsonl"), budget, repeats)


@pytest.fixture
def session(data: AssessmentData, tmp_path: Path) -> AssessmentSession:
    return open_session(data, tmp_path)


@pytest.fixture
def client(session: AssessmentSession) -> Iterator[TestClient]:
    app = create_app(AssessmentContext(session, Gallery(), "Ana"), RequestGuard("127.0.0.1"))
    with TestClient(app, base_url=ORIGIN) as made:
        made.headers["origin"] = ORIGIN
        yield made


def true_class(data: AssessmentData, row: int) -> int:
    """Return the index of the color of an image."""
    path = data.samples[row].path
    return CLASS_NAMES.index("blue" if path.stem == "wrong" else path.parent.name)


def answer_next(session: AssessmentSession, value: int | None = None, annotator: str = "Ana") -> int:
    """Answer the next image, truly unless a value is given, and return its row."""
    row = session.next(TAB, annotator)
    assert row is not None
    session.record(TAB, new_id(), annotator, row, true_class(session.data, row) if value is None else value)
    return row


def shown_image(page: str) -> str:
    return page.split('data-image="')[1].split('"')[0]


def test_page_shows_neither_label_nor_prediction_nor_path(client: TestClient, session: AssessmentSession) -> None:
    page = client.get(f"/questions/next?tab={TAB}").text
    row = session.next(TAB, "Ana")
    assert row is not None
    sample = session.data.samples[row]
    assert sample.path.name not in page
    assert str(sample.path.parent) not in page
    assert page.count(f">{sample.label}<") == 1  # the button of the class
    assert "predicted" not in page
    number = page.split('src="/images/')[1].split("/")[0]
    assert client.get(f"/images/{number}/large").headers["content-type"] == "image/jpeg"


def test_answers_are_recorded_once_and_undone(client: TestClient, session: AssessmentSession) -> None:
    image = shown_image(client.get(f"/questions/next?tab={TAB}").text)
    body = {"id": new_id(), "tab": TAB, "annotator": "Ben", "image": image, "answer": "class", "class_name": "green"}
    for _ in range(2):
        response = client.post("/answers", json=body).json()
        assert response["recorded"] is True
        assert "predicted" in response["message"]
    [decision] = read_corrections(session.corrections_file.path).decisions
    assert (decision.annotator, decision.sha256, decision.issue_type) == ("Ben", image, "assessment")
    assert shown_image(client.get(f"/questions/next?tab={TAB}").text) != image
    undo = client.post("/undo", json={"id": new_id(), "tab": TAB, "step": decision.id}).json()
    assert undo["image"] == image
    assert session.counted() == []
    assert shown_image(client.get(f"/questions/{image}?tab={TAB}").text) == image


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"image": "ab" * 32}, 409),
        ({"class_name": "sea"}, 409),
        ({"answer": "skip"}, 422),
        ({"tab": "x"}, 422),
        ({"more": 1}, 422),
    ],
)
def test_wrong_requests_record_nothing(
    client: TestClient, session: AssessmentSession, change: dict[str, Any], status: int
) -> None:
    image = shown_image(client.get(f"/questions/next?tab={TAB}").text)
    body = {"id": new_id(), "tab": TAB, "image": image, "answer": "class", "class_name": "green"} | change
    response = client.post("/answers", json=body)
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert not session.corrections_file.path.exists()
    assert client.post("/answers", json=body, headers={"origin": "http://evil.example"}).status_code == 403


def test_estimate_appears_on_the_page_after_ten_answers(client: TestClient, session: AssessmentSession) -> None:
    assert "95% interval" not in client.get(f"/questions/next?tab={TAB}").text
    for _ in range(10):
        answer_next(session)
    assert "95% interval, 10 answers" in client.get(f"/questions/next?tab={TAB}").text
    for _ in range(2):
        answer_next(session)
    assert "All images are classified." in client.get(f"/questions/next?tab={TAB}").text


def test_actions_of_the_answers_correct_the_dataset(session: AssessmentSession, images: Path) -> None:
    rows = [answer_next(session, value) for value in (None, NONE, UNSURE, 1)]
    decisions = session.corrections_file.decisions
    assert [each.action for each in decisions[1:3]] == ["exclude", "unsure"]
    labels = [session.data.samples[row].label for row in rows]
    assert decisions[3].action == ("keep" if labels[3] == "green" else "relabel")
    corrected = {each.name: each.label for each in load_dataset(images, session.corrections_file.path).samples}
    assert session.data.samples[rows[1]].name not in corrected
    assert corrected[session.data.samples[rows[2]].name] == labels[2]
    assert corrected[session.data.samples[rows[3]].name] == "green"


def test_a_larger_budget_and_a_new_session_continue(session: AssessmentSession, tmp_path: Path) -> None:
    rows = [answer_next(session) for _ in range(12)]
    assert session.next(TAB, "Ana") is None
    longer = open_session(session.data, tmp_path, 15)
    assert longer.rows()[:12] == rows == session.rows()
    assert [each.value for each in longer.counted()] == [true_class(session.data, row) for row in rows]
    assert longer.next(TAB, "Ana") == longer.rows()[12]
    assert open_session(session.data, tmp_path, 1000).budget == 25  # all images


def test_pages_get_different_images_and_gaps_do_not_count(session: AssessmentSession) -> None:
    first, second = session.next(TAB, "Ana"), session.next(OTHER_TAB, "Ben")
    assert [first, second] == session.rows()[:2]
    assert session.next(TAB, "Ana") == first  # after a reload
    assert second is not None
    session.record(OTHER_TAB, new_id(), "Ben", second, 0)
    assert session.counted() == []  # the first has no answer
    answer_next(session)
    assert [each.annotator for each in session.counted()] == ["Ana", "Ben"]


def test_two_people_on_the_same_images(data: AssessmentData, tmp_path: Path) -> None:
    session = open_session(data, tmp_path, 6, repeats=3)
    rows = [answer_next(session) for _ in range(6)]
    assert session.next(TAB, "Ana") is None
    assert answer_next(session, (true_class(data, rows[0]) + 1) % 3, "Ben") == rows[0]
    for row in rows[1:3]:
        assert answer_next(session, None, "Ben") == row
    assert session.next(TAB, "Ben") is None
    assessment = make_assessment(session, 0)
    assert assessment.disagreement is not None
    assert (assessment.disagreement.num_images, assessment.disagreement.num_different) == (3, 1)
    assert assessment.annotators == {"Ana": 6, "Ben": 3}
    assert {each.annotator for each in assessment.reviewed} == {"Ana"}


def test_missing_images_are_passed_over(client: TestClient, session: AssessmentSession) -> None:
    first, second = session.rows()[:2]
    page = client.get(f"/questions/next?tab={TAB}").text
    path = session.data.samples[first].path
    content = path.read_bytes()
    path.unlink()
    body = {"id": new_id(), "tab": TAB, "image": shown_image(page), "answer": "none"}
    assert client.post("/answers", json=body).status_code == 409
    assert "Not available" in client.get(f"/questions/{session.data.hashes[first]}?tab={TAB}").text
    assert session.next(TAB, "Ana") == second
    path.write_bytes(content)
    assert session.next(OTHER_TAB, "Ana") == first


def test_too_few_answers(session: AssessmentSession) -> None:
    answer_next(session)
    with pytest.raises(UsageError, match=r"answers\.jsonl"):
        make_assessment(session, 0)


def write_answers(data: AssessmentData, path: Path, count: int) -> None:
    session = AssessmentSession(data, CorrectionsFile(path), count)
    for _ in range(count):
        answer_next(session)


def test_results_are_written_and_replaced(images: Path, opened: Model, data: AssessmentData, tmp_path: Path) -> None:
    out = tmp_path / "assessment"
    with pytest.raises(UsageError):
        belvedere.assess(opened, images, out=out, page=False)
    write_answers(data, tmp_path / "assessment.annotations.jsonl", 20)
    for budget in (20, 15):
        found = belvedere.assess(opened, images, out=out, budget=budget, page=False)
        written = json.loads((out / "assessment.json").read_text("utf-8"))
        assert written == json.loads(json.dumps(found.to_dict()))
        assert written["num_reviewed"] == budget
    assert found.num_images == 25
    assert found.accuracy.ci_low <= 1.0 <= found.accuracy.ci_high  # the model is right on all colors
    assert found.label_errors is not None
    assert found.label_errors.ci_low <= 1 / 25 <= found.label_errors.ci_high
    assert "Accuracy on true labels" in (out / "report.html").read_text("utf-8")
    texts = " ".join(NotebookHtml(found._repr_html_()).texts)
    assert "Accuracy on true labels" in texts
    assert repr(found).startswith("Assessment(num_images=25, num_reviewed=15, accuracy=1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("kept")
    with pytest.raises(OutputExistsError):
        belvedere.assess(opened, images, out=tmp_path / "other", page=False)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        belvedere.assess(opened, images, out=tmp_path / "loop", page=False)


def test_two_models_and_no_labels(images: Path, opened: Model, named_model: Any, tmp_path: Path) -> None:
    """The other model has the classes in another order, so it is wrong on every image."""
    other = named_model(("green", "red", "blue"))
    data = read_images([opened, other], images, 0, Progress(), unlabeled=True)
    assert data.population.labels is None
    write_answers(data, tmp_path / "a.annotations.jsonl", 20)
    decisions = read_corrections(tmp_path / "a.annotations.jsonl").decisions
    assert {each.old_label for each in decisions} == {None}
    found = belvedere.assess(opened, images, out=tmp_path / "a", budget=20, against=other, unlabeled=True, page=False)
    assert found.accuracy_change is not None
    assert found.accuracy_change.ci_low <= -0.9
    assert found.label_errors is None
    assert len(found.models) == 2
    with pytest.raises(UsageError):
        belvedere.assess(opened, load_dataset(images), out=tmp_path / "b", unlabeled=True, page=False)


def ask(url: str, path: str, body: object = None) -> str:
    headers = {"Content-Type": "application/json", "Origin": url.rstrip("/")}
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        content = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", f"/{path}", content, headers)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


def test_assess_in_a_thread(images: Path, opened: Model, tmp_path: Path) -> None:
    """As a notebook needs it: the results are those of the answers so far."""
    out = tmp_path / "assessment"
    with belvedere.assess(opened, images, out=out, budget=4, port=0, progress=False, block=False) as running:
        with pytest.raises(UsageError):
            _ = running.assessment
        for number in range(1, 5):
            image = shown_image(ask(running.url, f"questions/next?tab={TAB}"))
            body = {"id": new_id(), "tab": TAB, "image": image, "answer": "class", "class_name": "red"}
            ask(running.url, "answers", body)
            if number > 2:
                assert running.assessment.num_reviewed == number
        assert "<iframe" in running._repr_html_()
    assert not running.is_running
    assert json.loads((out / "assessment.json").read_text("utf-8"))["num_reviewed"] == 4
    with pytest.raises(BelvedereError):
        belvedere.assess(opened, tmp_path / "none", out=out, port=0, block=False, progress=False)


class AssessServer(Server):
    """The command `assess`, on a free port."""

    def start(self) -> None:
        command = [sys.executable, "-m", "belvedere", "assess", *self.options, "--port", self.port]
        self.process = subprocess.Popen([*map(str, command), "--annotator", "Ana"], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:  # until it prints its address
            if line.startswith("Assess: "):
                return
        raise AssertionError("the server did not start")


def answer_on_page(page: Any, images: Path, count: int) -> None:
    colors = {hashlib.sha256(path.read_bytes()).hexdigest(): path.parent.name for path in images.rglob("*.png")}
    for _ in range(count):
        image = page.locator("article").get_attribute("data-image")
        page.keyboard.press(str(1 + CLASS_NAMES.index(colors[image])))
        page.wait_for_selector(f'main[aria-busy="false"] article:not([data-image="{image}"])')


def test_page_in_a_browser(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Keys, undo, a killed server, the end and the report, on a phone and accessible."""
    out = tmp_path / "assessment"
    with open_browser() as browser:
        server = AssessServer(out, str(tiny_model), str(images), "--out", str(out), "--budget", "14")
        server.corrections = tmp_path / "assessment.annotations.jsonl"
        try:
            context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
            page = open_page(context, server)
            answer_on_page(page, images, 10)
            server.kill()
            server.start()
            assert len(server.decisions()) == 10
            page.reload()
            settle(page)
            press(page, "u")
            assert len(active_decisions(server.decisions())) == 9
            assert page.evaluate("document.activeElement.id") == "question"
            wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0
            axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
            assert axe.Axe().run(page).response["violations"] == []
            answer_on_page(page, images, 4)
            press(page, "q")
            assert page.locator("#question").inner_text() == "All images are classified."
            server.process.send_signal(signal.SIGINT)
            server.process.communicate()
            assert server.process.returncode == 0
        finally:
            server.kill()
    assert json.loads((out / "assessment.json").read_text("utf-8"))["num_reviewed"] == 14
