"""Registration of audit checks of plug-ins and users."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from belvedere.auditing.checks import CHECKS, Check
from belvedere.auditing.image_checks import LISTED, DatasetMedians
from belvedere.auditing.image_statistics import CheckScore, ImageStatistics
from belvedere.errors import PluginError, UsageError, find_named
from belvedere.images.decode import RGB
from belvedere.runtime.registry import plugin_errors

ScoreFunction = Callable[..., float]
MessageFunction = Callable[..., str]
SOURCES = ("pixels", "statistics")


@dataclass(frozen=True, slots=True)
class RegisteredCheck(Check):
    """A check of an image by a function of its pixels, or of its statistics and the medians of the dataset."""

    name: str
    function: ScoreFunction
    message: MessageFunction | None
    on: str  # one of `SOURCES`

    def evaluate(self, image: ImageStatistics, medians: DatasetMedians) -> CheckScore:
        """Return the score of an image whose pixels are gone; 0 if it cannot be read."""
        if self.on == "pixels" or not image.readable:
            return image.pixel_scores.get(self.name, CheckScore())
        return self._score(image, medians)

    def score_pixels(self, pixels: RGB) -> CheckScore:
        """Return the score of the pixels of an image, (H, W, 3), which stay unchanged."""
        view = pixels.view()
        view.flags.writeable = False
        return self._score(view)

    def _score(self, *inputs: object) -> CheckScore:
        try:
            with plugin_errors(f"The check {self.name!r}"):
                score = float(self.function(*inputs))
                if not (math.isfinite(score) and 0 <= score <= 1):
                    raise ValueError(f"the score {score:g} is not from 0 to 1")
                text = f"score {score:.2f}" if self.message is None else ""
                if self.message is not None and score >= LISTED:
                    text = str(self.message(*inputs))
        except PluginError as error:
            return CheckScore(error=str(error))
        return CheckScore(score, text)


def register_check(
    name: str,
    *,
    title: str = "",
    advice: str = "Look at the image.",
    message: MessageFunction | None = None,
    on: Literal["pixels", "statistics"] = "pixels",
    overwrite: bool = False,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Return a decorator that registers an audit check of single images.

    The function returns a score from 0 to 1, where 1 is certainly an issue: images with 0.25 or more are listed in
    issues.csv, images with 0.5 or more are flagged and shown in the report. It gets the pixels of an image that can be
    read, RGB, uint8, (H, W, 3), read-only, or else two records: its `ImageStatistics` and the `DatasetMedians`. Several
    threads call it at once. An image for which it fails is named in a warning, and the audit continues.

    Args:
        name: Name of the check, the `issue_type` of its issues, such as "watermark".
        title: Heading in the report. Default: the name.
        advice: Remedy for an issue, in a sentence.
        message: Function of the same arguments that describes an issue in a line. Default: the score.
        on: "pixels" or "statistics".
        overwrite: Whether to replace a check of that name.

    Raises:
        UsageError: The name is taken, or no name of a column, or `on` is unknown.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise UsageError(f"The name of a check must be letters, digits and underscores. Received: {name!r}.")
    find_named("source of scores", on, dict.fromkeys(SOURCES))

    def add(function: ScoreFunction) -> ScoreFunction:
        heading = title or name.replace("_", " ").capitalize()
        CHECKS.add(name, RegisteredCheck(heading, advice, name, function, message, on), overwrite=overwrite)
        return function

    return add


def registered_checks() -> Mapping[str, RegisteredCheck]:
    """Return the checks of plug-ins and users, by name."""
    return {name: check for name, check in CHECKS.items() if isinstance(check, RegisteredCheck)}


def pixel_functions() -> Mapping[str, Callable[[RGB], CheckScore]]:
    """Return the functions of those checks that need the pixels, by name."""
    return {name: check.score_pixels for name, check in registered_checks().items() if check.on == "pixels"}
