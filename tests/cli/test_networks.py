"""The command networks."""

import json

import timm

from belvedere.training.networks import list_models
from command_line import assert_one_line, belvedere


def test_networks_lists_all() -> None:
    plain, found = belvedere("networks"), json.loads(belvedere("networks", "--json").stdout)["networks"]
    assert plain.returncode == 0, plain.stderr
    assert [each["name"] for each in found] == [each.name for each in list_models()]
    assert all(each["name"] in plain.stdout for each in found)


def test_one_network_is_described_with_the_license_of_its_weights() -> None:
    """Also one that is not listed, and may not be used commercially."""
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    plain = belvedere("networks", name)
    assert plain.returncode == 0, plain.stderr
    assert "license   apache-2.0" in plain.stdout
    assert "ImageNet  75.5%" in plain.stdout
    found = json.loads(belvedere("networks", "fastvit_t8.apple_in1k", "--json").stdout)
    config = timm.get_pretrained_cfg("fastvit_t8.apple_in1k")
    assert config is not None
    assert found["license"] == config.license != "apache-2.0"
    assert found["image_size"] == 256
    assert "huggingface.co/timm/fastvit_t8.apple_in1k" in found["source"]
    assert json.loads(belvedere("networks", "article", "--json").stdout)["license"] == "Apache-2.0"


def test_a_wrong_name_is_one_line() -> None:
    assert_one_line(belvedere("networks", "resnet81"), 2, "resnet81", "resnet")
