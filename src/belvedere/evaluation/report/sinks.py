"""What is drawn of predictions as they come: a contact sheet, and heatmaps."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from belvedere.errors import InvalidImageError, UsageError
from belvedere.images.decode import RGB, read_image
from belvedere.images.resize import resize_image, within
from belvedere.inference.model import Model
from belvedere.inference.writers.answer_files import SHEET_MARK, is_sheet
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import Input, OutputFile
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress
from belvedere.types.prediction import Prediction

SHEET_PICTURES = 60  # a contact sheet shows the first so many
SHEET_SIDE = 240  # longer side of a picture on it, pixels
LONGEST_STEM = 60  # characters of a picture's name in that of its heatmap: a file's may have 255 bytes


class ContactSheet:
    """A PNG with the first images and their predictions."""

    def __init__(self, path: Path, *, overwrite: bool = False, progress: Progress | None = None) -> None:
        """Set up a contact sheet.

        Args:
            path: The file to write.
            overwrite: Whether any file but those read may be replaced; an older contact sheet always is.
            progress: Is told where the sheet leaves images out.
        """
        self.path = path
        self._overwrite, self._progress = overwrite, progress or Progress()
        self._shown: list[Prediction] = []
        self._images = 0
        self._file: OutputFile | None = None

    @contextmanager
    def open(self, model: Model, inputs: Callable[[], Iterable[Input]]) -> Iterator[None]:
        """Check the place, and write the file after the block, unless it fails."""
        self._file = OutputFile(self.path, overwrite=self._overwrite, inputs=inputs, is_older=is_sheet)
        yield
        from belvedere.evaluation.report.image_grid import draw_sheet  # matplotlib loads longer than a model predicts
        from belvedere.evaluation.report.plots import figure_bytes

        entries = [(_sheet_pixels(prediction), prediction) for prediction in self._shown]
        drawn = draw_sheet(entries, model.class_names, str(model.identity))
        write_bytes(self.path, figure_bytes(drawn, "png", title=SHEET_MARK), self._file.check)
        if self._images > len(self._shown):
            self._progress.say(f"{self.path} shows the first {len(self._shown)} of {self._images:,} pictures.")

    def refuse_input(self, source: Input) -> None:
        """Raise UsageError for an image that the sheet would replace."""
        if self._file is not None:
            self._file.refuse_input(source)

    def write(self, prediction: Prediction) -> None:
        """Take a prediction."""
        self._images += 1
        if len(self._shown) < SHEET_PICTURES:
            self._shown.append(prediction)


class Heatmaps:
    """A folder of images of where the evidence for each tag is, a file a prediction."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Set up a folder of heatmaps.

        Args:
            path: The folder, which appears when it is whole.
            overwrite: Whether an older one may be replaced.
        """
        self.path = path
        self._overwrite = overwrite
        self._images = 0
        self._draw: Callable[[Path, Prediction], None] | None = None

    @contextmanager
    def open(self, model: Model, inputs: Callable[[], Iterable[Input]]) -> Iterator[None]:
        """Make the folder, which takes its place after the block, unless that fails."""
        from belvedere.evaluation.report.heatmap_figures import draw_tags  # matplotlib, as above
        from belvedere.evaluation.report.plots import figure_bytes

        if not model.has_activation_maps:
            raise UsageError(f"{model.name} can't tell where its evidence is: leave out --heatmaps, or train it again.")
        with atomic_folder(self.path, overwrite=self._overwrite, inputs=inputs()) as unfinished:

            def draw(name: Path, prediction: Prediction) -> None:
                write_bytes(unfinished / name, figure_bytes(draw_tags(model, prediction), "png"))

            self._draw = draw
            yield

    def refuse_input(self, source: Input) -> None:
        """Raise nothing: a folder is no image."""

    def write(self, prediction: Prediction) -> None:
        """Draw a prediction."""
        self._images += 1
        if prediction.error is None and self._draw is not None:
            stem = Path(prediction.image).stem[:LONGEST_STEM]
            with suppress(InvalidImageError):  # it was there when it was predicted
                self._draw(Path(f"{self._images:05}-{stem}.png"), prediction)


def _sheet_pixels(prediction: Prediction) -> RGB | None:
    if prediction.error is not None:
        return None
    try:
        pixels = read_image(prediction.image)
    except InvalidImageError:
        return None  # it was there a moment ago
    return resize_image(pixels, within(pixels.shape[0], pixels.shape[1], SHEET_SIDE))
