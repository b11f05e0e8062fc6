"""The report: complete, escaped, alone, and quiet in a real browser."""

import dataclasses
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from belvedere.errors import UsageError
from belvedere.evaluation.report.html import Report, write_report
from belvedere.evaluation.report.image_grid import Tile
from belvedere.inference.model import Model
from belvedere.types.data import ModelId, Note
from belvedere.types.evaluation import CalibrationBin, ClassFigures, Confusion, EpochFigures, Evaluation
from belvedere.types.model import Layer, ModelCard, Preprocess, Provenance

SCRIPT = "<script>document.title='ran'</script>"
DASH = "\N{EN DASH}"
IMAGE = "<img src=x onerror=\"document.title='ran'\">"
NAMES = (SCRIPT, IMAGE, "naïve café")

EVALUATION = Evaluation(
    class_names=NAMES,
    images=1502,
    unreadable=2,
    accuracy=1312 / 1502,
    macro_f1=0.871,
    log_loss=0.372,
    ece=0.021,
    per_class=(
        ClassFigures(SCRIPT, 0.912, 0.87, 0.89, 751),
        ClassFigures(IMAGE, None, 0.0, None, 751),
        ClassFigures(NAMES[2], 0.4, None, None, 0),
    ),
    confusion=((700, 51, 0), (139, 612, 0), (0, 0, 0)),
    confused_pairs=(Confusion(IMAGE, SCRIPT, 139, 139 / 751), Confusion(SCRIPT, IMAGE, 51, 51 / 751)),
    calibration=(CalibrationBin(0.0, 0.5, 0, 0.0, 0.0), CalibrationBin(0.5, 1.0, 1502, 0.95, 1312 / 1502)),
    predictions=(),
)
PROVENANCE = Provenance(
    recipe="quick",
    network="compact",
    seed=7,
    epochs=2,
    best_epoch=2,
    device="cpu",
    precision="float32",
    photographs={"train": 11_931, "validation": 2_103, "test": 1_502},
    photographs_sha256="9f86d081",
    interrupted=False,
    seconds_train=3725.0,
    created="2026-03-01T10:11:12Z",
    versions={"torch": "2.13.0"},
    parity=2.4e-7,
)
CARD = ModelCard(
    class_names=NAMES,
    preprocess=Preprocess(150, 150),
    layers=(Layer("conv1", "Conv2d 3x3, ReLU", (75, 75, 32), 896, 896), Layer("head", "Linear", (3,), 99, 0)),
    provenance=PROVENANCE,
)
TILE = Tile(np.full((20, 30, 3), 90, dtype=np.uint8), f"given {SCRIPT}\nanswered sea 0.987", "wrong")
REPORT = Report(
    title=f"runs/{SCRIPT}",
    evaluation=EVALUATION,
    model=ModelId(f"{SCRIPT}/model.onnx", "ab" * 32),
    card=CARD,
    history=(
        EpochFigures(1, 9.0, 410.0, 1e-3, 1.2, 0.5, 1.1, 0.6),
        EpochFigures(2, 9.0, 410.0, 1e-4, 0.9, 0.6, math.nan, 0.7),
    ),
    notes=(Note("1 file could not be read.", (f"sea/{IMAGE}\udcff.jpg",)), Note("All else is well.")),
    grids={"Training photographs": [TILE] * 2, f"</style>{SCRIPT}": [TILE]},
    mistakes=[TILE],
    config='recipe = "quick"  # </pre><script>1</script>\n',
    command="belvedere train photos --out runs/first",
)
BARE = dataclasses.replace(REPORT, history=(), notes=(), grids={}, mistakes=[], config="", command="")


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, its headings, and its visible words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read_page(folder: Path, report: Report) -> tuple[str, Page]:
    write_report(folder, report)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_report(folder, REPORT)
    return folder


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_can_run_and_nothing_is_fetched(text: str, page: Page) -> None:
    assert not {"script", "iframe", "object", "link", "base", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:", text)
    policies = [each["content"] for each in page.named("meta") if "http-equiv" in each]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("data:image/", "#")), (tag, attributes)


def test_names_are_escaped_and_all_there(text: str, page: Page) -> None:
    assert SCRIPT not in text
    assert IMAGE not in text
    assert all(name in page.words for name in NAMES)
    assert "\\udcff.jpg" in page.words  # a name that is no text
    assert "</pre><script>1</script>" in page.words


def test_the_verdict_and_its_figures_are_in_plain_words(page: Page) -> None:
    for words in (
        "Right on 1,312 of 1,502 test photographs: 87.4%.",
        "0.871",
        "0.372",
        "2.1%",
        "1.10 is a blind guess",
    ):
        assert words in page.words
    assert "would reach 50.0%" in page.words
    assert f"predicted as {SCRIPT}, 139 times" in page.words
    assert "surer than it should be" in page.words


def test_a_figure_that_can_not_be_told_is_a_dash_with_the_reason(page: Page) -> None:
    assert page.words.count(f"{DASH} never answered") == 2
    assert page.words.count(f"{DASH} no photographs") == 2


def test_headings_are_in_order_and_links_lead_somewhere(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = {attributes["href"] for _, attributes in page.tags if attributes.get("href", "").startswith("#")}
    assert {target[1:] for target in targets} <= set(identities)


def test_pictures_and_charts_have_words_and_tables_captions(page: Page) -> None:
    assert len(page.named("img")) == 4
    assert all(each["alt"].startswith("Photograph. ") for each in page.named("img"))
    assert len(page.named("svg")) == 4
    assert all(each["aria-label"] for each in page.named("figure") if each.get("role") == "img")
    assert len(page.named("table")) == len(page.named("caption"))


def test_light_dark_print_and_phone_are_provided_for(text: str) -> None:
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text
    charts = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--ink)" in charts
    assert not re.search(r"(fill|stroke): ?#", charts)  # every colour follows the page


def test_figures_are_files_with_fixed_names(written: Path) -> None:
    names = sorted(path.name for path in (written / "figures").iterdir())
    charts = [
        f"{name}.{kind}"
        for name in ("calibration", "confusion-counts", "confusion-shares", "history")
        for kind in ("png", "svg")
    ]
    assert names == sorted([*charts, "mistakes.png", "photographs-1.png", "photographs-2.png"])
    assert sorted(path.name for path in written.iterdir()) == ["figures", "report.html"]


def test_a_report_without_history_notes_and_photographs(tmp_path: Path) -> None:
    evaluation = dataclasses.replace(EVALUATION, unreadable=0)
    _, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=evaluation))
    assert "Nothing was found that needs a word." in page.words
    assert len(page.named("svg")) == 3
    assert not page.named("img")
    assert "How it learned" not in page.words


@pytest.mark.parametrize(
    ("part", "words"), [("test", "test photographs"), ("val", "validation photographs"), ("all", "photographs")]
)
def test_what_was_measured_is_named(part: str, words: str, tmp_path: Path) -> None:
    _, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=dataclasses.replace(EVALUATION, part=part)))
    assert f"Right on 1,312 of 1,502 {words}: 87.4%." in page.words
    assert f"Of the {words}, 2 files could not be read and are in none of the figures." in page.words


def test_the_page_says_what_the_photographs_of_a_model_file_were_used_for(opened: Model, tmp_path: Path) -> None:
    _, page = read_page(tmp_path, dataclasses.replace(BARE, card=opened.card))
    assert "1,234 to train, 56 to choose the epoch, 78 to test" in page.words


@pytest.mark.parametrize(
    ("validation", "base", "expected"),
    [
        (56, {}, ["Epoch 2 did best on the validation photographs and was kept."]),
        (56, {"teacher": "big, SHA-256 12ab"}, ["Taught bybig, SHA-256 12ab"]),
        (
            56,
            {"weights": "w.safetensors", "sha256": "34cd", "license": "MIT", "tuned": "75% of the way"},
            [
                "; the weights 75% of the way from the start to it were kept.",
                "Stands onw.safetensors, SHA-256 34cd, license MIT",
            ],
        ),
        (0, {}, ["The validation figures are of photographs that were held out in turn."]),
    ],
)
def test_how_a_model_was_learnt_is_told_as_it_was(
    validation: int, base: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    photographs = {"train": 1_234, "validation": validation, "test": 78}
    card = dataclasses.replace(
        CARD, provenance=dataclasses.replace(PROVENANCE, best_epoch=2, photographs=photographs, base=base)
    )
    _, page = read_page(tmp_path, dataclasses.replace(REPORT, card=card))
    for words in expected:
        assert words in page.words


def test_what_limits_the_figures_is_said_at_the_top(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, provenance=dataclasses.replace(PROVENANCE, interrupted=True))
    evaluation = dataclasses.replace(EVALUATION, part="val")
    _, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=evaluation, card=card))
    assert "1,502 validation photographs" in page.words
    for words in ("They chose which epoch was kept", "figures are optimistic", "was interrupted after 2 epochs"):
        assert page.words.index(words) < page.words.index("Macro F1")


def test_a_photograph_is_shown_at_its_own_size(text: str, page: Page) -> None:
    assert {(image["width"], image["height"]) for image in page.named("img")} == {("30", "20")}
    assert "object-fit: scale-down" in text  # a small one is not blown up to the width of its column


def test_a_page_on_many_classes_stays_small(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (120, 120)) + 30 * np.eye(120, dtype=int)
    evaluation = dataclasses.replace(
        EVALUATION,
        class_names=tuple(f"class {number}" for number in range(120)),
        images=int(counts.sum()),
        confusion=tuple(tuple(int(cell) for cell in row) for row in counts),
    )
    text, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=evaluation))
    assert len(text) < 1_000_000
    assert "in the second picture the larger their share" in page.words
    assert all(each["href"].startswith("data:image/png;base64,") for each in page.named("image"))
    assert len(page.named("image")) == 2


def test_the_page_is_the_same_every_time(tmp_path: Path, text: str) -> None:
    assert read_page(tmp_path, REPORT)[0] == text


def test_a_folder_that_can_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Can't make the folder"):
        write_report(tmp_path / "missing", BARE)


def test_nothing_runs_in_a_browser(written: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    address = (written / "report.html").as_uri()
    result = subprocess.run(
        [*command, f"--user-data-dir={tmp_path}", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    page = Page(result.stdout)
    assert "<title>Report on runs/&lt;script&gt;" in result.stdout
    assert not page.named("script")
    assert len(page.named("img")) == 4
