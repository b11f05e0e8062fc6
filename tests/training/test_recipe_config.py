"""Recipes as text: what is printed can be read, and what is wrong is named in one line."""

import errno
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.errors import UnknownNameError, UsageError
from belvedere.training.networks import BACKBONES, NETWORKS
from belvedere.training.recipe_config import FIELDS, change_recipe, choose_recipe, read_config, recipe_to_toml, to_toml
from belvedere.training.recipes import DEFAULT_RECIPE, RECIPES, Recipe

QUICK = RECIPES["quick"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.toml"


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_printed_is_read(name: str, file: Path) -> None:
    file.write_text(recipe_to_toml(name))
    other = next(recipe for recipe in RECIPES.values() if recipe.name != name)
    assert read_config(file, other) == RECIPES[name]  # whatever it is read on top of
    assert read_config(file, RECIPES[name]) == RECIPES[name]


def test_a_path_with_a_control_character_is_read(file: Path) -> None:
    recipe = replace(RECIPES["finetune"], weights='a\x7f\n".safetensors')
    file.write_text(to_toml(recipe))
    assert read_config(file, RECIPES["quick"]).weights == recipe.weights


def test_every_key_that_is_printed_is_explained() -> None:
    lines = recipe_to_toml(
        "best", image_size=64, teacher_image_size=64
    ).splitlines()  # the keys that are not set otherwise
    assert lines[0] == "[recipe]"
    keys = [number for number, line in enumerate(lines) if line.split(" = ")[0] in FIELDS]
    assert len(keys) == len(FIELDS)
    for number in keys:
        assert lines[number - 1].startswith("# ")
        assert len(lines[number - 1]) > 6


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_trained(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.network in ({each.name for each in BACKBONES} if recipe.pretrained else NETWORKS)
    assert recipe.mixup_prob + recipe.cutmix_prob < 1
    assert change_recipe(recipe, {}, "itself") == recipe
    assert DEFAULT_RECIPE in RECIPES


def test_a_file_may_say_a_part_and_the_epochs_count_above_it(file: Path) -> None:
    file.write_text('[recipe]\nepochs = 4\nimage_size_schedule = [[0, 32], [0.5, 64]]\n[run]\nseed = "not read here"\n')
    assert choose_recipe("quick", file) == replace(QUICK, epochs=4, image_size_schedule=((0, 32), (0.5, 64)))
    asked = choose_recipe("quick", str(file), 9)
    assert (asked.epochs, asked.min_steps) == (9, 0)  # as requested, even with few images
    assert tomllib.loads(recipe_to_toml("quick", file, 9))["recipe"]["epochs"] == 9
    assert choose_recipe(QUICK) is QUICK


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("epochs = 0", ["epochs = 0"]),
        ("epochs = -1", ["epochs: ", " 0.", " -1."]),
        ("epochs = 'many'", ["epochs", "integer", "'many'"]),
        ("epochs = 2.5", ["epochs", "integer", " 2.5."]),
        ("batch_size = 1", ["batch_size", "2"]),
        ("learning_rate = 0", ["learning_rate: ", " 0. ", " 0."]),
        ("class_weighting = 'some'", ["class_weighting", "'effective'"]),
        (
            "class_weighting = 'balanced'\nsampling = 'balanced'",
            ["sampling", "class_weighting", "'balanced' and 'balanced'"],
        ),
        ("resize = 'fit'", ["resize", "'letterbox'"]),
        ("freeze = -1", ["freeze: ", " 0. ", " -1."]),
        ("pretrained = true\nepochs = 0\nfreeze = 2", ["freeze ", "epochs", " 1 ", " 2."]),
        ("horizontal_flip = false\nflip_tta = true", ["horizontal_flip", "flip_tta = True"]),
        ("learning_rate = nan", ["learning_rate"]),
        ("muon_learning_rate = inf", ["muon_learning_rate", "finite"]),
        ("mixup_prob = 0.6\ncutmix_prob = 0.5", ["mixup_prob", "cutmix_prob", "0.6 + 0.5"]),
        ("l2_penalty = 0.01", ["l2_penalty", "weight_decay", "0.01"]),
        ("color_jitter = 1.0", ["color_jitter", " 1. ", " 1.0."]),
        ("cutout_prob = -0.1", ["cutout_prob", " 0. ", " -0.1."]),
        ("cached_image_size = 9999", ["cached_image_size", "1024"]),
        ("optimizer = 'sgd'", ["optimizer", "adam, adamw, muon", "'sgd'"]),
        ("alternating_flip = 'perhaps'", ["alternating_flip", "boolean", "'perhaps'"]),
        ("crop_scale = [0.0, 1.0]", ["crop_scale.0", " 0. ", " 0.0."]),
        ("crop_scale = [0.5]", ["crop_scale"]),
        ("l2_parameters = 'conv'", ["l2_parameters"]),
        ("network = 3", ["network", "string"]),
        ("learning_rate_schedule = []", ["learning_rate_schedule", " 1 ", " []."]),
        ("image_size_schedule = [[0, 0]]", ["image_size_schedule", " 1024 pixels", "[[0, 0]]"]),
        ("image_size_schedule = [[0.5, 32], [0.2, 64]]", ["image_size_schedule", ", value]", "[[0.5, 32], [0.2, 64]]"]),
        ("image_size_schedule = [[0, 32], [1.5, 64]]", ["image_size_schedule", ", value]", "[[0, 32], [1.5, 64]]"]),
        ("image_size_schedule = [[0, 32, 64]]", ["image_size_schedule.0"]),
        ("image_size_schedule = 64", ["image_size_schedule"]),
        ("learning_rate_schedule = [[0, -1]]", ["learning_rate_schedule", "[[0, -1]]"]),
        ("learning_rate_schedule = [[0, inf]]", ["learning_rate_schedule", "[[0, inf]]"]),
        ("learning_rate_schedule = [[0, nan]]", ["learning_rate_schedule"]),
        ("learning_rate_schedule = [[nan, 1]]", ["learning_rate_schedule"]),
    ],
)
def test_a_value_that_is_not_possible_gets_one_line(line: str, words: list[str], file: Path) -> None:
    file.write_text(f"[recipe]\n{line}\n")
    with pytest.raises(UsageError) as caught:
        choose_recipe("quick", file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert all(word in message for word in words), message


def test_invalid_epochs_are_named() -> None:
    with pytest.raises(UsageError, match=r"^Recipe: epochs .* epochs = 0\.$"):
        choose_recipe("quick", None, 0)


@pytest.mark.parametrize(
    ("key", "nearest"), [("epoch", "epochs"), ("learning_rte", "learning_rate"), ("Mixup_prob", "mixup_prob")]
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str, file: Path) -> None:
    file.write_text(f"[recipe]\n{key} = 1\n")
    with pytest.raises(UnknownNameError) as caught:
        choose_recipe("quick", file)
    assert (caught.value.kind, caught.value.name, caught.value.suggestion) == ("recipe key", key, nearest)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        recipe_to_toml("quik")
    assert (caught.value.kind, caught.value.name, caught.value.suggestion) == ("recipe", "quik", "quick")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs = 3\n", r"\[recipe\].*recipe_to_toml"),
        (b"recipe = 3\n", r"\[recipe\]"),
        (b"", r"\[recipe\]"),
        (b"[recipe\n", r"\bTOML\b"),
        (b"[recipe]\nepochs = 1\nepochs = 2\n", r"\bTOML\b"),
        (b"\xff\xfe[recipe]", r"\bTOML\b"),
    ],
)
def test_a_file_that_holds_no_recipe_is_named(content: bytes, words: str, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_config(file, QUICK)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(UsageError, match=rf"own\.toml.*{os.strerror(errno.ENOENT)}"):
        read_config(file, QUICK)
    with pytest.raises(UsageError, match=os.strerror(errno.EISDIR)):
        read_config(file.parent, QUICK)


TOML = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats() | st.text())


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), TOML))
def test_any_values_make_a_recipe_or_one_line(values: dict[str, object]) -> None:
    try:
        assert isinstance(change_recipe(QUICK, values, "own.toml"), Recipe)
    except UsageError as error:
        assert str(error).startswith("own.toml: ")


@pytest.mark.parametrize("name", RECIPES)
def test_one_switch_turns_off_all_flips(name: str, file: Path) -> None:
    file.write_text("[recipe]\nhorizontal_flip = false\n")
    for recipe in (choose_recipe(name, horizontal_flip=False), choose_recipe(name, file)):
        assert (recipe.horizontal_flip, recipe.alternating_flip, recipe.flip_tta) == (False, False, False)
    file.write_text(to_toml(choose_recipe(name, horizontal_flip=False)))
    assert choose_recipe("standard", file) == choose_recipe(name, horizontal_flip=False)


def test_a_recipe_without_flips_in_training_has_none_in_prediction(file: Path) -> None:
    file.write_text("[recipe]\nalternating_flip = false\n")
    for recipe in (choose_recipe("standard", alternating_flip=False), choose_recipe("standard", file)):
        assert (recipe.horizontal_flip, recipe.alternating_flip, recipe.flip_tta) == (True, False, False)
    assert choose_recipe("standard", alternating_flip=False, flip_tta=True).flip_tta
