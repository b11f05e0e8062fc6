"""The figures: what they show, that any name goes through, and that they are the same every time."""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from belvedere.errors import UsageError
from belvedere.evaluation.report import image_grid, plots
from belvedere.evaluation.report.image_grid import Tile
from belvedere.evaluation.report.pages import COLORS
from belvedere.types.evaluation import ClassMetrics, Confusion, EpochMetrics, Evaluation, ReliabilityBin
from belvedere.types.prediction import Prediction

NASTY = ("<script>alert(1)</script>", "..", "naïve café", "$x^2$", "日本", "a\nb\x07", "\udcff", "x" * 300)


def make_evaluation(class_names: tuple[str, ...], per_class: int = 10, part: str = "test") -> Evaluation:
    """Every class has so many images, one of which (two of the first) is taken for the class after it."""
    count = len(class_names)
    confusion = np.eye(count, dtype=int) * (per_class - 1)
    for row in range(count):
        confusion[row, (row + 1) % count] += 1
    confusion[0, 0] -= 1
    confusion[0, 1] += 1
    accuracy = float(np.trace(confusion)) / (count * per_class)
    bins = tuple(
        ReliabilityBin(k / 15, (k + 1) / 15, count * per_class if k == 13 else 0, 0.9, accuracy) for k in range(15)
    )
    return Evaluation(
        class_names=class_names,
        num_images=count * per_class,
        num_unreadable=1,
        accuracy=accuracy,
        macro_f1=accuracy,
        log_loss=0.4,
        ece=abs(0.9 - accuracy),
        per_class=tuple(ClassMetrics(name, 0.9, 0.8, 0.85, per_class) for name in class_names),
        confusion_matrix=confusion,
        confusions=(Confusion(class_names[0], class_names[1], 2, 2 / per_class),),
        reliability_bins=bins,
        predictions=(),
        split=part,
    )


def make_history(epochs: int) -> tuple[EpochMetrics, ...]:
    return tuple(
        EpochMetrics(epoch, 2.0, 500.0, 1e-3, 1 / epoch, 1 - 0.5 / epoch, 1.1 / epoch, 0.95 - 0.5 / epoch)
        for epoch in range(1, epochs + 1)
    )


def make_pixels(height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)


def write_texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def draw_svg(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(plots.figure_bytes(figure, "svg"))  # noqa: S314


def test_history_shows_both_curves_and_the_kept_epoch() -> None:
    figure = plots.draw_history(make_history(20), best_epoch=17)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Loss, lower is better",
        "Accuracy, higher is better",
    ]
    for axes in figure.axes:
        labels = [line.get_label() for line in axes.lines]
        assert labels[:2] == ["training", "validation"]
        assert labels[-1] == "best epoch: 17"
        assert list(np.asarray(axes.lines[-1].get_xdata())) == [17]


@pytest.mark.parametrize("best_epoch", [1, 0])
def test_a_single_epoch_has_a_dot_and_a_best_epoch_that_is_not_there_no_mark(best_epoch: int) -> None:
    figure = plots.draw_history(make_history(1), best_epoch)
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert len(figure.axes[0].lines) == (4 if best_epoch else 2)
    draw_svg(figure)


def test_confusion_cells_hold_counts_or_fractions() -> None:
    evaluation = make_evaluation(("sea", "forest", "glacier"), per_class=400)
    counts, percent = (plots.draw_confusion(evaluation, normalize=normalize) for normalize in (False, True))
    assert write_texts(counts) == ["398", "2", "399", "1", "1", "399"]
    assert write_texts(percent) == [">99", "<1", ">99", "<1", "<1", ">99"]
    assert [label.get_text() for label in counts.axes[0].get_yticklabels()] == ["sea", "forest", "glacier"]
    assert counts.axes[0].get_xlabel() == "Prediction"
    assert counts.axes[0].get_ylabel() == "Label"
    assert counts.axes[0].get_ylim() == (2.5, -0.5)  # the first class on top


def test_a_class_without_images_leaves_an_empty_row() -> None:
    evaluation = make_evaluation(("a", "b"), per_class=10)
    object.__setattr__(evaluation, "confusion_matrix", np.array([[0, 0], [1, 9]]))
    assert write_texts(plots.draw_confusion(evaluation, normalize=True)) == ["10", "90"]


@pytest.mark.parametrize("count", [2, 8, 30])
def test_any_name_and_any_number_of_classes_goes_through_without_a_warning(count: int) -> None:
    names = (*NASTY, *(f"class {number}" for number in range(40)))[:count]
    figure = plots.draw_confusion(make_evaluation(names), normalize=True)
    assert 3 < figure.get_size_inches()[0] < 16
    assert Image.open(io.BytesIO(plots.figure_bytes(figure, "png"))).format == "PNG"
    draw_svg(figure)


@pytest.mark.parametrize(("count", "named"), [(41, 21), (200, 40), (1001, 39)])
def test_many_classes_are_one_small_raster_with_some_names(count: int, named: int) -> None:
    evaluation = make_evaluation(tuple(f"class {number}" for number in range(count)))
    counts, percent = (plots.draw_confusion(evaluation, normalize=normalize) for normalize in (False, True))
    for figure in (counts, percent):
        (axes,) = figure.axes
        assert len(axes.images) == 1
        assert not axes.texts
        assert len(axes.get_xticklabels()) == len(axes.get_yticklabels()) == named
        assert axes.get_yticklabels()[1].get_text() == f"class {-(-count // 40)}"
        assert axes.get_ylim() == (count - 0.5, -0.5)  # the first class on top
    assert counts.axes[0].get_title(loc="left") == "Number of images, full color: 9"
    assert percent.axes[0].get_title(loc="left") == "Percent of each row, full color: 100%"


def test_a_raster_has_the_colors_of_the_cells_and_is_clear_where_nothing_is() -> None:
    (image,) = plots.draw_confusion(make_evaluation(tuple(map(str, range(41)))), normalize=True).axes[0].images
    pixels = np.asarray(image.get_array())
    assert to_hex(pixels[3, 3]) == COLORS["accent"]
    assert to_hex(pixels[3, 4]) == COLORS["contrast"]
    assert [pixels[3, column, 3] for column in (3, 4, 5)] == pytest.approx([0.9**0.6, 0.1**0.6, 0])


def test_a_full_matrix_of_many_classes_makes_small_files() -> None:
    evaluation = make_evaluation(tuple(f"class {number}" for number in range(200)))
    counts = np.random.default_rng(0).integers(0, 9, (200, 200)) + 200 * np.eye(200, dtype=int)
    object.__setattr__(evaluation, "confusion_matrix", counts)
    figure = plots.draw_confusion(evaluation, normalize=True)
    assert len(plots.figure_bytes(figure, "svg")) < 500_000
    assert len(plots.figure_bytes(figure, "png")) < 500_000


def test_calibration_shows_a_bar_a_filled_bin_and_the_error() -> None:
    figure = plots.draw_calibration(make_evaluation(("a", "b")))
    reliability, counts = figure.axes
    assert reliability.get_title(loc="left") == "Calibration error 5.0%"
    (bar,) = (patch for patch in counts.patches if isinstance(patch, Rectangle))
    assert bar.get_x() == pytest.approx(13 / 15)
    assert bar.get_height() == 20
    draw_svg(figure)


def test_grid_places_every_image_and_marks_status_by_more_than_color() -> None:
    tiles = [Tile(make_pixels(), "sea"), Tile(make_pixels(), "a\nb", "right"), Tile(make_pixels(), "x", "wrong")]
    figure = image_grid.draw_grid(tiles, "Images", columns=2)
    (page,) = figure.axes
    assert write_texts(figure) == ["Images", "sea", "✓ a\nb", "✗ x"]
    (first, second, third) = (image.get_extent() for image in page.images)  # left, right, bottom, top
    assert first[2:] == second[2:]
    assert first[1] < second[0]
    assert first[2] < third[3]
    width, height = figure.get_size_inches()
    assert all(
        0 <= left < right <= width and 0 <= top < bottom <= height
        for left, right, bottom, top in (first, second, third)
    )
    assert [patch.get_linewidth() for patch in page.patches] == [0.8, 2.5, 2.5]


def test_grid_keeps_the_shape_of_an_image() -> None:
    (page,) = image_grid.draw_grid([Tile(make_pixels(20, 60), "wide"), Tile(make_pixels(60, 20), "tall")], "Two").axes
    for image, ratio in zip(page.images, (3, 1 / 3), strict=True):
        left, right, bottom, top = image.get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(ratio)


@pytest.mark.parametrize("tiles", [[], [Tile(make_pixels(1, 1), name) for name in NASTY]], ids=["none", "nasty"])
def test_grid_of_nothing_and_of_any_caption(tiles: list[Tile]) -> None:
    figure = image_grid.draw_grid(tiles, NASTY[0])
    assert Image.open(io.BytesIO(plots.figure_bytes(figure, "png"))).width > 1000


def test_sheet_shows_three_decimals_the_given_label_and_why_a_file_could_not_be_read() -> None:
    right = Prediction("fjord.jpg", "sea", 0.58, (0.58, 0.27, 0.15), label="sea")
    wrong = Prediction("peak.jpg", "sea", 0.5, (0.5, 0.3, 0.2), label="glacier")
    broken = Prediction("broken.jpg", error="The file is cut off after 1,203 bytes")
    entries = [(make_pixels(), right), (make_pixels(), wrong), (None, broken), (None, right)]
    figure = image_grid.draw_sheet(entries, ("sea", "mountain", "glacier"))
    texts = write_texts(figure)
    assert {"fjord.jpg", "peak.jpg", "broken.jpg", "58.0%", "27.0%", "✓ labeled sea", "✗ labeled glacier"} <= set(texts)
    assert "The file is cut off\nafter 1,203 bytes" in texts
    assert "The image is no longer\nthere." in texts
    draw_svg(figure)


def test_sheet_of_any_name_and_of_many_images_fits_a_png() -> None:
    answer = Prediction(NASTY[6], NASTY[0], 1.0, (1.0, *[0.0] * 7), label=NASTY[7])
    assert plots.figure_bytes(image_grid.draw_sheet([(None, answer), (make_pixels(), answer)], NASTY), "png")
    assert plots.figure_bytes(image_grid.draw_sheet([], NASTY), "png")
    figure = Figure(figsize=(0.1, 900))
    assert Image.open(io.BytesIO(plots.figure_bytes(figure, "png"))).height <= 60_000


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize(
    "draw",
    [lambda: plots.draw_history(make_history(3), 2), lambda: plots.draw_calibration(make_evaluation(("a", "b")))],
    ids=["history", "calibration"],
)
def test_figures_are_the_same_bytes_every_time(draw: Callable[[], Figure], kind: str) -> None:
    assert plots.figure_bytes(draw(), kind) == plots.figure_bytes(draw(), kind)


def test_drawing_leaves_no_setting_changed_and_heeds_no_foreign_one() -> None:
    expected = plots.figure_bytes(plots.draw_history(make_history(2), 1), "svg")
    with matplotlib.rc_context({"text.parse_math": True, "font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert plots.figure_bytes(plots.draw_history(make_history(2), 1), "svg") == expected
        assert dict(matplotlib.rcParams) == before


def test_saving_writes_png_and_svg_and_nothing_else(tmp_path: Path) -> None:
    figure = plots.draw_history(make_history(2), 1)
    plots.save_figure(figure, tmp_path, "history")
    plots.save_figure(figure, tmp_path, "grid", vector=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "history.png", "history.svg"]
    with Image.open(tmp_path / "history.png") as image:
        assert image.size == tuple(round(150 * inches) for inches in figure.get_size_inches())
    with pytest.raises(UsageError, match="missing"):
        plots.save_figure(figure, tmp_path / "missing", "history")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("sea", "sea"), ("abcdefghijk", "abcde…hijk"), ("a\tb", "a\\tb"), ("\u202egpj", "\\u202egpj"), ("é日", "é日")],
)
def test_shorten_keeps_both_ends_and_shows_what_can_not_be_printed(text: str, expected: str) -> None:
    assert plots.truncate_middle(text, 10) == expected
