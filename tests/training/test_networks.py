"""The networks: the article's layer for layer, and what every registered one must do."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from belvedere.errors import TrainingError, UnknownNameError, UsageError
from belvedere.inference.model import Model
from belvedere.training.networks import NETWORKS, architecture_for, describe_architecture, find_network, list_layers
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.onnx_export import export_graph
from belvedere.training.recipes import RECIPES
from notebook_html import NotebookHtml

ARTICLE_TABLE = [  # output shape, parameters: as Keras' summary() prints the article's network
    ("Conv2d 3x3, ReLU", (148, 148, 16), 448),
    ("Conv2d 3x3, ReLU", (146, 146, 32), 4_640),
    ("MaxPool2d 5x5", (29, 29, 32), 0),
    ("Conv2d 3x3, ReLU", (27, 27, 32), 9_248),
    ("Conv2d 3x3, ReLU", (25, 25, 64), 18_496),
    ("MaxPool2d 5x5", (5, 5, 64), 0),
    ("Dropout 0.4", (5, 5, 64), 0),
    ("Flatten", (1600,), 0),
    ("Linear, ReLU", (64,), 102_464),
    ("BatchNorm1d", (64,), 256),
    ("Dropout 0.2", (64,), 0),
    ("Linear", (6,), 390),
]


def test_the_articles_layer_table() -> None:
    architecture = describe_architecture("article", 6)
    layers = architecture.layers
    assert [(layer.kind, layer.shape, layer.parameters) for layer in layers] == ARTICLE_TABLE
    assert architecture.num_parameters == 135_942
    assert sum(layer.parameters - layer.trainable for layer in layers) == 128
    assert repr(architecture) == "Architecture(name='article', num_parameters=135942)"
    assert architecture.to_dict()["layers"][0]["parameters"] == 448
    read = NotebookHtml(architecture._repr_html_())
    assert read.tags.count("tr") == 1 + len(ARTICLE_TABLE)
    assert {"135,942 parameters, 128 of which are frozen", "148 x 148 x 16", "102,464"} <= {*read.texts}


def test_the_article_starts_as_keras_does() -> None:
    torch.manual_seed(0)
    network = ArticleNetwork(6)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            limit = math.sqrt(6 / (fan_in + fan_out))  # Glorot and Bengio 2010, uniform
            assert module.weight.abs().max() <= limit
            assert module.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
            assert module.bias is not None
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm1d):
            assert module.momentum == pytest.approx(1 - 0.99)
            assert module.eps == 0.001


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("classes", [2, 11])
def test_every_network_conforms(name: str, classes: int) -> None:
    entry = find_network(name)
    size = entry.preprocess
    network = entry.create(classes).eval()
    pixels = torch.randint(0, 256, (3, 3, size.height, size.width)).float()
    logits = network(pixels)
    assert logits.shape == (3, classes)
    assert torch.equal(logits, network.classify(network.features(pixels)))
    layers = list_layers(network, size)
    assert layers[-1].shape == (classes,)
    network.flip_tta = True
    assert list_layers(network, size) == layers
    assert network.flip_tta
    assert sum(layer.trainable for layer in layers) == sum(weights.numel() for weights in network.parameters())
    assert all((entry.summary, entry.source, entry.license))


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_of_every_network_fit_together(name: str) -> None:
    """Embedding, feature map and head: the map's mean is the embedding, and the head makes logits of it."""
    entry = find_network(name)
    torch.manual_seed(0)
    network = entry.create(5).eval()
    pixels = torch.randint(0, 256, (2, 3, entry.preprocess.height, entry.preprocess.width)).float()
    with torch.no_grad():
        embedding, maps = network.forward_embedding(pixels), network.feature_map(pixels)
        assert embedding.shape == (2, network.classify.in_features)
        assert maps.shape[:2] == embedding.shape
        assert torch.allclose(maps.mean((2, 3)), embedding, atol=1e-5)
        assert torch.equal(network(pixels), network.classify(embedding))
        assert torch.equal(network(pixels), network(pixels))  # no dropout in evaluation
        assert torch.allclose(network(pixels[:1]), network(pixels)[:1], atol=1e-4)  # no batch statistics either


@pytest.mark.parametrize("name", NETWORKS)
def test_flip_tta_of_every_network_is_the_mean_of_both_views(name: str) -> None:
    entry = find_network(name)
    torch.manual_seed(0)
    network = entry.create(3).eval()
    pixels = torch.randint(0, 256, (2, 3, entry.preprocess.height, entry.preprocess.width)).float()
    with torch.no_grad():
        plain, mirrored = network.forward_embedding(pixels), network.forward_embedding(pixels.flip(3))
        map_of_plain = network.feature_map_tta(pixels)
        network.flip_tta = True
        both = network.forward_embedding(pixels)
        assert torch.allclose(both, (plain + mirrored) / 2, atol=1e-6)
        assert torch.equal(map_of_plain, network.feature_map(pixels))
        assert torch.allclose(network.feature_map_tta(pixels).mean((2, 3)), both, atol=1e-5)
        network.train()
        torch.manual_seed(1)
        trained = network.forward_embedding(pixels)
        network.flip_tta = False
        torch.manual_seed(1)
        assert torch.allclose(network.forward_embedding(pixels), trained, atol=1e-4)  # training has one view


@pytest.mark.parametrize("name", NETWORKS)
def test_options_of_every_network_name_its_parameters(name: str) -> None:
    network = find_network(name).create(3)
    parameters = dict(network.named_parameters())
    scales = network.lr_scales(0.7)
    assert scales.keys() <= parameters.keys()
    assert all(0 < scale <= 1 for scale in scales.values())
    assert network.no_weight_decay() <= parameters.keys()
    assert all(parameters[each].ndim >= 2 for each in network.no_weight_decay())  # vectors have no decay anyway


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_any_size_accepts_other_sizes(name: str) -> None:
    entry = find_network(name)
    if not entry.any_size:
        with pytest.raises(UsageError):
            entry.with_image_size(96)
        with pytest.raises(TypeError):
            entry.create(2).init_whitening(torch.zeros(2, 3, 32, 32))
        return
    network = entry.create(2).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 2)
    assert network.feature_map(torch.zeros(1, 3, 64, 96)).shape[2:] == (4, 6)
    assert entry.with_image_size(96).preprocess == replace(entry.preprocess, height=96, width=96)
    assert entry.with_image_size(entry.preprocess.width) is entry


@pytest.mark.parametrize("size", [33, 40, 100, 112, 120])
def test_compact_networks_take_sizes_that_do_not_halve(size: int) -> None:
    entry = find_network("compact-small").with_image_size(size)
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8).numpy()
    exported = export_graph(entry.create(2), entry.preprocess, images)
    assert exported.max_relative_error < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_exports(name: str) -> None:
    entry = find_network(name)
    size = entry.preprocess
    images = torch.randint(0, 256, (3, size.height, size.width, 3), dtype=torch.uint8).numpy()
    network = entry.create(4)
    network.flip_tta = True
    exported = export_graph(network, size, images)
    assert exported.max_relative_error < 1e-4
    model = Model.from_bytes(exported.graph.SerializeToString(), None)
    assert model.forward_activation_maps(images).mean((2, 3)) == pytest.approx(model.forward(images).logits, abs=1e-4)
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert model.forward(images).logits == pytest.approx(logits.numpy(), abs=1e-4)
    assert str(Path(__file__).parents[2]).encode() not in exported.graph.SerializeToString()  # no path of the machine
    [graph_input] = exported.graph.graph.input
    assert graph_input.type.tensor_type.elem_type == 2  # uint8
    assert [size.dim_value for size in graph_input.type.tensor_type.shape.dim[1:]] == [size.height, size.width, 3]


def test_a_network_without_numbers_is_not_written() -> None:
    entry = find_network("article")
    network = entry.create(3)
    nn.init.constant_(network.classify.bias, math.nan)
    size = entry.preprocess
    with pytest.raises(TrainingError, match="nan"):
        export_graph(network, size, np.zeros((2, size.height, size.width, 3), np.uint8))


def test_a_flexible_network_takes_images_of_the_size_of_the_recipe() -> None:
    entry = architecture_for(replace(RECIPES["standard"], image_size=80))
    images = torch.randint(0, 256, (2, 80, 80, 3), dtype=torch.uint8).numpy()
    model = Model.from_bytes(export_graph(entry.create(3), entry.preprocess, images).graph.SerializeToString(), None)
    assert model.forward_activation_maps(images).shape == (2, 3, 5, 5)
    with pytest.raises(UsageError, match=r"150 x 150.*112"):
        architecture_for(replace(RECIPES["article"], image_size=112))


def test_the_layer_table_leaves_the_network_as_it_was() -> None:
    network = ArticleNetwork(3).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    list_layers(network, find_network("article").preprocess)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", [name for name, entry in NETWORKS.items() if entry.any_size])
def test_a_whitened_stem_sees_all_directions_alike(name: str) -> None:
    torch.manual_seed(0)
    network = find_network(name).create(3)
    blurred = nn.functional.interpolate(torch.rand(40, 3, 12, 12) * 255, size=48, mode="bilinear")
    pixels = (blurred + 20 * torch.rand(40, 3, 48, 48)).clamp(0, 255)
    network.init_whitening(pixels)
    scale, stem = network.features.get_submodule("scale"), network.features.get_submodule("stem")
    outputs = stem(scale(pixels)).transpose(0, 1).flatten(1)  # (channels, squares)
    half = len(outputs) // 2
    # The floor dampens the weakest directions a little; the widest stem has all of them.
    assert torch.allclose(torch.cov(outputs[:half]), torch.eye(half), atol=0.06)
    assert torch.allclose(outputs[half:], -outputs[:half], atol=1e-4)
    assert [name for name, weights in network.named_parameters() if not weights.requires_grad] == [
        "features.stem.weight"
    ]
    stem_row = next(layer for layer in list_layers(network, find_network(name).preprocess) if "stem" in layer.name)
    assert (stem_row.trainable, stem_row.parameters) == (0, 3 * 16 * 2 * half)


def test_whitening_images_of_one_color_leaves_numbers() -> None:
    network = find_network("compact-small").create(3)
    network.init_whitening(torch.full((8, 3, 32, 32), 90.0))
    assert all(bool(weights.isfinite().all()) for weights in network.parameters())


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_network("artikle")
    assert (caught.value.kind, caught.value.name, caught.value.suggestion) == ("network", "artikle", "article")
