"""Result of a training."""

from dataclasses import dataclass
from pathlib import Path

from belvedere.inference.model import Model, load_model
from belvedere.types.evaluation import Evaluation


@dataclass(frozen=True)
class Run:
    """A finished training."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, object]  # content of metrics.json
    is_main_process: bool = True  # of several processes that train together, the one that reports

    def load(self) -> Model:
        """Load the trained model."""
        return load_model(self.folder)
