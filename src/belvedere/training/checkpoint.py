"""A training that can be taken up again where it was cut off: everything it is, in one file without pickle.

Knows tensors and figures in a safetensors file; does not know what they mean.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from belvedere.errors import TrainingError
from belvedere.runtime.files import write_bytes
from belvedere.types.evaluation import EpochFigures


@dataclass
class State:
    """Where a training is. Everything else follows from the recipe, the photographs and the seed."""

    step: int = 0  # taken so far
    total_steps: int = 0
    limit_seconds: float = float("inf")  # of training and validation, after which it is ended
    seconds: float = 0.0  # of the epochs completed, with their validation
    epoch_images: int = 0  # of the epoch begun
    epoch_seconds: float = 0.0
    history: list[EpochFigures] = field(default_factory=list)
    best: tuple[float, float] = (-math.inf, -math.inf)  # score of the best epoch: what it was chosen by, then the other
    best_epoch: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)


def write_checkpoint(state: State, path: Path) -> None:
    """Writes a state at once: whoever reads finds this one or the one before."""
    values = {name: value for name, value in vars(state).items() if name != "tensors"}
    values["history"] = [asdict(row) for row in state.history]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    write_bytes(path, safetensors.torch.save(tensors, {"state": json.dumps(values)}))


def read_checkpoint(path: Path) -> State:
    """Reads a state.

    Raises:
        TrainingError: The file is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            values = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        values["history"] = [EpochFigures(**row) for row in values["history"]]
        values["best"] = tuple(values["best"])
        return State(**values, tensors=tensors)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is no checkpoint that can be read ({error}). Start anew with --overwrite."
        ) from error
