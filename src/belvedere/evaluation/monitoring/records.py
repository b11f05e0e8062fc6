"""Records of served predictions: JSON Lines without images and file names, written by `serve`, read by `monitor`.

A record is skipped and counted if it is incomplete, since its process was killed, or damaged otherwise.
"""

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import UsageError
from belvedere.runtime.serialization import dump_json
from belvedere.runtime.terminal import describe_error
from belvedere.types.prediction import Prediction

PATTERN = "records-*.jsonl"
DECIMALS = 6  # of probabilities, as in predictions.csv
EMBEDDING_TYPE = np.dtype("<f2")
MAX_TIME = datetime.max.replace(tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Record:
    """One served prediction."""

    time: float  # seconds since 1970, UTC
    model: str  # SHA-256 of the model file
    probabilities: tuple[float, ...]  # (K,)
    none_of_these_score: float | None
    embedding: NDArray[np.float16]  # (D,)


def to_line(time: float, model: str, prediction: Prediction, embedding: NDArray[np.float32]) -> bytes:
    """Return the line of a prediction."""
    limit = float(np.finfo(np.float16).max)
    half = np.clip(embedding, -limit, limit).astype(EMBEDDING_TYPE)
    score = prediction.none_of_these_score
    content = {
        "time": datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds"),
        "model": model,
        "predicted_label": prediction.predicted_label,
        "probabilities": [round(each, DECIMALS) for each in prediction.probability_values],
        "none_of_these": prediction.none_of_these,
        "none_of_these_score": None if score is None else round(score, DECIMALS),
        "prediction_set_size": len(prediction.prediction_set),
        "embedding": base64.b64encode(half.tobytes()).decode(),
    }
    return dump_json(content).encode() + b"\n"


def is_monitor_folder(folder: Path) -> bool:
    """Return whether a folder holds records of `serve`."""
    return next(folder.glob(PATTERN), None) is not None


def read_records(folder: Path) -> Iterator[Record | None]:
    """Yield the records of a folder, file by file; None for one that cannot be read.

    Raises:
        UsageError: A file cannot be read.
    """
    for path in sorted(folder.glob(PATTERN)):
        try:
            with path.open("rb") as file:
                yield from map(_read_line, file)
        except FileNotFoundError:
            continue  # the server has deleted the oldest file
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {describe_error(error)}. Check its permissions.") from error


def _read_line(line: bytes) -> Record | None:
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
        return None if content is None else _to_record(content)
    except (ValueError, OverflowError, TypeError, KeyError, RecursionError):
        return None


def _to_record(content: Mapping[str, Any]) -> Record | None:
    embedding = np.frombuffer(base64.b64decode(content["embedding"], validate=True), EMBEDDING_TYPE)
    score = content["none_of_these_score"]
    record = Record(
        datetime.fromisoformat(content["time"]).timestamp(),
        str(content["model"]),
        tuple(map(float, content["probabilities"])),
        None if score is None else float(score),
        embedding,
    )
    numbers = (*record.probabilities, record.none_of_these_score or 0.0, *embedding.tolist())
    is_valid = record.probabilities and all(map(math.isfinite, numbers)) and 0 <= record.time <= MAX_TIME
    return record if is_valid else None
