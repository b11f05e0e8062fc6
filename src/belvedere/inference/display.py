"""HTML of predictions and models for notebooks."""

from collections.abc import Sequence

from belvedere.errors import InvalidImageError
from belvedere.images.decode import DecodedImage
from belvedere.images.encode import thumbnail, to_data_uri
from belvedere.images.inputs import Source
from belvedere.images.resize import shrink
from belvedere.runtime.notebook import block, escape, line, table, title
from belvedere.runtime.terminal import count
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction

MAX_ROWS = 20
THUMBNAIL_SIZE = 96  # longer side, pixels


def predictions_html(predictions: Sequence[Prediction], images: Sequence[Source | None]) -> str:
    """Return a table of the first predictions with their images.

    Args:
        predictions: All predictions.
        images: The first images; None for those that are not shown.
    """
    head = "".join(
        f"<th{' class=text' if index != 3 else ''}>{name}</th>"
        for index, name in enumerate(("image", "", "answer", "confidence", "other classes"))
    )
    shown = predictions[:MAX_ROWS]
    sources = [*images, *[None] * len(shown)]
    rows = "".join(_row(prediction, source) for prediction, source in zip(shown, sources, strict=False))
    parts = [f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>']
    if len(predictions) > MAX_ROWS:
        parts.append(line(f"The first {MAX_ROWS} of {count(len(predictions), 'prediction')}.", quiet=True))
    return block(*parts)


def _row(prediction: Prediction, source: Source | None) -> str:
    uri = _thumbnail_uri(source)
    image = f'<img src="{uri}" alt="" style="max-height: 72px; margin: 0">' if uri else ""
    if prediction.error is not None:
        cells = (image, escape(prediction.image), escape(f"not read: {prediction.error}"), "", "")
    else:
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        others = ", ".join(f"{name} {value:.1%}" for name, value in ranked[:3] if name != prediction.answer)
        confidence = f"{prediction.confidence or 0.0:.1%}"
        cells = (image, escape(prediction.image), escape(prediction.answer), confidence, escape(others))
    return f"<tr>{''.join(f'<td{_align(index)}>{cell}</td>' for index, cell in enumerate(cells))}</tr>"


def _align(column: int) -> str:
    return "" if column == 3 else ' class="text"'


def _thumbnail_uri(source: Source | None) -> str:
    """Return an image as a data URI; empty if there is none, or it cannot be read any more."""
    if source is None or isinstance(source, InvalidImageError):
        return ""
    try:
        if isinstance(source, DecodedImage):
            return to_data_uri(shrink(source.pixels, THUMBNAIL_SIZE))
        return to_data_uri(thumbnail(source, THUMBNAIL_SIZE))
    except InvalidImageError:
        return ""


def describe_model(card: ModelCard | None, sha256: str) -> str:
    """Return classes, input size and hash of a model in one line."""
    if card is None:
        return f"no card, sha256 {sha256[:12]}"
    size = card.preprocess
    return f"{count(len(card.class_names), 'class', 'classes')}, {size.height} x {size.width}, sha256 {sha256[:12]}"


def model_html(name: str, sha256: str, card: ModelCard | None) -> str:
    """Return a summary of a model's card."""
    if card is None:
        return block(title(name), line(describe_model(card, sha256)))
    made, size = card.provenance, card.preprocess
    parameters = sum(layer.parameters for layer in card.layers)
    numbers = ", ".join(f"{number:,} {split}" for split, number in made.num_images.items())
    rows = [
        ("classes", ", ".join(card.class_names)),
        ("input", f"{size.height} x {size.width} pixels, {size.resize}"),
        ("network", f"{made.network}, {parameters:,} parameters"),
        ("recipe", f"{made.recipe}, {made.epochs} epochs, seed {made.seed}"),
        ("images", numbers),
        ("trained", made.created),
        ("sha256", sha256),
    ]
    return block(title(name), table(("", ""), rows, num_texts=2))
