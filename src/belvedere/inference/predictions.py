"""The list of predictions that `predict` returns: tables for pandas and Arrow, HTML for notebooks."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import Source
from belvedere.inference.display import MAX_ROWS, THUMBNAIL_SIZE, predictions_html
from belvedere.runtime.dependencies import require
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction

if TYPE_CHECKING:
    import pandas
    import pyarrow

MAX_SHOWN_BYTES = 4 << 20  # larger files in memory are not kept for display


class Predictions(list[Prediction]):
    """Predictions of one model, in the order of the images. A notebook shows the first 20, with images.

    Attributes:
        class_names: The K classes of the model.
        model: Name and hash of the model.
    """

    def __init__(
        self,
        predictions: Iterable[Prediction],
        class_names: Sequence[str],
        model: ModelId,
        images: Sequence[Source | None] = (),
    ) -> None:
        """Make a list; `images` are the first ones for display, None for those that are not kept."""
        super().__init__(predictions)
        self.class_names, self.model = tuple(class_names), model
        self._sources = list(zip(self, images, strict=False))  # by prediction, since the list may be sorted

    @overload
    def __getitem__(self, index: SupportsIndex) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...

    def __getitem__(self, index: SupportsIndex | slice) -> "Prediction | Predictions":
        if not isinstance(index, slice):
            return super().__getitem__(index)
        part = Predictions(super().__getitem__(index), self.class_names, self.model)
        part._sources = self._sources
        return part

    def _repr_html_(self) -> str:
        return predictions_html(self, list(map(self._find_source, self[:MAX_ROWS])))

    def _find_source(self, prediction: Prediction) -> Source | None:
        """Return the image of a prediction, by identity: predictions of two images may be equal."""
        return next((source for known, source in self._sources if known is prediction), None)

    def to_arrow(self) -> "pyarrow.Table":
        """Return a table with the columns of the Parquet output, which names the model in its metadata.

        Raises:
            MissingDependencyError: pyarrow is not installed.
        """
        from belvedere.inference.writers.parquet import to_table  # pyarrow is an extra

        return to_table(self, self.class_names, self.model)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with the columns of predictions.csv: lists in `tags` and `prediction_set`, numbers as numbers.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        require("pandas", "A data frame")
        import pandas

        from belvedere.inference.writers.text import FIRST_COLUMNS, LAST_COLUMNS, class_columns

        rows = [_to_row(each, len(self.class_names), self.model.short) for each in self]
        columns = [*FIRST_COLUMNS, *class_columns(self.class_names), *LAST_COLUMNS, "model"]
        return pandas.DataFrame(rows, columns=columns)


def _to_row(prediction: Prediction, num_classes: int, model: str) -> list[Any]:
    values = prediction.to_dict()
    probabilities = prediction.probability_values or [None] * num_classes
    first = [values[name] for name in ("image", "answer", "predicted_label", "confidence")]
    last = [values[name] for name in ("tags", "prediction_set", "none_of_these", "none_of_these_score", "error")]
    return [*first, *probabilities, *last, model]


def keep_shown(sources: Iterable[Source], shown: list[Source | None]) -> Iterator[Source]:
    """Yield images, and keep what a notebook shows of the first ones: a path, a small file, or every n-th pixel."""
    for source in sources:
        if len(shown) < MAX_ROWS:
            shown.append(_to_shown(source))
        yield source


def _to_shown(source: Source) -> Source | None:
    if isinstance(source, DecodedImage):
        step = max(1, max(source.pixels.shape) // (2 * THUMBNAIL_SIZE))
        return DecodedImage(source.pixels[::step, ::step].copy())
    if isinstance(source, bytes) and len(source) > MAX_SHOWN_BYTES:
        return None
    return source if isinstance(source, Path | str | bytes) else None
