"""The list of backbones, held to what timm says of them, and sizes that fit a network and a time."""

from dataclasses import replace

import pytest
import timm

from belvedere.errors import UnknownNameError, UsageError
from belvedere.runtime.progress import Progress
from belvedere.training.input_size import adapt_size_schedule
from belvedere.training.networks import BACKBONES, find_backbone, list_layers
from belvedere.training.recipes import RECIPES
from belvedere.types.model import NetworkInfo

FINETUNED = RECIPES["finetune"]


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda each: each.name)
def test_the_list_agrees_with_timm(backbone: NetworkInfo) -> None:
    config = timm.get_pretrained_cfg(backbone.name)
    assert config is not None
    assert (backbone.image_size, backbone.license) == (config.input_size[-1], config.license)
    assert (backbone.images_per_second or 0) > 0
    assert (backbone.imagenet_accuracy is None) == ("_in1k" not in backbone.name)


def test_no_listed_network_is_beaten_by_another() -> None:
    """In size, speed and accuracy."""
    rated = [
        (each.parameters_millions, -(each.images_per_second or 0), -each.imagenet_accuracy, each.name)
        for each in BACKBONES
        if each.imagenet_accuracy is not None
    ]
    beaten = [
        (one[3], other[3])
        for one in rated
        for other in rated
        if one != other and all(mine >= theirs for mine, theirs in zip(one[:3], other[:3], strict=True))
    ]
    assert beaten == []


def test_a_tag_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(UnknownNameError) as raised:
        find_backbone("vit_tiny_patch16_224.augreg_in21k_ft_in1")
    assert raised.value.suggestion == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert raised.value.suggestion in raised.value.choices


def test_images_grow_to_the_networks_own_size() -> None:
    fitted = adapt_size_schedule(replace(FINETUNED, network="test_vit.r160_in1k"), Progress())
    assert fitted.image_size_schedule == ((0.0, 128 * 160 / 224), (0.7, 160.0))
    assert adapt_size_schedule(RECIPES["quick"], Progress()) == RECIPES["quick"]


def test_a_network_of_one_size_is_shown_that_only() -> None:
    said: list[str] = []

    class Heard(Progress):
        def log(self, message: str) -> None:
            said.append(message)

    network = "levit_128s.fb_dist_in1k"
    assert adapt_size_schedule(replace(FINETUNED, network=network), Heard()).image_size_schedule == ()
    [message] = said
    assert network in message
    assert "224 x 224" in message


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224.ms_in1k", "vit_tiny_patch16_224.augreg_in21k"])
def test_layers_have_their_channels_last(name: str) -> None:
    entry = find_backbone(name)
    shapes = [layer.shape for layer in list_layers(entry.create(2), entry.preprocess)]
    assert all(shape[0] == shape[1] for shape in shapes if len(shape) == 3)
    assert len(shapes) < 40


def test_a_backbone_that_gives_no_single_map_is_refused() -> None:
    with pytest.raises(UsageError, match=r"crossvit_9_240.*: forward_features "):
        find_backbone("crossvit_9_240.in1k").create(2)
