"""Contents of a results folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.inference.model import Model
from belvedere.types.data import DataWarning, ModelId, Sample
from belvedere.types.evaluation import EpochMetrics, Evaluation
from belvedere.types.model import ModelCard


@dataclass(frozen=True, slots=True)
class RunResults:
    """Contents of a results folder."""

    title: str
    out: Path  # the folder, as it was given
    evaluation: Evaluation
    model_id: ModelId
    card: ModelCard
    warnings: tuple[DataWarning, ...]
    samples: Mapping[str, Sequence[Sample]]  # title of an image grid -> images to choose from
    command: str
    total_seconds: float
    history: tuple[EpochMetrics, ...] = ()
    config: str = ""
    spreadsheet: bool = False  # whether formulas in predictions.csv are escaped
    model: Model | None = None  # for heatmaps; None for images alone
