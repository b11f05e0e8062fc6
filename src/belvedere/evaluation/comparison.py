"""Result of a comparison of two runs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from belvedere.evaluation.run_folder import candidate_paths
from belvedere.evaluation.significance import PairedComparison
from belvedere.types.data import DataWarning
from belvedere.types.prediction import Prediction
from belvedere.types.result import Result, short_repr, to_plain

CHANGES = ("gained", "lost", "still_wrong")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two predictions for one image."""

    image: str  # path in the second run
    label: str  # label in the second run
    before: Prediction
    after: Prediction

    @property
    def change(self) -> str:
        """Change from `before`: "gained", "lost", "still_wrong" (another class), or "" for none of these."""
        was_correct, is_correct = self.before.predicted_label == self.label, self.after.predicted_label == self.label
        if was_correct != is_correct:
            return "gained" if is_correct else "lost"
        return "" if self.before.predicted_label == self.after.predicted_label else "still_wrong"


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Differences between two runs. In a notebook, it shows tables and the images whose prediction changed."""

    before: str  # folder of the first run
    after: str  # folder of the second run
    overall: PairedComparison
    per_class: Mapping[str, PairedComparison]  # by label in the second run; its accuracies are recalls
    pairs: tuple[Pair, ...]  # one per image that both runs predicted
    warnings: tuple[DataWarning, ...]  # images that were skipped, and differences between the runs

    def __repr__(self) -> str:
        overall = self.overall
        values = {"num_images": overall.num_images, "accuracy_change": overall.accuracy_change}
        return short_repr(self, before=self.before, after=self.after, **values, p_value=overall.p_value)

    def changed(self, change: str) -> list[Pair]:
        """Return the images of one kind of change, highest confidence of the second run first.

        Args:
            change: "gained", "lost" or "still_wrong".
        """
        chosen = [pair for pair in self.pairs if pair.change == change]
        return sorted(chosen, key=lambda pair: (-(pair.after.confidence or 0.0), pair.image))

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics and the changed images ready for JSON, as in comparison.json."""
        return {
            "before": self.before,
            "after": self.after,
            **_metrics(self.overall),
            "per_class": {name: _metrics(paired) for name, paired in self.per_class.items()},
            "changed": [
                {
                    "image": pair.image,
                    "label": pair.label,
                    "before": pair.before.predicted_label,
                    "after": pair.after.predicted_label,
                    "change": change,
                }
                for change in CHANGES
                for pair in self.changed(change)
            ],
            "warnings": to_plain(self.warnings),
        }


def find_file(folder: Path, image: str) -> Path:
    """Return the file of an image of a results folder, which may be missing."""
    written, beside = candidate_paths(folder, image)
    try:
        return beside if beside.is_file() and not written.is_file() else written
    except OSError:  # such as a name that is too long: reading it gives the reason
        return written


def _metrics(paired: PairedComparison) -> dict[str, object]:
    return {
        "accuracy_before": paired.accuracy_before,
        "accuracy_after": paired.accuracy_after,
        "accuracy_change": paired.accuracy_change,
        **asdict(paired),
    }
