"""The page of a comparison of two runs."""

from collections.abc import Sequence
from pathlib import Path

from belvedere.evaluation.comparison import Comparison, Pair, find_file
from belvedere.evaluation.report.pages import TEMPLATES, EmbeddedImage, embed_image, percent, points, write_page
from belvedere.evaluation.significance import CONFIDENCE, PairedComparison
from belvedere.images.encode import thumbnail_or_none
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.serialization import write_json
from belvedere.types.data import NONE_OF_THESE
from belvedere.types.prediction import Prediction

MAX_IMAGES = 48  # of each section
IMAGE_SIZE = 220  # longer side, pixels
SECTIONS = {
    "gained": ("Gained: correct now, wrong before", "right"),
    "lost": ("Lost: wrong now, correct before", "wrong"),
    "still_wrong": ("Wrong in both runs, with different predictions", "plain"),
}


def write_comparison(folder: Path, comparison: Comparison, *, overwrite: bool, inputs: Sequence[Path] = ()) -> Path:
    """Write report.html and comparison.json, and return the path of the page; `inputs` are never replaced.

    Raises:
        UsageError: The folder cannot be written.
        OutputExistsError: It exists and may not be replaced.
    """
    with atomic_folder(folder, overwrite=overwrite, inputs=inputs) as unfinished:
        write_json(unfinished / "comparison.json", comparison.to_dict())
        rows = sorted(comparison.per_class.items())
        intervals = [comparison.overall, *comparison.per_class.values()]
        sections = [
            (heading, len(chosen), [_embed(pair, Path(comparison.after), status) for pair in chosen[:MAX_IMAGES]])
            for change, (heading, status) in SECTIONS.items()
            if (chosen := comparison.changed(change))
        ]
        write_page(
            unfinished / "report.html",
            TEMPLATES / "compare.html",
            comparison=comparison,
            overall=comparison.overall,
            explanation=describe_significance(comparison.overall),
            rows=[("All", comparison.overall), *rows],
            scale=max([0.01, *(max(abs(each.ci_low), abs(each.ci_high)) for each in intervals)]),
            confidence=CONFIDENCE,
            sections=sections,
        )
    return folder / "report.html"


def describe_change(comparison: Comparison) -> str:
    """Return the accuracy change and its significance as text."""
    paired = comparison.overall
    counts = f"{paired.num_correct_before:,} to {paired.num_correct_after:,} of {paired.num_images:,} correct"
    return f"{points(paired.accuracy_change)} ({counts}). {describe_significance(paired)}"


def describe_significance(paired: PairedComparison) -> str:
    """Return whether a difference is statistically significant as text."""
    interval = f"{CONFIDENCE:.0%} interval {100 * paired.ci_low:+.1f} to {points(paired.ci_high)}"
    if paired.num_gained + paired.num_lost == 0:
        return "Both models are correct on the same images."
    significance = "Statistically significant" if paired.p_value < 1 - CONFIDENCE else "Not statistically significant"
    counts = f"{paired.num_gained:,} gained, {paired.num_lost:,} lost"
    return f"{significance} (p = {paired.p_value:.3g}): {counts}, {interval}."


def table_rows(comparison: Comparison) -> Sequence[tuple[str, str, str, str, str]]:
    """Return rows for a terminal: class, before, after, change, interval."""
    return [
        (
            name,
            percent(paired.accuracy_before),
            percent(paired.accuracy_after),
            f"{100 * paired.accuracy_change:+.1f}",
            f"{100 * paired.ci_low:+.1f} to {100 * paired.ci_high:+.1f}",
        )
        for name, paired in [*sorted(comparison.per_class.items()), ("all", comparison.overall)]
    ]


def _embed(pair: Pair, run: Path, status: str) -> EmbeddedImage:
    path = find_file(run, pair.after.image)
    pixels = thumbnail_or_none(path, IMAGE_SIZE)
    predictions = f"{_describe(pair.before)} → {_describe(pair.after)} {percent(pair.after.confidence or 0.0)}"
    return embed_image(pixels, f"labeled {pair.label}\n{predictions}\n{Path(pair.image).name}", status, path=str(path))


def _describe(prediction: Prediction) -> str:
    if prediction.none_of_these:
        return f"{NONE_OF_THESE} (most probable: {prediction.predicted_label})"
    return str(prediction.answer)
