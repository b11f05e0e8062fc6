"""Images with captions for a report: samples and the most confident mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from belvedere.errors import InvalidImageError
from belvedere.evaluation.metrics import most_confident_errors
from belvedere.evaluation.report.heatmap_figures import side_by_side
from belvedere.evaluation.report.image_grid import Tile
from belvedere.evaluation.report.text import describe_prediction
from belvedere.images.encode import thumbnail
from belvedere.inference.model import Model
from belvedere.types.data import Sample
from belvedere.types.evaluation import Evaluation

SAMPLE_TILES = 24
MISTAKE_TILES = 24
TILE_SIZE = 150  # longer side, pixels


def sample_tiles(samples: Sequence[Sample], class_names: Sequence[str]) -> list[Tile]:
    """Return evenly spaced images of each class."""
    per_class = max(1, SAMPLE_TILES // len(class_names))
    chosen: list[Sample] = []
    for name in class_names:
        members = [sample for sample in samples if sample.label == name]
        chosen += members[:: max(1, len(members) // per_class)][:per_class]
    return [tile for sample in chosen[: 2 * SAMPLE_TILES] if (tile := _tile(sample.path, sample.label)) is not None]


def mistake_tiles(
    evaluation: Evaluation, samples: Mapping[str, Sequence[Sample]], model: Model | None = None
) -> list[Tile]:
    """Return the most confident mistakes, with heatmaps of the predicted and the given label if `model` has them."""
    paths = {sample.name: sample.path for group in samples.values() for sample in group}
    tiles = []
    for prediction in most_confident_errors(evaluation, MISTAKE_TILES):
        name = Path(prediction.image).name
        caption = "\n".join((f"labeled {prediction.label}", *describe_prediction(prediction), name))
        classes = (str(prediction.predicted_label), str(prediction.label))
        tile = _tile(paths[prediction.image], caption, "wrong", model, classes)
        tiles += [tile] if tile is not None else []
    return tiles


def _tile(
    path: Path, caption: str, status: str = "plain", model: Model | None = None, classes: Sequence[str] = ()
) -> Tile | None:
    try:
        if model is not None and model.has_activation_maps:
            return Tile(side_by_side(model, path, classes, TILE_SIZE), caption, status)
        return Tile(thumbnail(path, TILE_SIZE), caption, status)
    except InvalidImageError:
        return None  # listed among the warnings
