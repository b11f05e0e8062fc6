"""Weights that others have learnt: from a hub on first use, or from a file; never from a pickle that holds code.

Knows files of weights, their checksums and where timm's are published; does not know networks.
"""

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from belvedere.errors import WeightsError
from belvedere.runtime.progress import Progress
from belvedere.training.hub import fetch_weights

WRAPPERS = ("state_dict", "model", "model_state", "state_dict_ema")  # keys under which training scripts keep weights
EMBEDDING_VERSION = 1  # of how an embedding is made of a map or tokens
CODE_SIGNS = ("GLOBAL ", "Can only create new object", "Can only build", "Trying to call reduce")  # what would run code
PREFIXES = ("module.", "model.", "backbone.")  # which they put before names


@dataclass(frozen=True)
class Weights:
    """Named tensors, and where they are from."""

    tensors: dict[str, Tensor]
    source: str  # to name in errors and in the card
    sha256: str  # of the file


def load_pretrained_weights(
    repository: str, file: str, sha256: str, progress: Progress, offline: bool = False
) -> Weights:
    """Returns pretrained weights: of the file, or else from the hub or what is kept of it.

    Args:
        repository: Of the hub, where they are published.
        file: A path, or nothing.
        sha256: That the file must have, or nothing.
        progress: Shows how far a download is.
        offline: Whether nothing may be downloaded.

    Raises:
        WeightsError: The file can't be had or read, is a pickle with code in it, or has another checksum.
    """
    path = Path(file) if file else fetch_weights(repository, progress, offline=offline)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Can't read the weights {path}: {error.strerror}. Give another --weights.") from error
    found = hashlib.sha256(content).hexdigest()
    if not file and found != path.stem:
        path.unlink()
        raise WeightsError(f"The weights {repository} were damaged on disk and are thrown away. Start again.")
    if sha256 and found != sha256.lower():
        raise WeightsError(
            f"{path} is not the file of weights that is asked for: expected the SHA-256 {sha256}. Received: {found}. "
            "Get the file again, or correct weights_sha256."
        )
    return Weights(_unwrap(_parse(content, path), path), path.name if file else repository, found)


def _parse(content: bytes, path: Path) -> object:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        reason = str(error)
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path} is damaged or truncated: {reason}. Get the file again.")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch meets in a file that is none of its own
        if not isinstance(error, pickle.UnpicklingError) or not any(sign in str(error) for sign in CODE_SIGNS):
            raise WeightsError(
                f"{path} is damaged, or no file of weights: {_line(error)}. Give a .safetensors file or a state dict."
            ) from error
        raise WeightsError(
            f"{path} holds more than weights, such as code that loading it would run: it was not loaded. "
            "Give a .safetensors file, or a state dict saved with torch.save."
        ) from error


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(key, str) and isinstance(each, Tensor) for key, each in tensors.items()):
        raise WeightsError(f"{path} is no state dict: expected tensors by name. Give a .safetensors file.")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): each for key, each in tensors.items()}
    return tensors


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def weights_name(backbone: str, weights: Weights) -> str:
    """Names all that makes a backbone see what it sees, in characters of a file's name."""
    made = f"timm{version('timm')}-{EMBEDDING_VERSION}"  # sizes, means and old weights are put right by timm
    return f"{backbone.replace(os.sep, '_')}-{weights.sha256[:12]}-{made}"
