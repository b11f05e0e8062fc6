"""Cached graphs: which networks share one, and that a wrong one is never used."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from belvedere.runtime.environment import CACHE_DIR_ENV
from belvedere.training.networks import find_network
from belvedere.training.networks.registry import Network
from belvedere.training.onnx_export import export_graph
from belvedere.types.model import Preprocess

SIZE = Preprocess(16, 16)
SAMPLE = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


class Scaled(Network):
    """A network whose factor `repr` does not show."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.norm = torch.nn.BatchNorm2d(4)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), self.norm)
        self.features = torch.nn.Sequential(self.layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.classify = torch.nn.Linear(4, 2)

    def feature_map(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self.layers(pixels / 255) * self.factor)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self.classify(self.feature_map(pixels).mean((2, 3))))


@pytest.fixture(autouse=True)
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Use an empty cache, and record the exports by torch."""
    calls: list[object] = []
    export = torch.onnx.export

    def record(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        return export(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.onnx, "export", record)
    monkeypatch.setenv(CACHE_DIR_ENV, str(tmp_path))
    return calls


def graph_file(cache: Path) -> Path:
    [file] = cache.glob("graphs/*/*.onnx")
    return file


def test_networks_that_differ_in_weights_share_a_graph(exports: list[object], tmp_path: Path) -> None:
    first, second = Scaled(), Scaled()
    second.norm.running_var = torch.full((4,), 2.0)
    before = export_graph(first, SIZE, SAMPLE).graph
    assert export_graph(second, SIZE, SAMPLE).max_relative_error < 1e-5
    assert len(exports) == 1
    assert export_graph(first, SIZE, SAMPLE).graph.SerializeToString() == before.SerializeToString()
    assert not any(each.raw_data for each in onnx.load(graph_file(tmp_path)).graph.initializer if "layers" in each.name)


def test_another_size_and_flip_tta_have_other_graphs(exports: list[object]) -> None:
    export_graph(Scaled(), SIZE, SAMPLE)
    export_graph(Scaled(), Preprocess(20, 16), np.zeros((1, 20, 16, 3), np.uint8))
    flipped = Scaled()
    flipped.flip_tta = True
    export_graph(flipped, SIZE, SAMPLE)
    assert len(exports) == 3


def test_a_difference_that_repr_does_not_show_is_noticed(exports: list[object]) -> None:
    for factor, number in ((1.0, 1), (1.01, 2), (1.01, 2)):
        assert export_graph(Scaled(factor), SIZE, SAMPLE).max_relative_error < 1e-5
        assert len(exports) == number


def other_graph() -> bytes:
    """Return a graph that onnx reads, and that has no input."""
    output = onnx.helper.make_tensor_value_info("feature_map", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["nothing"], ["feature_map"])
    graph = onnx.helper.make_graph([node], "other", [], [output])
    return bytes(onnx.helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize("content", [b"", b"damaged", onnx.ModelProto().SerializeToString(), other_graph()])
def test_a_damaged_graph_is_exported_anew(content: bytes, exports: list[object], tmp_path: Path) -> None:
    export_graph(Scaled(), SIZE, SAMPLE)
    graph_file(tmp_path).write_bytes(content)
    assert export_graph(Scaled(), SIZE, SAMPLE).max_relative_error < 1e-5
    assert len(exports) == 2


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_DIR_ENV, str(tmp_path / "file"))
    assert export_graph(Scaled(), SIZE, SAMPLE).max_relative_error < 1e-5


def test_fused_batch_norm_has_the_new_weights(exports: list[object]) -> None:
    entry = find_network("compact-small").with_image_size(32)
    for _ in range(2):
        network = entry.create(3)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features)
        exported = export_graph(network, entry.preprocess, np.zeros((2, 32, 32, 3), np.uint8))
        assert "BatchNormalization" not in {node.op_type for node in exported.graph.graph.node}
    assert len(exports) == 1
