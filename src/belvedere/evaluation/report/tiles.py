"""Images with captions for a report: samples and the most confident mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from belvedere.data.sampling import choose_samples
from belvedere.errors import InvalidImageError
from belvedere.evaluation.metrics import most_confident_errors
from belvedere.evaluation.report.heatmap_figures import side_by_side
from belvedere.evaluation.report.image_grid import Tile
from belvedere.evaluation.report.text import describe_prediction
from belvedere.images.encode import thumbnail
from belvedere.inference.model import Model
from belvedere.types.data import Sample
from belvedere.types.evaluation import Confusion, Evaluation, WeakSlice
from belvedere.types.prediction import Prediction

SAMPLE_TILES = 24
MISTAKE_TILES = 24
TILE_SIZE = 320  # longer side, pixels: as large as an image is shown where it is enlarged
HEATMAP_SIZE = 224  # the same, with two heatmaps beside it
CELL_TILES, MAX_CELLS, CELL_SIZE = 6, 24, 200  # images of a confusion, confusions with images, and pixels
SLICE_TILES = 12


def sample_tiles(samples: Sequence[Sample], class_names: Sequence[str]) -> list[Tile]:
    """Return evenly spaced images of each class."""
    chosen = choose_samples(samples, class_names, SAMPLE_TILES)
    return [
        tile
        for sample in chosen[: 2 * SAMPLE_TILES]
        if (tile := _tile(sample.path, sample.label, TILE_SIZE)) is not None
    ]


def mistake_tiles(evaluation: Evaluation, paths: Mapping[str, Path], model: Model | None = None) -> list[Tile]:
    """Return the most confident mistakes, with heatmaps of the predicted and the given label if `model` has them."""
    size = HEATMAP_SIZE if model is not None and model.has_activation_maps else TILE_SIZE
    return _prediction_tiles(most_confident_errors(evaluation, MISTAKE_TILES), paths, size, model)


def cell_tiles(evaluation: Evaluation, paths: Mapping[str, Path]) -> list[tuple[Confusion, list[Tile]]]:
    """Return the most confident images of the most frequent confusions."""
    errors = most_confident_errors(evaluation, evaluation.num_images)
    return [
        (pair, _prediction_tiles(of_pair[:CELL_TILES], paths, CELL_SIZE))
        for pair in evaluation.confusions[:MAX_CELLS]
        if (of_pair := [e for e in errors if (e.label, e.predicted_label) == (pair.label, pair.predicted_label)])
    ]


def slice_tiles(evaluation: Evaluation, paths: Mapping[str, Path]) -> list[tuple[WeakSlice, list[Tile]]]:
    """Return the first images of each weak slice."""
    known = {each.image: each for each in evaluation.predictions}
    return [
        (each, _prediction_tiles([known[name] for name in each.images[:SLICE_TILES]], paths, TILE_SIZE))
        for each in evaluation.weak_slices
    ]


def _prediction_tiles(
    predictions: Sequence[Prediction], paths: Mapping[str, Path], size: int, model: Model | None = None
) -> list[Tile]:
    tiles = []
    for prediction in predictions:
        caption = "\n".join(
            (f"labeled {prediction.label}", *describe_prediction(prediction), Path(prediction.image).name)
        )
        status = "wrong" if prediction.predicted_label != prediction.label else "plain"
        classes = (str(prediction.predicted_label), str(prediction.label))
        tile = _tile(paths[prediction.image], caption, size, status, model, classes)
        tiles += [tile] if tile is not None else []
    return tiles


def _tile(
    path: Path, caption: str, size: int, status: str = "plain", model: Model | None = None, classes: Sequence[str] = ()
) -> Tile | None:
    try:
        if model is not None and model.has_activation_maps:
            return Tile(side_by_side(model, path, classes, size), caption, status, str(path))
        return Tile(thumbnail(path, size), caption, status, str(path))
    except InvalidImageError:
        return None  # listed among the warnings
