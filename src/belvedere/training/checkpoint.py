"""Checkpoints: the complete state of a training in one safetensors file, without pickle."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from belvedere.errors import TrainingError
from belvedere.runtime.files import write_bytes
from belvedere.types.evaluation import EpochMetrics


@dataclass
class State:
    """Progress of a training; everything else follows from the recipe, the data and the seed."""

    step: int = 0  # steps done
    total_steps: int = 0
    limit_seconds: float = float("inf")  # of training and validation together
    seconds: float = 0.0  # of the completed epochs, with their validation
    epoch_images: int = 0  # images seen in the current epoch
    epoch_seconds: float = 0.0
    history: list[EpochMetrics] = field(default_factory=list)
    best: tuple[float, float] = (-math.inf, -math.inf)  # metric of the best epoch, tie-breaker
    best_epoch: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)


def write_checkpoint(state: State, path: Path) -> None:
    """Write a state atomically."""
    values = {name: value for name, value in vars(state).items() if name != "tensors"}
    values["history"] = [asdict(row) for row in state.history]
    # Copied: safetensors refuses weights that two layers share.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.tensors.items()}
    write_bytes(path, safetensors.torch.save(tensors, {"state": json.dumps(values)}))


def checkpoint_history(path: Path) -> tuple[EpochMetrics, ...]:
    """Return the completed epochs of a checkpoint without its tensors; none if the file does not exist.

    Raises:
        TrainingError: The file is damaged.
    """
    if not path.exists():
        return ()
    with _read_errors(path), safetensors.safe_open(path, "pt") as file:
        return tuple(EpochMetrics(**row) for row in json.loads(file.metadata()["state"])["history"])


def read_checkpoint(path: Path) -> State:
    """Read a state.

    Raises:
        TrainingError: The file is missing or damaged.
    """
    with _read_errors(path):
        with safetensors.safe_open(path, "pt") as file:
            values = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        values["history"] = [EpochMetrics(**row) for row in values["history"]]
        values["best"] = tuple(values["best"])
        return State(**values, tensors=tensors)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"The checkpoint {path} cannot be read: {error}. Set `overwrite` to start over.") from error
