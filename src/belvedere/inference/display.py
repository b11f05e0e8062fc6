"""HTML of predictions and models for notebooks."""

from collections.abc import Sequence

from belvedere.errors import InvalidImageError
from belvedere.images.decode import DecodedImage
from belvedere.images.encode import thumbnail_or_none, to_data_uri
from belvedere.images.inputs import Source
from belvedere.images.resize import shrink
from belvedere.runtime.notebook import BLUE, block, escape, line, table, title
from belvedere.runtime.terminal import count
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction

MAX_ROWS = 20
MAX_COLUMNS = 8  # with more classes, the most probable ones are listed
THUMBNAIL_SIZE = 96  # longer side, pixels


def predictions_html(predictions: Sequence[Prediction], images: Sequence[Source | None]) -> str:
    """Return a table of the first predictions with their images.

    Args:
        predictions: All predictions.
        images: The images of the first `MAX_ROWS`; None for those that are not kept.
    """
    shown = predictions[:MAX_ROWS]
    names = next((each.class_names for each in shown if each.class_names), ())
    columns = names if len(names) <= MAX_COLUMNS else ()
    has_tags = any(len(each.tags) > 1 for each in shown)
    numbers = columns or ("confidence",)
    texts = ("other classes",) * (not columns) + ("tags",) * has_tags
    titles = ("image", "", "answer", *numbers, *texts)
    head = "".join(
        f"<th{'' if 3 <= index < 3 + len(numbers) else ' class=text'}>{escape(title)}</th>"
        for index, title in enumerate(titles)
    )
    rows = "".join(
        _row(prediction, source, columns, has_tags) for prediction, source in zip(shown, images, strict=True)
    )
    table_html = f'<table class="predictions"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    parts = [f'<div class="scroll">{table_html}</div>']
    if len(predictions) > MAX_ROWS:
        parts.append(line(f"The first {MAX_ROWS} of {count(len(predictions), 'prediction')}.", quiet=True))
    return block(*parts)


def _row(prediction: Prediction, source: Source | None, columns: Sequence[str], has_tags: bool) -> str:
    uri = _thumbnail_uri(source)
    image = f'<img src="{uri}" alt="" style="max-height: 72px; margin: 0">' if uri else ""
    answer = prediction.answer if prediction.error is None else f"not read: {prediction.error}"
    cells = [_text(image), _text(escape(prediction.image)), _text(escape(answer))]
    values = prediction.probabilities
    if columns:
        cells += [_shaded(values[name]) if values else "<td></td>" for name in columns]
    else:
        ranked = sorted(values.items(), key=lambda item: -item[1])
        others = ", ".join(f"{name} {value:.1%}" for name, value in ranked[:3] if name != prediction.answer)
        cells.append("<td></td>" if prediction.confidence is None else f"<td>{prediction.confidence:.1%}</td>")
        cells.append(_text(escape(others)))
    if has_tags:
        cells.append(_text(escape(", ".join(f"{tag.name} {tag.area_fraction:.0%}" for tag in prediction.tags))))
    return f"<tr>{''.join(cells)}</tr>"


def _text(content: str) -> str:
    return f'<td class="text">{content}</td>'


def _shaded(probability: float) -> str:
    return f'<td style="background: {BLUE}{round(140 * probability):02x}">{probability:.1%}</td>'


def _thumbnail_uri(source: Source | None) -> str:
    """Return an image as a data URI; empty if there is none, or it cannot be read any more."""
    if source is None or isinstance(source, InvalidImageError):
        return ""
    if isinstance(source, DecodedImage):
        return to_data_uri(shrink(source.pixels, THUMBNAIL_SIZE))
    pixels = thumbnail_or_none(source, THUMBNAIL_SIZE)
    return "" if pixels is None else to_data_uri(pixels)


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
