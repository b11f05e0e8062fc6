"""Result of a training."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from belvedere.inference.model import Model, load_model
from belvedere.types.evaluation import EpochMetrics, Evaluation
from belvedere.types.result import Result, short_repr, to_plain


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A finished training. In a notebook, it shows the training curve and the evaluation."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, object]  # content of metrics.json
    is_main_process: bool = True  # of several processes that train together, the one that reports
    history: tuple[EpochMetrics, ...] = ()  # one per epoch; `pandas.DataFrame(run.history)` makes a table

    def __repr__(self) -> str:
        made, measured = self.metrics, self.evaluation
        return short_repr(
            self, folder=str(self.folder), recipe=made["recipe"], epochs=made["epochs"], accuracy=measured.accuracy
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "model"}

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.folder / "report.html"

    @cached_property
    def model(self) -> Model:
        """The trained model, loaded on first use."""
        return self.load()

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics ready for JSON, as in metrics.json."""
        return dict(to_plain(self.metrics))

    def load(self) -> Model:
        """Load the trained model again; `model` loads it once."""
        return load_model(self.folder)
