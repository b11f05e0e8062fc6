"""Checks of single pictures, by their measures and what is usual in the set.

Knows what is odd about one picture; does not know other pictures but by their medians, nor labels.

Every check gives a score from 0 to 1, 1 being surely wrong; a picture is flagged from one half on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from belvedere.auditing.image_statistics import Measures

LISTED, FLAGGED = 0.25, 0.5  # scores from which on a check names a picture, and from which on it flags it
TURNED = 0.4  # all is well with it
TINY_SIDE = 32  # pixels
TINY_SHARE = 0.25  # of the usual shorter side
ODD_SHAPE = 2.0  # times the usual ratio of the sides
DARK, BRIGHT = 0.2, 0.75  # luminance that 95% of a dark picture is below, and of a bright one above
GREY, COLOURED = 0.01, 0.03  # colour of a grey picture; of a usual one in a set that is not grey
BLURRED = 0.5  # at least; Intel's sharpest quarter has 0.17, with a Gaussian blur of 2 pixels 0.45 to 0.81
MORE_BLURRED = 0.15  # than is usual
PLAIN_SPREAD, PLAIN_ENTROPY = 0.03, 2.5  # of the luminance: standard deviation, and bits in 64 steps
UPSCALED, FEWER_DETAILS = -1.5, 0.6  # high_frequency_ratio detail (common logarithm), and how far below the usual


@dataclass(frozen=True, slots=True)
class Usual:
    """Medians of the pictures that can be read."""

    shorter_side: float
    ratio: float  # of the longer side to the shorter
    colour: float
    blur: float
    high_frequency_ratio: float


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong with a picture."""

    title: str  # as a heading
    advice: str  # what to do about it, in a sentence
    score: Callable[[Measures, Usual], float]  # 0 to 1
    detail: Callable[[Measures, Usual], str]  # what was measured


def dataset_medians(measures: Sequence[Measures]) -> Usual:
    """Works out what is usual in a set."""
    readable = [each for each in measures if each.readable] or [Measures("")]
    return Usual(
        shorter_side=float(np.median([min(each.width, each.height) for each in readable])),
        ratio=float(np.median([_ratio(each) for each in readable])),
        colour=float(np.median([each.colour for each in readable])),
        blur=float(np.median([each.blur for each in readable])),
        high_frequency_ratio=float(np.median([each.high_frequency_ratio for each in readable])),
    )


def _ratio(measures: Measures) -> float:
    return max(measures.width, measures.height, 1) / max(min(measures.width, measures.height), 1)


def sigmoid_score(value: float, threshold: float, width: float) -> float:
    """A score that is one half at a threshold and rises with the value, to about 0.9 one width above it."""
    return 1 / (1 + math.exp(-min(max(2.2 * (value - threshold) / width, -50), 50)))


def _is_truncated(measures: Measures) -> bool:
    return "truncated" in measures.reason.lower() or any("damaged" in note for note in measures.notes)


def _is_turned(measures: Measures) -> bool:
    return any("EXIF" in note for note in measures.notes)


def _blur_limit(usual: Usual) -> float:
    return max(BLURRED, usual.blur + MORE_BLURRED)


def _score_tiny(measures: Measures, usual: Usual) -> float:
    side, limit = min(measures.width, measures.height), max(TINY_SIDE, TINY_SHARE * usual.shorter_side)
    return sigmoid_score(-math.log2(max(side, 1)), -math.log2(limit), 1.0) if side < limit else 0.0


def _score_upscaled(measures: Measures, usual: Usual) -> float:
    if measures.high_frequency_ratio == 0 or measures.blur >= _blur_limit(usual):
        return 0.0  # too small to tell, or blurred, which is named as such
    return sigmoid_score(
        -measures.high_frequency_ratio, -min(UPSCALED, usual.high_frequency_ratio - FEWER_DETAILS), 0.4
    )


def _score_plain(measures: Measures) -> float:
    if not measures.readable:
        return 0.0
    return max(
        sigmoid_score(-math.log10(measures.spread + 1e-3), -math.log10(PLAIN_SPREAD), 0.3),
        sigmoid_score(-measures.entropy, -PLAIN_ENTROPY, 0.7) if measures.spread < 2 * PLAIN_SPREAD else 0.0,
    )


def _of_readable(score: Callable[[Measures, Usual], float]) -> Callable[[Measures, Usual], float]:
    return lambda measures, usual: score(measures, usual) if measures.readable else 0.0


CHECKS: Mapping[str, Check] = {
    "unreadable": Check(
        "Can't be read",
        "Get the file again, or remove it: nothing can be learnt from it.",
        lambda each, _: float(not each.readable and not _is_truncated(each)),
        lambda each, _: each.reason,
    ),
    "truncated": Check(
        "Truncated or damaged",
        "Get the file again: a part of it is missing.",
        lambda each, _: 1.0 if not each.readable and _is_truncated(each) else 0.8 * _is_truncated(each),
        lambda each, _: each.reason or next(note for note in each.notes if "damaged" in note),
    ),
    "wrong_extension": Check(
        "Suffix of another kind",
        "Belvedere reads it by its content; other programs may not. Rename it.",
        lambda each, _: float(not each.suffix_fits),
        lambda each, _: f"its content is {each.kind}",
    ),
    "exif_rotated": Check(
        "Turned by EXIF",
        "Belvedere shows it upright; programs that ignore EXIF see it lying. Nothing must be done.",
        lambda each, _: TURNED * _is_turned(each),
        lambda each, _: next((note for note in each.notes if "EXIF" in note), ""),
    ),
    "grayscale": Check(
        "Grey in a coloured set",
        "See that grey pictures are not of one class only: colour would then give it away.",
        _of_readable(
            lambda each, usual: (
                sigmoid_score(-each.colour, -GREY, 0.005) * (usual.colour > COLOURED) if each.width else 0.0
            )
        ),
        lambda each, usual: f"colour {each.colour:.3f}, usual {usual.colour:.3f}",
    ),
    "odd_size": Check(
        "Tiny",
        "Get it in its full size: there is little in it to recognise.",
        _of_readable(_score_tiny),
        lambda each, usual: f"{each.width} x {each.height} pixels, usual shorter side {usual.shorter_side:.0f}",
    ),
    "odd_aspect_ratio": Check(
        "Odd shape",
        "Cut it: scaled to the size that is learnt from, it would be distorted.",
        _of_readable(
            lambda each, usual: sigmoid_score(math.log2(_ratio(each)), math.log2(ODD_SHAPE * usual.ratio), 0.5)
        ),
        lambda each, usual: f"{each.width} x {each.height} pixels, usual ratio {usual.ratio:.2f}",
    ),
    "dark": Check(
        "Dark",
        "Look whether its class can be seen.",
        _of_readable(lambda each, _: sigmoid_score(-each.high, -DARK, 0.08)),
        lambda each, _: f"95% of it is darker than {each.high:.0%} of white",
    ),
    "light": Check(
        "Bright",
        "Look whether its class can be seen.",
        _of_readable(lambda each, _: sigmoid_score(each.low, BRIGHT, 0.1)),
        lambda each, _: f"95% of it is brighter than {each.low:.0%} of white",
    ),
    "blurry": Check(
        "Blurred",
        "Look whether its class can be seen.",
        _of_readable(lambda each, usual: sigmoid_score(each.blur, _blur_limit(usual), 0.1)),
        lambda each, usual: f"blur {each.blur:.2f} of 1, usual {usual.blur:.2f}",
    ),
    "low_information": Check(
        "Empty of information",
        "Look whether there is anything in it.",
        lambda each, _: _score_plain(each),
        lambda each, _: f"spread {each.spread:.3f}, {each.entropy:.1f} bits",
    ),
    "upscaled": Check(
        "Scaled up",
        "Get it in its full size: it was made larger than it was.",
        _of_readable(_score_upscaled),
        lambda each, usual: (
            f"high_frequency_ratio detail 10^{each.high_frequency_ratio:.1f}, usual 10^{usual.high_frequency_ratio:.1f}"
        ),
    ),
}
