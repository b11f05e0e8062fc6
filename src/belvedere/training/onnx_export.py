"""Export of a trained network to ONNX: the backbone by torch's exporter, the head and the OOD score by onnx.helper."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx_ir
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from belvedere.errors import InferenceError, TrainingError
from belvedere.inference.model import Model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_graph import CLASS_ACTIVATION_MAPS, INPUT, OOD_SCORE, OPTIONAL_OUTPUTS, OUTPUTS
from belvedere.inference.uncertainty.ood import NUM_NEIGHBORS, OODScorer, ood_scores
from belvedere.runtime.files import write_bytes
from belvedere.training.graph_cache import read_graph, write_graph
from belvedere.training.held_out import spatial_logits
from belvedere.training.networks.registry import Network
from belvedere.types.model import ModelCard, Preprocess

OPSET = 18
FEATURE_MAP = "feature_map"  # (N, D, h, w): output of the backbone's graph, input of the head's
NUM_CACHED_SAMPLES = 4  # images to compare a cached graph on
MAX_RELATIVE_ERROR = 1e-3  # float32 on two engines differs by about 1e-6
MAX_CACHED_ERROR = 1e-4  # of a cached graph, or it is exported anew
LOGITS, PROBABILITIES, EMBEDDING = OUTPUTS


@dataclass(frozen=True)
class Exported:
    """An ONNX graph without metadata, and its largest deviation from the network."""

    graph: onnx.ModelProto
    max_relative_error: float  # largest relative difference of an output between torch and ONNX Runtime


def export_graph(
    network: Network,
    preprocess: Preprocess,
    sample: NDArray[np.uint8],
    temperature: float = 1.0,
    ood_scorer: OODScorer | None = None,
) -> Exported:
    """Export a network on the CPU, in float32, and compare it with the original on sample images, (N, H, W, 3).

    The logits are divided by the temperature before the softmax. The OOD score is 0 without parameters.

    Raises:
        TrainingError: The network cannot be exported, or the error is over `MAX_RELATIVE_ERROR`.
    """
    network.eval()
    scorer = ood_scorer or OODScorer.null(*network.classify.weight.shape)
    backbone = _Backbone(network).eval()
    cached = read_graph(backbone, preprocess)
    if cached is not None:
        with suppress(Exception):  # of onnx, onnx_ir or ONNX Runtime, for a damaged file
            exported = _assemble(_optimize(cached), network, sample[:NUM_CACHED_SAMPLES], temperature, scorer)
            if exported.max_relative_error <= MAX_CACHED_ERROR:
                return exported
    graph = _export_backbone(backbone, preprocess)
    exported = _assemble(_optimize(graph), network, sample, temperature, scorer)
    if not exported.max_relative_error <= MAX_RELATIVE_ERROR:
        raise TrainingError(
            f"The exported graph differs from the trained network by {exported.max_relative_error:.2g}, over the bound "
            f"of {MAX_RELATIVE_ERROR:g}: it was not written. The weights are in weights.safetensors."
        )
    write_graph(backbone, preprocess, graph)
    return exported


class _Backbone(nn.Module):
    """Bytes to the feature map whose mean over positions is the embedding."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map, (N, D, h, w), of images (N, H, W, 3), uint8."""
        return self.network.feature_map_tta(images.permute(0, 3, 1, 2).float())


def _export_backbone(backbone: nn.Module, preprocess: Preprocess) -> onnx.ModelProto:
    """Return the graph, not optimized, with an initializer for each parameter."""
    example = torch.zeros(2, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), _quiet_exporter():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own internals
        try:
            program = torch.onnx.export(
                backbone,
                (example,),
                input_names=[INPUT],
                output_names=[FEATURE_MAP],
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise TrainingError(
                f"torch cannot export this network to ONNX: {' '.join(str(error).split())[:200]}. Its weights are in "
                "weights.safetensors. Choose another `network`."
            ) from error
    if program is None:
        raise TrainingError("torch's ONNX exporter returned no graph. Please report this with torch's version.")
    graph = program.model_proto
    strip_debug_info(graph)
    return graph


def _optimize(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with constants folded and nodes fused, such as batch norm with convolutions."""
    program = torch.onnx.ONNXProgram(onnx_ir.from_proto(graph), None)
    with _quiet_exporter():
        program.optimize()
    optimized = program.model_proto
    strip_debug_info(optimized)
    return optimized


def _assemble(
    backbone: onnx.ModelProto, network: Network, sample: NDArray[np.uint8], temperature: float, scorer: OODScorer
) -> Exported:
    """Join the backbone with head and OOD score, and measure the error of all outputs."""
    with torch.inference_mode():
        feature_map = network.feature_map_tta(torch.from_numpy(sample).permute(0, 3, 1, 2).float())
        embedding = feature_map.mean((2, 3))
        logits = network.classify(embedding)
        tensors = (logits, (logits / temperature).softmax(1), embedding, spatial_logits(network, feature_map))
    expected = [each.numpy() for each in tensors]
    expected.append(ood_scores(scorer, embedding.numpy(), logits.numpy()))
    head = _build_head(network.classify, tuple(feature_map.shape[1:]), temperature, scorer, backbone.ir_version)
    graph = onnx.compose.merge_models(backbone, head, [(FEATURE_MAP, FEATURE_MAP)])
    del graph.opset_import[-1]  # `merge_models` lists those of both graphs
    try:
        outputs = Model.from_bytes(graph.SerializeToString(), None).forward_all(sample)
    except InferenceError:  # such as NaN
        return Exported(graph, math.nan)
    found = [getattr(outputs, name) for name in (*OUTPUTS, *OPTIONAL_OUTPUTS)]
    return Exported(graph, float(np.max([_relative_error(*pair) for pair in zip(found, expected, strict=True)])))


def _relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))


class _GraphBuilder:
    """Nodes and constants of a graph; each method returns the name of the tensor that it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        outputs = [output, f"{output}.indices"] if kind == "TopK" else [output]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"node.{output}", **attributes))
        return output


def _build_head(
    layer: nn.Linear, shape: tuple[int, ...], temperature: float, scorer: OODScorer, ir_version: int
) -> onnx.ModelProto:
    """Build the graph from a feature map, (N, *shape), to all outputs."""
    graph = _GraphBuilder()
    channels, rows, columns = shape
    classes = layer.out_features
    weight = graph.constant("head.weight", layer.weight.detach().numpy())
    bias = graph.constant("head.bias", layer.bias.detach().numpy())
    positions = graph.constant("positions", [2, 3], np.int64)
    embedding = graph.add("ReduceMean", [FEATURE_MAP, positions], EMBEDDING, keepdims=0)
    logits = graph.add("Gemm", [embedding, weight, bias], LOGITS, transB=1)
    scaled = graph.add("Div", [logits, graph.constant("temperature", temperature)], "scaled_logits")
    graph.add("Softmax", [scaled], PROBABILITIES, axis=1)

    last = graph.add("Transpose", [FEATURE_MAP], "channels_last", perm=[0, 2, 3, 1])
    flat = graph.add("Reshape", [last, graph.constant("flat_shape", [-1, channels], np.int64)], "flat")
    scores = graph.add("Gemm", [flat, weight, bias], "flat_logits", transB=1)
    map_shape = graph.constant("map_shape", [-1, rows, columns, classes], np.int64)
    spatial = graph.add("Reshape", [scores, map_shape], "spatial_logits")
    graph.add("Transpose", [spatial], CLASS_ACTIVATION_MAPS, perm=[0, 3, 1, 2])

    _add_ood_score(graph, scorer)

    def describe(name: str, *dims: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *dims])

    outputs = [
        describe(LOGITS, classes),
        describe(PROBABILITIES, classes),
        describe(EMBEDDING, channels),
        describe(CLASS_ACTIVATION_MAPS, classes, rows, columns),
        describe(OOD_SCORE),
    ]
    head = helper.make_graph(graph.nodes, "head", [describe(FEATURE_MAP, *shape)], outputs, graph.constants)
    return helper.make_model(head, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=ir_version)


def _add_ood_score(graph: _GraphBuilder, scorer: OODScorer) -> None:
    """Add the nodes of `ood_scores`."""
    axis = graph.constant("axis", [1], np.int64)
    linear, offsets = graph.constant("ood.linear", scorer.linear), graph.constant("ood.offsets", scorer.offsets)
    by_class = graph.add("Gemm", [EMBEDDING, linear, offsets], "ood.by_class", transB=1)
    nearest = graph.add("ReduceMin", [by_class, axis], "ood.nearest_class", keepdims=0)
    product = graph.add("MatMul", [EMBEDDING, graph.constant("ood.quadratic", scorer.quadratic)], "ood.product")
    squares = graph.add("Mul", [product, EMBEDDING], "ood.squares")
    common = graph.add("ReduceSum", [squares, axis], "ood.common", keepdims=0)
    distance = graph.add("Add", [common, nearest], "ood.distance")
    energy = graph.add("ReduceLogSumExp", [LOGITS, axis], "ood.logsumexp", keepdims=0)
    weighted = graph.add("Mul", [graph.constant("ood.energy_weight", scorer.energy_weight), energy], "ood.energy")
    if not len(scorer.reference_embeddings):
        graph.add("Sub", [distance, weighted], OOD_SCORE)
        return
    score = graph.add("Sub", [distance, weighted], "ood.without_neighbors")
    length = graph.add("ReduceL2", [EMBEDDING, axis], "ood.length", keepdims=1)
    bounded = graph.add("Clip", [length, graph.constant("ood.min_length", 1e-12)], "ood.bounded_length")
    unit = graph.add("Div", [EMBEDDING, bounded], "ood.unit")
    neighbors = graph.constant("ood.neighbors", scorer.reference_embeddings)
    cosines = graph.add("Gemm", [unit, neighbors], "ood.cosines", transB=1)
    top = graph.add("TopK", [cosines, graph.constant("ood.k", [NUM_NEIGHBORS], np.int64)], "ood.top", axis=1)
    mean = graph.add("ReduceMean", [top, axis], "ood.mean_cosine", keepdims=0)
    weight = graph.constant("ood.knn_weight", scorer.knn_weight)
    graph.add("Sub", [score, graph.add("Mul", [weight, mean], "ood.knn")], OOD_SCORE)


def strip_debug_info(graph: onnx.ModelProto) -> None:
    """Remove the exporter's comments on nodes: half of their bytes, and paths of this machine."""
    for each in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output, graph.graph):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")


def write_model(exported: Exported, card: ModelCard, path: Path) -> None:
    """Write model.onnx atomically: the graph with the card in its metadata."""
    onnx.helper.set_model_props(exported.graph, card_to_metadata(card))
    onnx.checker.check_model(exported.graph, full_check=True)
    write_bytes(path, exported.graph.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's log: it reports that torchvision, which is not needed, is missing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
