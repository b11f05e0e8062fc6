"""Checks of single images by their statistics, against the medians of the dataset.

Each check gives a score from 0 to 1; 1: certainly an issue.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from belvedere.auditing.image_statistics import CheckScore, ImageStatistics

LISTED, FLAGGED = 0.25, 0.5  # scores from which an issue is listed, and flagged
EXIF_SCORE = 0.4  # listed, not flagged
MIN_SIZE = 32  # shorter side, pixels; a smaller one is odd if the others are larger
MIN_SIZE_RATIO, SMALLER_RATIO = 0.25, 0.7  # of the median shorter side
MAX_ASPECT_RATIO = 2.0  # times the median aspect ratio
DARK, LIGHT = 0.2, 0.75  # luminance: p95 of a dark image, p5 of a light one
GRAYSCALE, COLORFUL = 0.01, 0.03  # colorfulness of a grayscale image, and median of a color dataset
BLURRY = 0.5  # Intel's sharpest quarter has 0.17, with a Gaussian blur of 2 pixels 0.45 to 0.81
BLUR_MARGIN = 0.15  # above the median
LOW_CONTRAST, LOW_ENTROPY = 0.03, 2.5  # standard deviation of the luminance, and bits in 64 levels
UPSCALED, UPSCALED_MARGIN = -1.5, 0.6  # high-frequency ratio (common logarithm), and margin below the median


@dataclass(frozen=True, slots=True)
class DatasetMedians:
    """Medians of the readable images."""

    shorter_side: float
    aspect_ratio: float  # longer side by shorter side
    colorfulness: float
    blur: float
    high_frequency_ratio: float


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """One check of an image; an unreadable one scores 0 unless the check is of files."""

    title: str
    advice: str
    measure: Callable[[ImageStatistics, DatasetMedians], float]
    message: Callable[[ImageStatistics, DatasetMedians], str]
    is_of_files: bool = False

    def evaluate(self, image: ImageStatistics, medians: DatasetMedians) -> CheckScore:
        """Return the score of an image, with a message if it is to be listed."""
        score = self.measure(image, medians) if image.readable or self.is_of_files else 0.0
        return CheckScore(score, self.message(image, medians) if score >= LISTED else "")


def dataset_medians(statistics: Sequence[ImageStatistics]) -> DatasetMedians:
    """Return the medians of the readable images."""
    readable = [each for each in statistics if each.readable] or [ImageStatistics("")]
    rows = [
        (min(each.width, each.height), _aspect_ratio(each), each.colorfulness, each.blur, each.high_frequency_ratio)
        for each in readable
    ]
    return DatasetMedians(*np.median(rows, axis=0).tolist())


def sigmoid_score(value: float, threshold: float, width: float) -> float:
    """Return a score that is 0.5 at the threshold and about 0.9 one width above."""
    return 1 / (1 + math.exp(-min(max(2.2 * (value - threshold) / width, -50), 50)))


def _aspect_ratio(image: ImageStatistics) -> float:
    return max(image.width, image.height, 1) / max(min(image.width, image.height), 1)


def _is_truncated(image: ImageStatistics) -> bool:
    return "truncated" in image.error.lower() or any("damaged" in warning for warning in image.warnings)


def _blur_threshold(medians: DatasetMedians) -> float:
    return max(BLURRY, medians.blur + BLUR_MARGIN)


def _odd_size(image: ImageStatistics, medians: DatasetMedians) -> float:
    size = min(image.width, image.height)
    limit = max(min(MIN_SIZE, SMALLER_RATIO * medians.shorter_side), MIN_SIZE_RATIO * medians.shorter_side)
    return sigmoid_score(-math.log2(max(size, 1)), -math.log2(limit), 1.0) if size < limit else 0.0


def _upscaled(image: ImageStatistics, medians: DatasetMedians) -> float:
    if image.high_frequency_ratio == 0 or image.blur >= _blur_threshold(medians):
        return 0.0  # too small to measure, or blurry, which is another check
    threshold = min(UPSCALED, medians.high_frequency_ratio - UPSCALED_MARGIN)
    return sigmoid_score(-image.high_frequency_ratio, -threshold, 0.4)


def _low_information(image: ImageStatistics, _: DatasetMedians) -> float:
    return max(
        sigmoid_score(-math.log10(image.contrast + 1e-3), -math.log10(LOW_CONTRAST), 0.3),
        sigmoid_score(-image.entropy, -LOW_ENTROPY, 0.7) if image.contrast < 2 * LOW_CONTRAST else 0.0,
    )


IMAGE_CHECKS: Mapping[str, ImageCheck] = {
    "unreadable": ImageCheck(
        "Unreadable files",
        "Replace or remove the file.",
        lambda image, _: float(not image.readable and not _is_truncated(image)),
        lambda image, _: image.error,
        is_of_files=True,
    ),
    "truncated": ImageCheck(
        "Truncated or damaged files",
        "A part of the file is missing. Replace it.",
        lambda image, _: 1.0 if not image.readable and _is_truncated(image) else 0.8 * _is_truncated(image),
        lambda image, _: image.error or next(warning for warning in image.warnings if "damaged" in warning),
        is_of_files=True,
    ),
    "wrong_extension": ImageCheck(
        "Wrong file extensions",
        "Belvedere reads the file by its content, other programs may not. Rename it.",
        lambda image, _: float(not image.extension_fits),
        lambda image, _: f"content is {image.format}",
        is_of_files=True,
    ),
    "exif_rotated": ImageCheck(
        "Rotated by EXIF",
        "Belvedere applies the EXIF orientation, some programs do not. Nothing has to be done.",
        lambda image, _: EXIF_SCORE * any("EXIF" in warning for warning in image.warnings),
        lambda image, _: next((warning for warning in image.warnings if "EXIF" in warning), ""),
    ),
    "odd_size": ImageCheck(
        "Small images",
        "Replace it by a larger version.",
        _odd_size,
        lambda image, medians: f"{image.width} x {image.height} pixels, median shorter side {medians.shorter_side:.0f}",
    ),
    "odd_aspect_ratio": ImageCheck(
        "Odd aspect ratios",
        "Crop it: resizing to the input of a model distorts it.",
        lambda image, medians: sigmoid_score(
            math.log2(_aspect_ratio(image)), math.log2(MAX_ASPECT_RATIO * medians.aspect_ratio), 0.5
        ),
        lambda image, medians: f"{image.width} x {image.height} pixels, median aspect ratio {medians.aspect_ratio:.2f}",
    ),
    "dark": ImageCheck(
        "Dark images",
        "Check that the class is visible.",
        lambda image, _: sigmoid_score(-image.p95, -DARK, 0.08),
        lambda image, _: f"95% of the pixels are darker than {image.p95:.0%} luminance",
    ),
    "light": ImageCheck(
        "Light images",
        "Check that the class is visible.",
        lambda image, _: sigmoid_score(image.p5, LIGHT, 0.1),
        lambda image, _: f"95% of the pixels are lighter than {image.p5:.0%} luminance",
    ),
    "blurry": ImageCheck(
        "Blurry images",
        "Check that the class is visible.",
        lambda image, medians: sigmoid_score(image.blur, _blur_threshold(medians), 0.1),
        lambda image, medians: f"blur {image.blur:.2f} of 1, median {medians.blur:.2f}",
    ),
    "low_information": ImageCheck(
        "Low-information images",
        "Check that the image shows anything.",
        _low_information,
        lambda image, _: f"contrast {image.contrast:.3f}, entropy {abs(image.entropy):.1f} bits",
    ),
    "upscaled": ImageCheck(
        "Upscaled images",
        "Replace it by the original: it was enlarged.",
        _upscaled,
        lambda image, medians: (
            f"high-frequency ratio 10^{image.high_frequency_ratio:.1f}, median 10^{medians.high_frequency_ratio:.1f}"
        ),
    ),
    "grayscale": ImageCheck(
        "Grayscale images in a color dataset",
        "Check that they are not all of one class: models would learn the missing color.",
        lambda image, medians: (
            sigmoid_score(-image.colorfulness, -GRAYSCALE, 0.005) * (medians.colorfulness > COLORFUL)
        ),
        lambda image, medians: f"colorfulness {image.colorfulness:.3f}, median {medians.colorfulness:.3f}",
    ),
}
