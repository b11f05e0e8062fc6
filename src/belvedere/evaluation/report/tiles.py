"""Images with captions for a report: samples and the most confident mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from belvedere.errors import InvalidImageError
from belvedere.evaluation.evaluate import most_confident_errors
from belvedere.evaluation.report.heatmap_figures import side_by_side
from belvedere.evaluation.report.image_grid import Tile, describe_said
from belvedere.images.decode import read_image
from belvedere.images.resize import resize_image, within
from belvedere.inference.model import Model
from belvedere.types.data import Sample
from belvedere.types.evaluation import Evaluation

SAMPLE_TILES = 24  # photographs in a sample grid
MISTAKE_TILES = 24
TILE_PIXELS = 150  # longer side of a photograph in the report


def sample_tiles(samples: Sequence[Sample], class_names: Sequence[str]) -> list[Tile]:
    """Chooses photographs for a sample grid: class after class in turn, evenly over each."""
    each = max(1, SAMPLE_TILES // len(class_names))
    chosen: list[Sample] = []
    for name in class_names:
        members = [sample for sample in samples if sample.label == name]
        chosen += members[:: max(1, len(members) // each)][:each]
    return [tile for sample in chosen[: 2 * SAMPLE_TILES] if (tile := _tile(sample.path, sample.label)) is not None]


def mistake_tiles(
    evaluation: Evaluation, samples: Mapping[str, Sequence[Sample]], model: Model | None = None
) -> list[Tile]:
    """Shows the most confident mistakes, with given and predicted label, and beside each the evidence for both."""
    paths = {sample.image: sample.path for group in samples.values() for sample in group}
    tiles = []
    for answer in most_confident_errors(evaluation, MISTAKE_TILES):
        caption = "\n".join((f"labeled {answer.label}", *describe_said(answer), Path(answer.image).name))
        classes = (str(answer.predicted_label), str(answer.label))
        tile = _tile(paths[answer.image], caption, "wrong", model, classes)
        tiles += [tile] if tile is not None else []
    return tiles


def _tile(
    path: Path, caption: str, tone: str = "plain", model: Model | None = None, classes: Sequence[str] = ()
) -> Tile | None:
    try:
        if model is not None and model.has_activation_maps:
            return Tile(side_by_side(model, path, classes, TILE_PIXELS), caption, tone)
        pixels = read_image(path)
    except InvalidImageError:
        return None  # named among the notes already
    return Tile(resize_image(pixels, within(pixels.shape[0], pixels.shape[1], TILE_PIXELS)), caption, tone)
