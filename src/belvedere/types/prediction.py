"""Records of predictions."""

from dataclasses import dataclass

from belvedere.types.data import NONE_OF_THESE


@dataclass(frozen=True, slots=True)
class Tag:
    """A class that is in a picture, the main one or another."""

    name: str
    share: float  # of the picture, 0 to 1; the shares of a picture's tags add up to 1
    confidence: float  # that it is in the picture, 0 to 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one picture, or the reason why there is none."""

    image: str  # the path as it was given or found
    predicted_label: str | None = None  # the class with the highest probability
    confidence: float | None = None  # its probability
    probabilities: tuple[float, ...] = ()  # (K,) in the order of the model's class names
    error: str | None = None  # why the file could not be read; the other answers are empty then
    notes: tuple[str, ...] = ()  # what was decided in reading it, such as "first of 12 frames"
    label: str | None = None  # the given label, where there is one
    tags: tuple[
        Tag, ...
    ] = ()  # what is in it, the answer first; empty for "none of these", or where the model can't tell
    prediction_set: tuple[str, ...] = ()  # the prediction set, most probable class first; empty where unknown
    none_of_these: bool | None = None  # whether the picture is unlike every class; None where the model can't tell
    none_of_these_score: float | None = None  # how unlike: the share of true pictures that are less unlike, 0 to 1
    tag_probabilities: tuple[
        float, ...
    ] = ()  # (K,) how sure it is that each class is in the picture; empty where unknown

    @property
    def answer(self) -> str | None:
        """The predicted class, or "none of these"; None where the file could not be read."""
        return NONE_OF_THESE if self.none_of_these else self.predicted_label


@dataclass(frozen=True, slots=True)
class ResumedRow:
    """What is known of a row that an earlier process wrote."""

    image: str
    unreadable: bool
