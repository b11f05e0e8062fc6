"""Records of predictions."""

from dataclasses import dataclass

from belvedere.types.data import NONE_OF_THESE


@dataclass(frozen=True, slots=True)
class Tag:
    """A class that is present in an image."""

    name: str
    area_fraction: float  # of the image, 0 to 1; those of an image's tags add up to 1
    confidence: float  # that the class is present, 0 to 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one image, or the reason why there is none; unknown fields are None or empty."""

    image: str  # the path as given or found
    predicted_label: str | None = None  # the most probable class
    confidence: float | None = None  # its probability
    probabilities: tuple[float, ...] = ()  # (K,) in the order of the model's class names
    error: str | None = None  # why the image could not be read
    warnings: tuple[str, ...] = ()  # from reading the image, such as "first of 12 frames"
    label: str | None = None  # the true label, if known
    tags: tuple[Tag, ...] = ()  # the predicted class first; empty for "none of these"
    prediction_set: tuple[str, ...] = ()  # most probable class first
    none_of_these: bool | None = None  # out of distribution
    none_of_these_score: float | None = None  # percentile of the OOD score among in-distribution images, 0 to 1
    tag_probabilities: tuple[float, ...] = ()  # (K,) that each class is present

    @property
    def answer(self) -> str | None:
        """The predicted class, or "none of these"; None if the image could not be read."""
        return NONE_OF_THESE if self.none_of_these else self.predicted_label


@dataclass(frozen=True, slots=True)
class ResumedRow:
    """A row that an interrupted run wrote."""

    image: str
    unreadable: bool
