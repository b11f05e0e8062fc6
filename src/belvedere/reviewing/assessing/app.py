"""HTTP endpoints of the assessment page. An answer is on disk before the response."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse

from belvedere.errors import UsageError
from belvedere.evaluation.assessment.outcomes import NONE, UNSURE
from belvedere.evaluation.report.assessment import describe_change, describe_interval
from belvedere.reviewing.assessing.session import MIN_ANSWERS, Answer, AssessmentSession
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.page_app import (
    Id,
    Name,
    PageRequest,
    Render,
    Tab,
    UndoRequest,
    add_images,
    create_page_app,
    open_renderer,
)
from belvedere.reviewing.views import class_keys

COMMAND_KEYS = "qu"  # unsure, undo; none of these has 0
MAX_RECENT = 8  # answers on the page
CHANGED = "The image is missing, or changed since it was listed. Nothing was recorded. Reload the page."
Annotator = Annotated[str, Query(max_length=60)]


class AnswerRequest(PageRequest):
    """An answer on an image."""

    image: Id
    answer: Literal["class", "none", "unsure"]
    class_name: Name | None = None  # of the answer "class"


@dataclass(frozen=True)
class AssessmentContext:
    """State shared by all pages."""

    session: AssessmentSession
    gallery: Gallery
    annotator: str

    @property
    def title(self) -> str:
        """The data and the models."""
        return (
            f"{self.session.data.source}: {', '.join(each.model.name for each in self.session.data.population.models)}"
        )

    @property
    def corrections(self) -> str:
        """Full path of the file with the answers."""
        return str(self.session.corrections_file.path.absolute())


def create_app(context: AssessmentContext, guard: RequestGuard) -> FastAPI:
    """Create the application, whose requests a guard checks."""
    app = create_page_app(guard)
    add_images(app, context.gallery)
    _add_pages(app, context)
    _add_changes(app, context)
    return app


def _add_pages(app: FastAPI, context: AssessmentContext) -> None:
    session = context.session
    render = open_renderer({"interval": describe_interval, "change": describe_change})

    @app.get("/")
    def start() -> HTMLResponse:
        return render("assess.html", {"context": context})

    @app.get("/questions/next")
    def next_question(tab: Tab, annotator: Annotator = "") -> HTMLResponse:
        row = session.next(tab, annotator.strip() or context.annotator)
        return _show(context, render, row)

    @app.get("/questions/{image}")
    def question(image: str, tab: Tab) -> HTMLResponse:
        row = _find_row(context, image)
        session.show(tab, row)
        return _show(context, render, row)


def _show(context: AssessmentContext, render: Render, row: int | None) -> HTMLResponse:
    session, data = context.session, context.session.data
    values: dict[str, object] = {
        "context": context,
        "num_answered": session.num_answered(),
        "budget": session.budget,
        "estimate": session.live_estimate(),
        "min_answers": MIN_ANSWERS,
        "recent": [_describe(context, each, answer) for each, answer in session.recent(MAX_RECENT)],
        "is_complete": session.budget == len(data.hashes),
    }
    if row is None:
        return render("assess_end.html", values)
    keys, names = class_keys(COMMAND_KEYS), data.population.class_names
    path, sha256 = data.samples[row].path, data.hashes[row]
    values |= {
        "id": sha256,
        "number": context.gallery.add(path, sha256),
        "is_available": session.is_available(row),
        "max_without_find": len(keys),
        "position": session.rows().index(row) + 1,
        "classes": [(name, keys[k : k + 1]) for k, name in enumerate(names)],
    }
    return render("assess_question.html", values)


def _describe(context: AssessmentContext, row: int, answer: Answer) -> dict[str, str]:
    """Describe an answer, with the label and the predictions, which the page shows from now on."""
    data = context.session.data
    label, models = data.samples[row].label, data.population.models
    predicted = ", ".join(data.population.class_names[each.predicted[row]] for each in models)
    return {
        "id": answer.decision.id,
        "image": data.samples[row].path.name,
        "answer": context.session.describe(answer.value),
        "known": f"{f'labeled {label}, ' if label else ''}predicted {predicted}",
        "annotator": answer.annotator,
    }


def _find_row(context: AssessmentContext, image: str) -> int:
    """Return the row of an image to classify, by its hash."""
    hashes = context.session.data.hashes
    row = next((each for each in context.session.rows() if hashes[each] == image), None)
    if row is None:
        raise UsageError("There is no such image. Reload the page.")
    return row


def _add_changes(app: FastAPI, context: AssessmentContext) -> None:
    session = context.session

    @app.post("/answers")
    def answer(request: AnswerRequest) -> dict[str, object]:
        row = _find_row(context, request.image)
        if not session.is_available(row):
            raise UsageError(CHANGED)
        value = _read_answer(session.data.population.class_names, request)
        annotator = request.annotator.strip() or context.annotator
        recorded = session.record(request.tab, request.id, annotator, row, value)
        known = _describe(context, row, recorded)
        return {"recorded": True, "message": f"{known['answer']}: {known['known']}."}

    @app.post("/undo")
    def undo(request: UndoRequest) -> dict[str, object]:
        row = session.undo(request.id, request.annotator.strip() or context.annotator, request.step)
        image = None if row is None else session.data.hashes[row]
        name = "" if row is None else f" {Path(session.data.samples[row].name).name}"
        return {"recorded": True, "message": f"Undone:{name}.", "image": image}


def _read_answer(class_names: tuple[str, ...], request: AnswerRequest) -> int:
    if request.answer != "class":
        return NONE if request.answer == "none" else UNSURE
    if request.class_name not in class_names:
        raise UsageError(f"There is no class {request.class_name}. Reload the page.")
    return class_names.index(request.class_name)
