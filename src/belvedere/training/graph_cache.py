"""Cached graphs of backbones, without weights: torch takes seconds to export a network, whose weights alone are new."""

import hashlib
from contextlib import suppress
from importlib.metadata import version

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import nn

from belvedere.data.array_cache import GRAPHS
from belvedere.runtime.environment import cache_folder, make_cache_folder
from belvedere.runtime.files import write_bytes
from belvedere.types.model import Preprocess

FILE = "backbone.onnx"
EXPORTERS = ("torch", "onnx", "onnxscript")


def read_graph(backbone: nn.Module, preprocess: Preprocess) -> onnx.ModelProto | None:
    """Return the cached graph of networks of this structure, with the weights of this one; None if there is none.

    Attributes that `repr` does not show may differ, so the outputs have to be compared with the network's.
    """
    try:
        model = onnx.load_from_string((cache_folder() / GRAPHS / _name(backbone, preprocess) / FILE).read_bytes())
    except (OSError, DecodeError):
        return None
    if not model.graph.output:  # a damaged file
        return None
    weights = _weights(backbone)
    for empty in model.graph.initializer:
        if empty.HasField("raw_data"):
            continue
        filled = None if empty.name not in weights else numpy_helper.from_array(weights[empty.name].numpy(), empty.name)
        if filled is None or filled.dims != empty.dims:
            return None
        empty.CopyFrom(filled)
    return model


def write_graph(backbone: nn.Module, preprocess: Preprocess, graph: onnx.ModelProto) -> None:
    """Cache a graph that was exported and not optimized, if the cache can be written."""
    empty, weights = onnx.ModelProto(), _weights(backbone)
    empty.CopyFrom(graph)
    for initializer in empty.graph.initializer:
        if initializer.name in weights:
            initializer.ClearField("raw_data")
    with suppress(OSError):
        write_bytes(make_cache_folder(GRAPHS, _name(backbone, preprocess)) / FILE, empty.SerializeToString())


def _weights(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers in float32, also those that share their values, by the names of the exporter."""
    named = [*backbone.named_parameters(remove_duplicate=False), *backbone.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named if tensor.dtype == torch.float32}


def _name(backbone: nn.Module, preprocess: Preprocess) -> str:
    """Return the name of the folder for a structure."""
    versions = [version(package) for package in EXPORTERS]
    flags = [getattr(module, "flip_tta", None) for module in backbone.modules()]
    kinds = [f"{type(module).__module__}.{type(module).__qualname__}" for module in backbone.modules()]
    key = repr((preprocess.height, preprocess.width, versions, flags, kinds, repr(backbone)))
    return hashlib.sha256(key.encode()).hexdigest()[:32]
