"""Pretrained weights, from a file or the Hugging Face hub; a pickle that contains code is never run."""

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

from belvedere.errors import HubError, WeightsError
from belvedere.runtime.hub import HubAddress, download
from belvedere.runtime.progress import Progress

HUB_FILE = "model.safetensors"
MAX_BYTES = 1 << 32  # of that file: a model.onnx has at most half of it
WRAPPERS = ("state_dict", "model", "model_state", "state_dict_ema")  # keys under which training scripts keep weights
RUN_HEAD = {"classify.weight", "classify.bias"}  # that only networks of this package have
PREFIXES = ("module.", "model.", "backbone.")  # before the parameter names in such files
EMBEDDING_VERSION = 1  # of the pooling of a feature map or tokens
CODE_SIGNS = ("GLOBAL ", "Can only create new object", "Can only build", "Trying to call reduce")  # code in a pickle


@dataclass(frozen=True)
class Weights:
    """Named tensors and their origin."""

    tensors: dict[str, Tensor]
    source: str  # file name or repository, for messages and the model card
    sha256: str  # of the file, or of the tensors


def load_pretrained_weights(
    repository: str, file: str, sha256: str, progress: Progress, offline: bool = False
) -> Weights:
    """Return pretrained weights from a file, or from a repository on the hub, such as "timm/resnet18.a1_in1k".

    Raises:
        WeightsError: The file is missing, unreadable, or it contains code; it has not the expected SHA-256, if given;
            `offline` is set and the cache has no weights.
    """
    path = Path(file) if file else download_weights(repository, progress, offline=offline)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read the weights {path}: {error.strerror}. Choose another file.") from error
    found = hashlib.sha256(content).hexdigest()
    if not file:
        _check_cached(path, found, repository)
    if sha256 and found != sha256.lower():
        raise WeightsError(
            f"{path} is another file than expected: expected the SHA-256 {sha256}. Received: {found}. "
            "Get the file again, or correct `weights_sha256`."
        )
    tensors = _unwrap(_parse(content, path), path)
    if tensors.keys() >= RUN_HEAD:
        raise WeightsError(
            f"{path} contains the weights of a run, not those of a pretrained network. Leave `weights` out, and set "
            f"`start_from` to the run folder: {path.parent}."
        )
    return Weights(tensors, path.name if file else repository, found)


def download_weights(repository: str, progress: Progress, *, offline: bool = False) -> Path:
    """Return the weights file of a hub repository; download it if the Hugging Face cache does not have it.

    Raises:
        WeightsError: There is no repository, or the file cannot be downloaded.
    """
    if not repository:
        raise WeightsError("timm names no repository for these weights. Set `weights` to a file.")
    address = HubAddress(repository)
    try:
        try:
            folder = download(address, [HUB_FILE], progress, max_bytes=MAX_BYTES, offline=True)  # no request if cached
        except HubError:
            if offline:
                raise
            folder = download(address, [HUB_FILE], progress, max_bytes=MAX_BYTES)
    except HubError as error:
        raise WeightsError(f"{error} Or get {HUB_FILE} of {repository} elsewhere and set `weights` to it.") from error
    return folder / HUB_FILE


def _check_cached(path: Path, sha256: str, repository: str) -> None:
    """Compare a cached file with the SHA-256 that the hub announced, the name of the blob that the path links to."""
    blob = path.readlink() if path.is_symlink() else Path()
    if len(blob.name) == hashlib.sha256().digest_size * 2 and blob.name != sha256:
        (path.parent / blob).unlink()
        path.unlink()
        raise WeightsError(
            f"The weights {repository} are damaged: expected the SHA-256 {blob.name}. Received: {sha256}. "
            "The cached file was deleted; start again."
        )


def _parse(content: bytes, path: Path) -> object:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        reason = str(error)
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path} is damaged or truncated: {reason}. Get the file again.")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types on a foreign file
        if not isinstance(error, pickle.UnpicklingError) or not any(sign in str(error) for sign in CODE_SIGNS):
            raise WeightsError(
                f"{path} is damaged, or not a file of weights: {_first_line(error)}. "
                "Give a .safetensors file or a state dict."
            ) from error
        raise WeightsError(
            f"{path} contains more than weights, such as code that loading would run: it was not loaded. "
            "Give a .safetensors file, or a state dict saved with torch.save."
        ) from error


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(key, str) and isinstance(each, Tensor) for key, each in tensors.items()):
        raise WeightsError(f"{path} is not a state dict: expected tensors by name. Give a .safetensors file.")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): each for key, each in tensors.items()}
    return tensors


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def weights_name(backbone: str, weights: Weights) -> str:
    """Return a file name for all that decides a backbone's embeddings, among it timm, which converts weights."""
    return f"{backbone.replace(os.sep, '_')}-{weights.sha256[:12]}-timm{version('timm')}-{EMBEDDING_VERSION}"
