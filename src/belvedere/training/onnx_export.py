"""A trained network to model.onnx: preprocessing, network and softmax in one graph, and a check that it says the same.

Knows torch's exporter and ONNX files; what the metadata hold is `model`'s business.
"""

import logging
import math
import warnings
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from torch import Tensor, nn

from belvedere.errors import InferenceError, TrainingError
from belvedere.inference.model import INPUT, OPTIONAL_OUTPUTS, OUTPUTS, Model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.uncertainty.ood import NEAREST, OODScorer
from belvedere.runtime.files import write_bytes
from belvedere.runtime.malloc import trim_memory
from belvedere.training.networks.registry import Network
from belvedere.types.model import ModelCard, Preprocess

if find_spec("onnxscript") is None:  # what torch exports with: better missed now than after the last epoch
    raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

OPSET = 18
KEPT_PICTURES = 4  # to compare a graph on that was compared on all of them when it was traced
# What a graph holds beside the network.
FITTED = ("temperature", "quadratic", "linear", "offsets", "energy", "neighbours", "nearness")
PLACEHOLDER = 1.2345679  # a temperature like no other number of a graph, since the exporter makes equal ones one
PARITY_BOUND = 1e-3  # float32 on two engines differs by about 1e-6


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference of two outputs, as a share of the largest value where that is over 1."""
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))


class Graph(nn.Module):
    """What model.onnx computes: uint8 pictures to logits, probabilities, embedding, evidence and outlier score."""

    fitted_temperature: Tensor
    fitted_quadratic: Tensor
    fitted_linear: Tensor
    fitted_offsets: Tensor
    fitted_energy: Tensor
    fitted_neighbours: Tensor
    fitted_nearness: Tensor

    def __init__(self, network: Network, temperature: float, outliers: OODScorer) -> None:
        super().__init__()
        self.network = network
        fitted = {"temperature": np.array(temperature, np.float32), **asdict(outliers)}
        for name in FITTED:
            self.register_buffer(f"fitted_{name}", torch.from_numpy(np.array(fitted[name], np.float32)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # (N, H, W, 3) uint8
        """Returns logits and probabilities (N, K), embedding (N, D), evidence (N, K, h, w), outlier score (N,)."""
        places = self.network.look(images.permute(0, 3, 1, 2).float())
        embedding = places.mean((2, 3))
        logits: Tensor = self.network.classify(embedding)
        count, width, rows, columns = places.shape
        flat = self.network.classify(places.permute(0, 2, 3, 1).reshape(-1, width))
        evidence = flat.view(count, rows, columns, -1).permute(0, 3, 1, 2)
        nearest = nn.functional.linear(embedding, self.fitted_linear, self.fitted_offsets).amin(1)
        distance = ((embedding @ self.fitted_quadratic) * embedding).sum(1) + nearest
        score = distance - self.fitted_energy * torch.logsumexp(logits, 1)
        if len(self.fitted_neighbours):
            cosines = nn.functional.linear(nn.functional.normalize(embedding, dim=1), self.fitted_neighbours)
            score = score - self.fitted_nearness * cosines.topk(NEAREST, 1).values.mean(1)
        return logits, torch.softmax(logits / self.fitted_temperature, 1), embedding, evidence, score


@dataclass(frozen=True)
class Exported:
    """A network as an ONNX graph, without metadata yet, and how closely it was followed."""

    graph: onnx.ModelProto
    parity: float  # largest relative difference of an output between torch and ONNX Runtime


def export_graph(
    network: Network,
    preprocess: Preprocess,
    sample: NDArray[np.uint8],
    temperature: float = 1.0,
    kept: Path | None = None,
    outliers: OODScorer | None = None,
) -> Exported:
    """Exports a network and compares it with the original on real pictures.

    Args:
        network: On the CPU, in float32; is put into evaluation mode.
        preprocess: Its input.
        sample: Pictures to compare on, (N, H, W, 3).
        temperature: By which the logits are divided before the softmax.
        kept: A file that keeps the graph for networks that differ in their last layer only, as tracing takes seconds.
        outliers: What the score for "none of these" is computed by; without, it is 0.

    Returns:
        The graph and the largest difference of an output.

    Raises:
        TrainingError: The difference is over `PARITY_BOUND`: the file would not be the model that was trained.
    """
    classes, width = network.classify.weight.shape
    graph = Graph(network, temperature, outliers or OODScorer.unknown(classes, width)).eval()
    if kept is not None and (proto := _read_kept(kept, graph)) is not None:
        parity = _compare(proto, graph, sample[:KEPT_PICTURES])
        if parity <= PARITY_BOUND:
            return Exported(proto, parity)
    proto = _trace_like(network, preprocess, len(graph.fitted_neighbours))
    if not _give(proto, graph):
        raise TrainingError("torch's ONNX exporter changed the names of the last layer. Please report this.")
    parity = _compare(proto, graph, sample)
    if not parity <= PARITY_BOUND:
        raise TrainingError(
            f"The exported graph differs from the trained network by {parity:.2g}, over the bound of "
            f"{PARITY_BOUND:g}: it was not written. The weights are in weights.safetensors."
        )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, proto.SerializeToString())
    return Exported(proto, parity)


def _trace_like(network: Network, preprocess: Preprocess, neighbours: int) -> onnx.ModelProto:
    """Traces a network with a last layer, temperature and score of numbers like no others, to be replaced."""
    layer = network.classify
    network.classify = nn.Linear(layer.in_features, layer.out_features)
    try:
        score = _draw_score(layer.out_features, layer.in_features, neighbours)
        return _trace(Graph(network, PLACEHOLDER, score).eval(), preprocess)
    finally:
        network.classify = layer


def _draw_score(classes: int, width: int, neighbours: int) -> OODScorer:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> NDArray[np.float32]:
        return random.normal(size=shape).astype(np.float32)

    energy, nearness = random.normal(size=2).tolist()
    return OODScorer(draw(width, width), draw(classes, width), draw(classes), energy, draw(neighbours, width), nearness)


def _trace(graph: Graph, preprocess: Preprocess) -> onnx.ModelProto:
    example = torch.zeros(2, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
    batch = {0: torch.export.Dim("N")}
    with warnings.catch_warnings(), _quiet_exporter():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own internals
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=[INPUT],
                output_names=[*OUTPUTS, *OPTIONAL_OUTPUTS],
                dynamic_shapes={"images": batch},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise TrainingError(
                f"torch can't write this network as ONNX: {' '.join(str(error).split())[:200]}. Its weights are in "
                "weights.safetensors; take another network."
            ) from error
    if program is None:
        raise TrainingError("torch's ONNX exporter gave no graph. Please report this with torch's version.")
    proto = program.model_proto
    strip_debug_info(proto)
    return proto


def _read_kept(file: Path, graph: Graph) -> onnx.ModelProto | None:
    """A graph that was kept, with this last layer and temperature; None where there is none that can be used."""
    try:
        proto = onnx.load_from_string(file.read_bytes())
    except (OSError, DecodeError):
        return None
    return proto if _give(proto, graph) else None


def _give(proto: onnx.ModelProto, graph: Graph) -> bool:
    """Gives a traced graph this last layer and all that was fitted; whether it has places for them."""
    layer = {
        f"network.classify.{name}": each.detach().numpy() for name, each in graph.network.classify.named_parameters()
    }
    used = FITTED if len(graph.fitted_neighbours) else FITTED[:5]
    layer |= {name: getattr(graph, name).numpy() for name in (f"fitted_{each}" for each in used)}
    held = {weights.name: weights for weights in proto.graph.initializer if weights.name in layer}
    if {name: tuple(weights.dims) for name, weights in held.items()} != {n: v.shape for n, v in layer.items()}:
        return False
    for name, weights in held.items():
        weights.CopyFrom(onnx.numpy_helper.from_array(layer[name], name))
    return True


def _compare(proto: onnx.ModelProto, graph: Graph, sample: NDArray[np.uint8]) -> float:
    """The largest difference of an output, which may be no number."""
    with torch.inference_mode():
        expected = [output.numpy() for output in graph(torch.from_numpy(np.array(sample)))]  # (a copy to write to)
    try:
        said = Model.from_bytes(proto.SerializeToString(), None).forward_all(sample)
    except InferenceError:  # such as weights that are no numbers
        return math.nan
    found = (getattr(said, name) for name in (*OUTPUTS, *OPTIONAL_OUTPUTS))
    return float(np.max([_difference(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]))


def strip_debug_info(graph: onnx.ModelProto) -> None:
    """Takes out what the exporter notes of each node's origin: half of the nodes' bytes, and paths of this machine."""
    for part in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output, graph.graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def write_model(exported: Exported, card: ModelCard, path: Path) -> None:
    """Writes model.onnx at once: the graph with the card in its metadata."""
    onnx.helper.set_model_props(exported.graph, card_to_metadata(card))
    onnx.checker.check_model(exported.graph, full_check=True)
    write_bytes(path, exported.graph.SerializeToString())
    trim_memory()  # tracing leaves much behind


class _quiet_exporter:  # noqa: N801 - reads as a verb in a with statement
    """The exporter logs that torchvision, which is not needed, is not there."""

    _logger = logging.getLogger("torch.onnx")

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
