"""Records of predictions."""

from dataclasses import asdict, dataclass

from belvedere.types.data import NONE_OF_THESE


@dataclass(frozen=True, slots=True)
class Tag:
    """A class that is present in an image."""

    name: str
    area_fraction: float  # of the image, 0 to 1; those of an image's tags add up to 1
    confidence: float  # that the class is present, 0 to 1


@dataclass(frozen=True, slots=True, repr=False)
class Prediction:
    """The prediction for one image, or the reason why there is none; unknown fields are None or empty."""

    image: str  # the path as given or found
    predicted_label: str | None = None  # the most probable class
    confidence: float | None = None  # its probability
    probability_values: tuple[float, ...] = ()  # (K,) those of `probabilities`, in the order of `class_names`
    error: str | None = None  # why the image could not be read
    warnings: tuple[str, ...] = ()  # from reading the image, such as "first of 12 frames"
    label: str | None = None  # the true label, if known
    tags: tuple[Tag, ...] = ()  # the predicted class first; empty for "none of these"
    prediction_set: tuple[str, ...] = ()  # most probable class first
    none_of_these: bool | None = None  # out of distribution
    none_of_these_score: float | None = None  # percentile of the OOD score among in-distribution images, 0 to 1
    tag_probability_values: tuple[float, ...] = ()  # (K,) those of `tag_probabilities`
    class_names: tuple[str, ...] = ()  # (K,) of the model; one tuple that all its predictions share

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction({self.image!r}, error={self.error!r})"
        confidence = "" if self.confidence is None else f", {self.confidence:.1%}"
        return f"Prediction({self.image!r}, {self.answer!r}{confidence})"

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each class, by name; empty if the image could not be read."""
        return dict(zip(self.class_names, self.probability_values, strict=True)) if self.probability_values else {}

    @property
    def tag_probabilities(self) -> dict[str, float]:
        """The probability that each class is present, by name; empty if the model has no tags."""
        values = self.tag_probability_values
        return dict(zip(self.class_names, values, strict=True)) if values else {}

    @property
    def answer(self) -> str | None:
        """The predicted class, or "none of these"; None if the image could not be read."""
        return NONE_OF_THESE if self.none_of_these else self.predicted_label

    def to_dict(self) -> dict[str, object]:
        """Return the prediction ready for JSON, with the keys of the JSON output; unknown values are None."""
        return {
            "image": self.image,
            "answer": self.answer,
            "predicted_label": self.predicted_label,
            "confidence": self.confidence,
            "probabilities": self.probabilities or None,
            "tags": [asdict(tag) for tag in self.tags],
            "tag_probabilities": self.tag_probabilities or None,
            "prediction_set": list(self.prediction_set),
            "none_of_these": self.none_of_these,
            "none_of_these_score": self.none_of_these_score,
            "warnings": list(self.warnings),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class ResumedRow:
    """A row that an interrupted run wrote."""

    image: str
    unreadable: bool
