"""Networks of timm's: found by name, weights taken or refused, embeddings, layer table, the graph."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from belvedere.errors import UnknownNameError, UsageError, WeightsError
from belvedere.inference.model import Model
from belvedere.training.networks import PretrainedNetwork, find_backbone, list_layers
from belvedere.training.onnx_export import export_graph
from belvedere.types.model import Preprocess

KINDS = ("test_vit.r160_in1k", "test_resnet.r160_in1k", "test_efficientnet.r160_in1k", "test_convnext.r160_in1k")
VIT, EFFICIENT = KINDS[0], KINDS[2]


def weights_of(name: str, **options: object) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state: dict[str, torch.Tensor] = timm.create_model(name, **options).state_dict()  # type: ignore[arg-type]
    return {key: value.clone() for key, value in state.items()}


def make(name: str, side: int | None = None) -> PretrainedNetwork:
    network = find_backbone(name, side).create(4)
    assert isinstance(network, PretrainedNetwork)
    return network.eval()


@pytest.mark.parametrize("name", KINDS)
def test_it_sees_what_timms_model_sees(name: str) -> None:
    """Mean and deviation of its configuration; the class token beside the mean of the places, or the mean."""
    network, weights = make(name), weights_of(name)
    network.load_backbone_weights(weights, "file")
    theirs = timm.create_model(name).eval()
    theirs.load_state_dict(weights)
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    pixels = torch.randint(0, 256, (2, 3, 160, 160)).float()
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (config.mean, config.std))
    with torch.no_grad():
        seen = theirs.forward_features((pixels / 255 - mean) / deviation)  # type: ignore[operator]
        found = network.forward_embedding(pixels)
    expected = torch.cat([seen[:, 0], seen[:, 1:].mean(1)], 1) if seen.ndim == 3 else seen.mean((2, 3))
    assert torch.allclose(found, expected, atol=1e-4)
    assert find_backbone(name).preprocess == Preprocess(160, 160, "stretch", config.interpolation)
    assert find_backbone(name).license == "apache-2.0"


@pytest.mark.parametrize("name", KINDS)
def test_it_conforms_and_exports(name: str) -> None:
    network = make(name, 96)
    size = find_backbone(name, 96).preprocess
    layers = list_layers(network, size)
    assert layers[-1].shape == (4,)
    assert sum(layer.parameters for layer in layers) >= sum(weights.numel() for weights in network.parameters())
    assert sum(layer.trainable for layer in layers) == sum(weights.numel() for weights in network.parameters())
    assert len(layers) < 40  # blocks, not what is in them
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3)).astype(np.uint8)
    exported = export_graph(network, size, images)
    assert exported.max_relative_error < 1e-4
    model = Model.from_bytes(exported.graph.SerializeToString(), None)
    evidence = model.forward_activation_maps(images)
    assert evidence.shape[2] == evidence.shape[3] > 1
    assert evidence.mean((2, 3)) == pytest.approx(model.forward(images).logits, abs=1e-4)


def test_flip_tta_is_the_mean_of_an_image_and_its_mirror_image() -> None:
    network = make(VIT)
    pixels = torch.randint(0, 256, (2, 3, 160, 160)).float()
    with torch.no_grad():
        expected = (network.forward_embedding(pixels) + network.forward_embedding(pixels.flip(3))) / 2
        network.flip_tta = True
        assert torch.allclose(network.forward_embedding(pixels), expected, atol=1e-5)


def test_positions_are_scaled_to_the_images() -> None:
    network = make(VIT, 96)
    network.load_backbone_weights(weights_of(VIT), "file")  # of 160 pixels a side
    assert network.forward_embedding(torch.zeros(1, 3, 96, 96)).shape == (1, 128)


def test_its_classifier_is_left_out_and_a_prefix_taken_off() -> None:
    weights = weights_of(VIT)
    assert any(key.startswith("head.") for key in weights)
    make(VIT).load_backbone_weights(weights, "file")
    make(VIT).load_backbone_weights(
        {key: value for key, value in weights.items() if not key.startswith("head.")}, "file"
    )


def test_a_batch_norm_of_the_classifier_is_left_out() -> None:
    weights = weights_of("levit_128s.fb_dist_in1k")
    assert "head.bn.weight" in weights
    assert make("levit_128s.fb_dist_in1k").load_backbone_weights(weights, "file") == ()


def test_the_last_layers_may_be_missing_as_a_whole() -> None:
    """As in a checkpoint of a network that was cut off to find edges: the embedding is what is left."""
    weights = {
        key: value for key, value in weights_of(EFFICIENT).items() if not key.startswith(("conv_head", "bn2", "cl"))
    }
    whole, cut = make(EFFICIENT), make(EFFICIENT)
    cut.load_backbone_weights({key: value.half() for key, value in weights.items()}, "file")
    assert cut.classify.in_features < whole.classify.in_features
    assert cut(torch.zeros(2, 3, 160, 160)).shape == (2, 4)


@pytest.mark.parametrize("broken", ["another", "a layer", "shape", "nothing", "part of the end"])
def test_weights_of_another_architecture_are_refused(broken: str) -> None:
    weights = weights_of("test_resnet.r160_in1k" if broken == "another" else VIT)
    if broken == "a layer":
        del weights["blocks.0.attn.qkv.weight"]
    elif broken == "shape":
        weights["blocks.0.attn.qkv.weight"] = torch.zeros(3, 3)
    elif broken == "nothing":
        weights = {"head.weight": weights["head.weight"]}
    elif broken == "part of the end":
        del weights["norm.bias"]
    with pytest.raises(WeightsError, match=r"^file\.pt .*test_vit"):
        make(VIT).load_backbone_weights(weights, "file.pt")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_backbone("vit_tiny_patch16_225")
    assert caught.value.name == "vit_tiny_patch16_225"
    assert (caught.value.suggestion or "").startswith("vit_tiny_patch16_224.")


def test_a_size_that_it_cannot_take_is_refused() -> None:
    with pytest.raises(UsageError, match=r"100 x 100.*160"):
        find_backbone("test_vit.r160_in1k", 100).create(2)


def test_rates_fall_from_the_last_block_to_the_first() -> None:
    scale = make(VIT).lr_scales(0.5)
    names = {name for name, _ in make(VIT).named_parameters()}
    assert set(scale) == names - {"classify.weight", "classify.bias"}
    blocks = [scale[f"features.backbone.model.blocks.{number}.attn.qkv.weight"] for number in (0, 1)]
    assert scale["features.backbone.model.patch_embed.proj.weight"] < blocks[0] < blocks[1] < 1
    assert blocks[0] == blocks[1] / 2


def test_weights_in_half_precision_are_taken_in_full(tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    safetensors.torch.save_file({key: value.half() for key, value in weights_of(VIT).items()}, file)
    network = make(VIT)
    network.load_backbone_weights(safetensors.torch.load_file(file), "half")
    assert all(weights.dtype == torch.float32 for weights in network.parameters())
