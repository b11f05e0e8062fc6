"""Sinks of a batch prediction that draw: a contact sheet, and a folder of heatmaps."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from belvedere.errors import InvalidImageError, UsageError
from belvedere.images.encode import thumbnail_or_none
from belvedere.images.listing import is_folder
from belvedere.inference.model import Model
from belvedere.inference.writers.detect import CONTACT_SHEET_TITLE, is_contact_sheet
from belvedere.runtime.dependencies import require
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import Input, OutputFile
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.types.prediction import Prediction

MAX_SHEET_IMAGES = 60
SHEET_IMAGE_SIZE = 240  # longer side, pixels
MAX_STEM_LENGTH = 60  # characters; file names have at most 255 bytes


class ContactSheet:
    """A PNG with the first images and their predictions."""

    def __init__(self, path: Path, *, overwrite: bool = False, progress: Progress | bool | None = None) -> None:
        """Set up a contact sheet.

        Args:
            path: File to write.
            overwrite: Whether to replace any file except inputs; an older contact sheet is always replaced.
            progress: Logs how many images the sheet shows, if not all. Default: on a terminal and in a notebook.
        """
        require("report", "A contact sheet")
        self.path = path
        self._overwrite, self._progress = overwrite, choose_progress(progress)
        self._shown: list[Prediction] = []
        self._num_images = 0
        self._file: OutputFile | None = None

    @contextmanager
    def open(self, model: Model, inputs: Callable[[], Iterable[Input]]) -> Iterator[None]:
        """Check the path, and write the file at the end of the block, unless it fails."""
        self._file = OutputFile(self.path, overwrite=self._overwrite, inputs=inputs, is_older=is_contact_sheet)
        yield
        from belvedere.evaluation.report.image_grid import draw_sheet  # matplotlib loads longer than a model predicts
        from belvedere.evaluation.report.plots import figure_bytes

        entries = [
            (None if each.error else thumbnail_or_none(each.image, SHEET_IMAGE_SIZE), each)  # or deleted since
            for each in self._shown
        ]
        drawn = draw_sheet(entries, model.class_names, str(model.identity))
        write_bytes(self.path, figure_bytes(drawn, "png", title=CONTACT_SHEET_TITLE), self._file.check)
        if self._num_images > len(self._shown):
            self._progress.log(f"{self.path} shows the first {len(self._shown)} of {self._num_images:,} images.")

    def refuse_input(self, source: Input) -> None:
        """Raise OutputExistsError for an image that the sheet would replace."""
        if self._file is not None:
            self._file.refuse_input(source)

    def write(self, prediction: Prediction) -> None:
        """Add a prediction."""
        self._num_images += 1
        if len(self._shown) < MAX_SHEET_IMAGES:
            self._shown.append(prediction)


class Heatmaps:
    """A folder with the heatmaps of each prediction's tags, one file an image."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Set up a folder of heatmaps.

        Args:
            path: Folder to write; it appears when it is complete.
            overwrite: Whether to replace an older one.
        """
        require("report", "A heatmap figure")
        self.path = path
        self._overwrite = overwrite
        self._num_images = 0
        self._draw: Callable[[Path, Prediction], None] | None = None

    @contextmanager
    def open(self, model: Model, inputs: Callable[[], Iterable[Input]]) -> Iterator[None]:
        """Create the folder, and publish it at the end of the block, unless it fails."""
        from belvedere.evaluation.report.image_grid import draw_tags  # matplotlib, as above
        from belvedere.evaluation.report.plots import figure_bytes

        if not model.has_activation_maps:
            raise UsageError(f"{model.name} has no class activation maps, so no heatmaps. Train it again.")
        listed = list(inputs())
        self._check_outside(listed)
        with atomic_folder(self.path, overwrite=self._overwrite, inputs=listed) as unfinished:

            def draw(name: Path, prediction: Prediction) -> None:
                write_bytes(unfinished / name, figure_bytes(draw_tags(model, prediction), "png"))

            self._draw = draw
            yield

    def _check_outside(self, inputs: Iterable[Input]) -> None:
        """Raise UsageError for a place in a folder of images, where the heatmaps would be predicted as well."""
        outer = self.path.resolve().parents
        if folder := next((each for each in inputs if is_folder(each) and Path(str(each)).resolve() in outer), None):
            raise UsageError(
                f"{self.path} is in {folder}, whose images are predicted: heatmaps would be predicted, too. Give a "
                "folder outside it for the heatmaps."
            )

    def refuse_input(self, source: Input) -> None:
        """Raise nothing: a folder cannot be an input image."""

    def write(self, prediction: Prediction) -> None:
        """Draw a prediction."""
        self._num_images += 1
        if prediction.error is None and self._draw is not None:
            stem = Path(prediction.image).stem[:MAX_STEM_LENGTH]
            with suppress(InvalidImageError):  # the file may have gone since
                self._draw(Path(f"{self._num_images:05}-{stem}.png"), prediction)
