"""The image size of a linear probe for the images that it is fitted on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from belvedere.training.input_size import fit_size_to_images
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.types.data import Sample

Samples = Callable[..., list[Sample]]
TRANSFORMER, CONVOLUTIONAL = "test_vit.r160_in1k", "test_resnet.r160_in1k"  # of 160 pixels
SMALLER = 128  # 6/7 of 160, a multiple of 32


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    def create(*sizes: tuple[int, int]) -> list[Sample]:
        found = []
        for number, size in enumerate(sizes):
            path = tmp_path / f"{number}.png"
            Image.new("RGB", size).save(path)
            found.append(Sample(path, path.name, "a", None))
        return found

    return create


def recipe(network: str) -> Recipe:
    return replace(RECIPES["probe"], network=network)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(SMALLER, SMALLER)], SMALLER),
        ([(20, SMALLER + 1)], None),
        ([(SMALLER + 1, 20)], None),
        ([(20, 20), (20, 20), (500, 500)], SMALLER),
        ([(20, 20), (500, 500), (500, 500)], None),
        ([], None),
    ],
)
def test_a_vision_transformer_takes_fewer_pixels_if_most_images_have_no_more(
    samples: Samples, sizes: list[tuple[int, int]], expected: int | None
) -> None:
    assert fit_size_to_images(recipe(TRANSFORMER), samples(*sizes)).image_size == expected


def test_a_convolutional_network_takes_enlarged_images(samples: Samples) -> None:
    assert fit_size_to_images(recipe(CONVOLUTIONAL), samples((20, 20))).image_size is None


def test_the_image_size_of_a_recipe_is_kept(samples: Samples) -> None:
    own = replace(recipe(TRANSFORMER), image_size=96)
    assert fit_size_to_images(own, samples((20, 20))) is own


def test_unreadable_images_have_no_size(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    broken = Sample(tmp_path / "broken.png", "broken.png", "a", None)
    assert fit_size_to_images(recipe(TRANSFORMER), [broken]).image_size is None
    assert fit_size_to_images(recipe(TRANSFORMER), [broken, *samples((20, 20))]).image_size == SMALLER
