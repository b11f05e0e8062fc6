"""The report: complete, escaped, alone, and quiet in a real browser."""

import base64
import dataclasses
import hashlib
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.errors import UsageError
from belvedere.evaluation.metrics import compute_metrics
from belvedere.evaluation.report.html import write_report
from belvedere.evaluation.run_results import RunResults
from belvedere.inference.model import Model
from belvedere.types.data import DataWarning, ModelId, Sample
from belvedere.types.evaluation import ClassMetrics, Confusion, EpochMetrics, Evaluation, ReliabilityBin
from belvedere.types.model import Layer, ModelCard, Preprocess, Provenance
from belvedere.types.prediction import Prediction
from review_server import BROWSERS

SCRIPT = "<script>document.title='ran'</script>"
DASH = "\N{EN DASH}"
IMAGE = "<img src=x onerror=\"document.title='ran'\">"
NAMES = (SCRIPT, IMAGE, "naïve café")

EVALUATION = Evaluation(
    class_names=NAMES,
    num_images=1502,
    num_unreadable=2,
    accuracy=1312 / 1502,
    macro_f1=0.871,
    log_loss=0.372,
    ece=0.021,
    per_class=(
        ClassMetrics(SCRIPT, 0.912, 0.87, 0.89, 751),
        ClassMetrics(IMAGE, None, 0.0, None, 751),
        ClassMetrics(NAMES[2], 0.4, None, None, 0),
    ),
    confusion_matrix=np.array(((700, 51, 0), (139, 612, 0), (0, 0, 0))),
    confusions=(Confusion(IMAGE, SCRIPT, 139, 139 / 751), Confusion(SCRIPT, IMAGE, 51, 51 / 751)),
    reliability_bins=(ReliabilityBin(0.0, 0.5, 0, 0.0, 0.0), ReliabilityBin(0.5, 1.0, 1502, 0.95, 1312 / 1502)),
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
    num_images={"train": 11_931, "validation": 2_103, "test": 1_502},
    data_sha256="9f86d081",
    interrupted=False,
    training_seconds=3725.0,
    created="2026-03-01T10:11:12Z",
    versions={"torch": "2.13.0"},
    onnx_max_relative_error=2.4e-7,
)
CARD = ModelCard(
    class_names=NAMES,
    preprocess=Preprocess(150, 150),
    layers=(Layer("conv1", "Conv2d 3x3, ReLU", (75, 75, 32), 896, 896), Layer("head", "Linear", (3,), 99, 0)),
    provenance=PROVENANCE,
)
BARE = RunResults(
    title=f"runs/{SCRIPT}",
    out=Path(f"runs/{SCRIPT}"),
    evaluation=EVALUATION,
    model_id=ModelId(f"{SCRIPT}/model.onnx", "ab" * 32),
    card=CARD,
    warnings=(),
    samples={},
    command="",
    total_seconds=1.0,
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    path = tmp_path_factory.mktemp("images") / "image.png"
    Image.fromarray(np.full((20, 30, 3), 90, dtype=np.uint8)).save(path)
    sample = Sample(path, SCRIPT, SCRIPT, None)
    mistake = Prediction(SCRIPT, IMAGE, 0.987, (0.013, 0.987, 0.0), label=SCRIPT)
    return dataclasses.replace(
        BARE,
        evaluation=dataclasses.replace(EVALUATION, predictions=(mistake,)),
        history=(
            EpochMetrics(1, 9.0, 410.0, 1e-3, 1.2, 0.5, 1.1, 0.6),
            EpochMetrics(2, 9.0, 410.0, 1e-4, 0.9, 0.6, math.nan, 0.7),
        ),
        warnings=(
            DataWarning("1 file could not be read.", (f"sea/{IMAGE}\udcff.jpg",)),
            DataWarning("All else is well."),
        ),
        samples={"Training images": [sample] * 2, f"</style>{SCRIPT}": [sample]},
        config='recipe = "quick"  # </pre><script>1</script>\n',
        command="belvedere train photos --out runs/first",
    )


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


def read_page(folder: Path, report: RunResults) -> tuple[str, Page]:
    write_report(folder, report)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def written(report: RunResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_report(folder, report)
    return folder


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_can_run_and_nothing_is_fetched(text: str, page: Page) -> None:
    assert not {"iframe", "object", "link", "base", "form"} & {tag for tag, _ in page.tags}
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == len(page.named("script")) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert not re.search(r"https?:", text)
    policies = [each["content"] for each in page.named("meta") if "http-equiv" in each]
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]
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
        "1,312 of 1,502 test images correct: 87.4%.",
        "87.1%",
        "0.372",
        "2.1%",
        "1.10 is random guessing",
    ):
        assert words in page.words
    assert "most frequent class: 50.0%" in page.words
    assert f"predicted as {SCRIPT}, 139 times" in page.words
    assert "the model is overconfident" in page.words


def test_a_missing_metric_is_a_dash_with_the_reason(page: Page) -> None:
    assert page.words.count(f"{DASH} never predicted") == 2
    assert page.words.count(f"{DASH} no images") == 2


def test_headings_are_in_order_and_links_lead_somewhere(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = {attributes["href"] for _, attributes in page.tags if attributes.get("href", "").startswith("#")}
    assert {target[1:] for target in targets} <= set(identities)


def test_images_and_charts_have_words_and_tables_captions(page: Page) -> None:
    images = [each for each in page.named("img") if each.get("class") != "shown"]  # that of the dialog is filled later
    assert len(images) == len([each for each in page.named("button") if each.get("class") == "enlarge"]) == 5
    assert all(each["alt"].startswith("Enlarge: ") for each in images)
    assert len(page.named("svg")) == 4
    assert all(each["aria-label"] for each in page.named("figure") if each.get("role") == "img")
    assert len(page.named("table")) == len(page.named("caption"))


def test_light_dark_print_and_phone_are_provided_for(text: str) -> None:
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text
    charts = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--ink)" in charts
    assert not re.search(r"(fill|stroke): ?#", charts)  # every color follows the page


def test_figures_are_files_with_fixed_names(written: Path) -> None:
    names = sorted(path.name for path in (written / "figures").iterdir())
    charts = [
        f"{name}.{kind}"
        for name in ("calibration", "confusion-counts", "confusion-percent", "history")
        for kind in ("png", "svg")
    ]
    assert names == sorted([*charts, "mistakes.png", "images-1.png", "images-2.png"])
    assert sorted(path.name for path in written.iterdir()) == ["figures", "report.html"]


def test_a_report_without_history_notes_and_images(tmp_path: Path) -> None:
    evaluation = dataclasses.replace(EVALUATION, num_unreadable=0)
    _, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=evaluation))
    assert "No data issues found." in page.words
    assert len(page.named("svg")) == 3
    assert [each.get("class") for each in page.named("img")] == ["shown"]  # of the dialog
    assert "Table of all epochs" not in page.words


@pytest.mark.parametrize(("split", "words"), [("test", "test images"), ("val", "validation images"), ("all", "images")])
def test_what_was_measured_is_named(split: str, words: str, tmp_path: Path) -> None:
    _, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=dataclasses.replace(EVALUATION, split=split)))
    assert f"1,312 of 1,502 {words} correct: 87.4%." in page.words
    assert f"2 of the {words} could not be read and are not counted." in page.words


def test_the_page_says_what_the_images_of_a_model_file_were_used_for(opened: Model, tmp_path: Path) -> None:
    _, page = read_page(tmp_path, dataclasses.replace(BARE, card=opened.card))
    assert "1,234 training, 56 validation, 78 test" in page.words


@pytest.mark.parametrize(
    ("validation", "base", "expected"),
    [
        (56, {}, ["Epoch 2 was best on the validation images and was kept."]),
        (56, {"teacher": "big, SHA-256 12ab"}, ["Teacherbig, SHA-256 12ab"]),
        (
            56,
            {"weights": "w.safetensors", "sha256": "34cd", "license": "MIT", "tuned": "75% of the way"},
            [
                "The weights are interpolated: 75% of the way from the pretrained weights to those of this epoch.",
                "Pretrained weightsw.safetensors, SHA-256 34cd, license MIT",
            ],
        ),
        (0, {}, ["Validation metrics are cross-validated."]),
    ],
)
def test_training_is_described(
    validation: int, base: dict[str, str], expected: list[str], report: RunResults, tmp_path: Path
) -> None:
    num_images = {"train": 1_234, "validation": validation, "test": 78}
    card = dataclasses.replace(
        CARD, provenance=dataclasses.replace(PROVENANCE, best_epoch=2, num_images=num_images, pretrained_from=base)
    )
    _, page = read_page(tmp_path, dataclasses.replace(report, card=card))
    for words in expected:
        assert words in page.words


def test_what_limits_the_figures_is_said_at_the_top(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, provenance=dataclasses.replace(PROVENANCE, interrupted=True))
    evaluation = dataclasses.replace(EVALUATION, split="val")
    _, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=evaluation, card=card))
    assert "1,502 validation images" in page.words
    for words in ("which chose the epoch", "They are optimistic", "was interrupted after 2 epochs"):
        assert page.words.index(words) < page.words.index("Macro F1")


def test_an_image_is_shown_at_its_own_size(text: str, page: Page) -> None:
    shown = [image for image in page.named("img") if "src" in image]
    assert {(image["width"], image["height"]) for image in shown} == {("30", "20")}
    assert "object-fit: scale-down" in text  # a small one is not blown up to the width of its column


def test_a_page_on_many_classes_stays_small(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (120, 120)) + 30 * np.eye(120, dtype=int)
    evaluation = dataclasses.replace(
        EVALUATION,
        class_names=tuple(f"class {number}" for number in range(120)),
        num_images=int(counts.sum()),
        confusion_matrix=counts,
    )
    text, page = read_page(tmp_path, dataclasses.replace(BARE, evaluation=evaluation))
    assert len(text) < 1_000_000
    assert "in the second matrix the percent of the row" in page.words
    assert all(each["href"].startswith("data:image/png;base64,") for each in page.named("image"))
    assert len(page.named("image")) == 2


def test_the_page_is_the_same_every_time(report: RunResults, tmp_path: Path, text: str) -> None:
    assert read_page(tmp_path, report)[0] == text


def test_a_folder_that_can_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing"):
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
    assert len(page.named("script")) == 1  # that of the enlarged images
    assert len([image for image in page.named("img") if "src" in image]) == 5


@pytest.mark.skipif(not BROWSERS, reason="Chromium is not installed")
def test_images_open_enlarged_and_cells_lead_to_their_images(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    names, sample = ("sea", "street"), tmp_path / "1.png"
    Image.fromarray(np.full((20, 30, 3), 90, dtype=np.uint8)).save(sample)
    wrong = [Prediction(str(sample), "street", 0.9, (0.1, 0.9), label="sea", class_names=names)] * 3
    right = Prediction(str(sample), "sea", 0.9, (0.9, 0.1), label="sea", class_names=names)
    evaluation = compute_metrics([*wrong, right], names, split="test")
    card = dataclasses.replace(CARD, class_names=names)
    samples = {"Images": [Sample(sample, str(sample), "sea", None)]}
    write_report(
        tmp_path, dataclasses.replace(BARE, out=Path("run"), card=card, evaluation=evaluation, samples=samples)
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(BROWSERS[0]), args=["--no-sandbox"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        page.locator("g.has-images path").first.click()
        cell = page.locator("details[open]")
        assert "sea predicted as street" in cell.inner_text()
        cell.locator("button.enlarge").first.click()
        assert page.locator("dialog .path").inner_text() == str(sample)
        assert page.locator("dialog .command").inner_text() == "belvedere explore run --cell sea,street"
        page.keyboard.press("ArrowLeft")
        assert page.locator("dialog .place").inner_text() == "3 of 3"
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
        assert cell.locator("button.enlarge").last.evaluate("each => each === document.activeElement")
        assert not problems
        browser.close()
