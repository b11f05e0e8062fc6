"""A comparison told to a person: the verdict, the classes, and the photographs that changed sides, on one page.

Knows the order and the words; does not know how the figures came about. The page stands alone: its pictures are inside,
it fetches nothing and runs nothing, and everything that comes from a user is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.errors import InvalidImageError
from belvedere.evaluation.compare import Comparison, Pair, find_file, to_json
from belvedere.evaluation.report.html import environment
from belvedere.evaluation.significance import CONFIDENCE, Paired
from belvedere.images.decode import read_image
from belvedere.images.encode import to_data_uri
from belvedere.images.resize import resize_image, within
from belvedere.runtime.files import write_json, write_text
from belvedere.runtime.output_folder import atomic_folder
from belvedere.types.data import NONE_OF_THESE
from belvedere.types.prediction import Prediction

PICTURES = 48  # of each side, at most
PICTURE_PIXELS = 220  # longer side
HEADINGS = {
    "gained": ("Right now, wrong before", "right"),
    "lost": ("Wrong now, right before", "wrong"),
    "wrong otherwise": ("Wrong both times, in different ways", "plain"),
}


@dataclass(frozen=True, slots=True)
class _Picture:
    """One photograph on the page."""

    source: str  # a data URI; empty where it can't be read any more
    name: str
    label: str
    before: str  # the answer
    after: str  # with the confidence


def write_comparison(folder: Path, comparison: Comparison, *, overwrite: bool, inputs: Sequence[Path] = ()) -> Path:
    """Writes `report.html` and `comparison.json`.

    Args:
        folder: It appears when it is whole.
        comparison: What to tell.
        overwrite: Whether an older folder of Belvedere's there may be replaced.
        inputs: What was compared, which is never replaced.

    Returns:
        The page.

    Raises:
        UsageError: The folder may not, or can't, be written.
    """
    with atomic_folder(folder, overwrite=overwrite, inputs=inputs) as place:
        write_json(place / "comparison.json", to_json(comparison))
        templates = environment()
        templates.filters.update(points=_points, percent=_percent)
        page = templates.get_template("compare.html").render(_describe(comparison))
        write_text(place / "report.html", page)
    return folder / "report.html"


def judge(comparison: Comparison) -> str:
    """Says in a sentence what changed, and how sure that is."""
    paired = comparison.overall
    words = f"{_points(paired.change)} ({paired.right_before:,} to {paired.right_after:,} of {paired.images:,} right)"
    return f"{words}. {explain(paired)}"


def explain(paired: Paired) -> str:
    """Return whether a difference is statistically significant, in words."""
    interval = f"{CONFIDENCE:.0%} interval {100 * paired.low:+.1f} to {_points(paired.high)}"
    if paired.gained + paired.lost == 0:
        return "Both are right and wrong on the same photographs."
    significance = "Statistically significant" if paired.p_value < 1 - CONFIDENCE else "Not statistically significant"
    return f"{significance} (p = {paired.p_value:.3g}): {paired.gained:,} gained, {paired.lost:,} lost, {interval}."


def _describe(comparison: Comparison) -> dict[str, object]:
    rows = sorted(comparison.per_class.items())
    reach = max([0.01, *(max(abs(each.low), abs(each.high)) for _, each in [("", comparison.overall), *rows])])
    sides = {
        heading: (tone, len(chosen), [_picture(pair, Path(comparison.after)) for pair in chosen[:PICTURES]])
        for side, (heading, tone) in HEADINGS.items()
        if (chosen := comparison.changed(side))
    }
    return {
        "comparison": comparison,
        "overall": comparison.overall,
        "explanation": explain(comparison.overall),
        "rows": [("All", comparison.overall), *rows],
        "reach": reach,
        "confidence": CONFIDENCE,
        "sides": sides,
    }


def _picture(pair: Pair, run: Path) -> _Picture:
    try:
        pixels = read_image(find_file(run, pair.after.image))
        source = to_data_uri(resize_image(pixels, within(pixels.shape[0], pixels.shape[1], PICTURE_PIXELS)))
    except InvalidImageError:
        source = ""
    return _Picture(
        source=source,
        name=Path(pair.image).name,
        label=pair.label,
        before=_describe_answer(pair.before),
        after=f"{_describe_answer(pair.after)} {pair.after.confidence or 0:.1%}",
    )


def _describe_answer(answer: Prediction) -> str:
    return f"{NONE_OF_THESE}, most probable {answer.predicted_label}" if answer.none_of_these else str(answer.answer)


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _percent(right: int, images: int) -> str:
    return f"{right / images:.1%}" if images else "-"


def table_rows(comparison: Comparison) -> Sequence[tuple[str, str, str, str, str]]:
    """Rows for a terminal: class, before, after, change, interval."""
    return [
        (
            name,
            _percent(paired.right_before, paired.images),
            _percent(paired.right_after, paired.images),
            f"{100 * paired.change:+.1f}",
            f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}",
        )
        for name, paired in [*sorted(comparison.per_class.items()), ("all", comparison.overall)]
    ]
