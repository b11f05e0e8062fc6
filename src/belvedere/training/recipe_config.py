"""Recipes as TOML, and changes to them with errors of one line."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from belvedere.errors import UsageError, find_named
from belvedere.training.recipes import DEFAULT_RECIPE, RECIPES, Recipe

TABLE = "recipe"  # the other tables of a run's config.toml are ignored
FIELDS = {entry.name: entry for entry in dataclasses.fields(Recipe)}


def recipe_to_toml(
    recipe: Recipe | str, config: Path | str | None = None, epochs: int | None = None, **changes: object
) -> str:
    """Return the recipe that `train` takes for the same arguments, as TOML.

    Args:
        recipe: Name of a recipe, or a recipe.
        config: TOML file with keys of the recipe.
        epochs: Number of epochs, instead of the recipe's.
        **changes: Other keys of the recipe.

    Raises:
        UnknownNameError: There is no such recipe or key.
        UsageError: A value is invalid, or the file cannot be read.
    """
    return to_toml(choose_recipe(recipe, config, epochs, **changes))


def to_toml(recipe: Recipe) -> str:
    """Return a table `[recipe]`: a line for each key that is set, under a comment that describes it."""
    fields = Recipe.__pydantic_fields__  # type: ignore[attr-defined]
    values = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    # JSON and TOML write numbers, strings and arrays alike, except for the character DEL.
    lines = (
        f"# {fields[name].description}\n{name} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
        for name, value in values.items()
    )
    return f"[{TABLE}]\n" + "".join(lines)


def read_config(file: Path, base: Recipe) -> Recipe:
    """Read the table `[recipe]` of a TOML file, such as a run's config.toml; `base` has the keys that it leaves out.

    Raises:
        UnknownNameError: The file contains a key that no recipe has; the error suggests the closest.
        UsageError: The file cannot be read, or a value is invalid.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Expected a TOML file.") from error
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8
        raise UsageError(f"{file} is not TOML: {error}. `recipe_to_toml` gives an example.") from error
    values = content.get(TABLE)
    if not isinstance(values, dict):
        raise UsageError(f"{file} has no table [{TABLE}]. `recipe_to_toml` gives an example.")
    for name in values:
        find_named("recipe key", name, FIELDS)
    return change_recipe(base, values, str(file))


def choose_recipe(
    recipe: Recipe | str, config: Path | str | None = None, epochs: int | None = None, **changes: object
) -> Recipe:
    """Return a recipe with changes.

    Args:
        recipe: Name of a recipe, or a recipe.
        config: TOML file whose values replace the recipe's.
        epochs: Number of epochs; sets `min_steps` to 0, so that images are not repeated within an epoch.
        **changes: Values by recipe key; they replace those of the recipe and of the file.

    Raises:
        UnknownNameError: There is no such recipe or key.
        UsageError: A value is invalid.
    """
    chosen = RECIPES.find(recipe) if isinstance(recipe, str) else recipe
    if config is not None:
        chosen = read_config(Path(config), chosen)
    if epochs is not None:
        chosen = change_recipe(chosen, {"epochs": epochs, "min_steps": 0}, "Recipe")
    for name in changes:
        find_named("recipe key", name, FIELDS)
    return change_recipe(chosen, changes, "Recipe") if changes else chosen


def register_recipe(
    name: str,
    *,
    recipe: str = DEFAULT_RECIPE,
    config: Path | str | None = None,
    overwrite: bool = False,
    **changes: object,
) -> None:
    """Register a recipe, so that `train` and the command line take its name.

    Args:
        name: Name of the recipe.
        recipe: Recipe that supplies the keys that are not given.
        config: TOML file with keys of the recipe.
        overwrite: Whether to replace a recipe of that name.
        changes: Keys of the recipe, which override `config`.

    Raises:
        UnknownNameError: There is no such recipe or key.
        UsageError: A value is invalid, or the name is taken.
    """
    values: dict[str, Any] = changes | {"name": name}
    RECIPES.add(name, choose_recipe(recipe, config, **values), overwrite=overwrite)


def change_recipe(base: Recipe, values: dict[str, object], source: str) -> Recipe:
    """Return a recipe with other values, by recipe key, from a source that errors name.

    Raises:
        UsageError: A value is invalid.
    """
    try:
        if values.get("horizontal_flip") is False:  # of a recipe that flips
            values = {"alternating_flip": False} | values
        if values.get("alternating_flip") is False:  # a network that saw no mirror image predicts none
            values = {"flip_tta": False} | values
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        return Recipe(**{**dataclasses.asdict(base), **plain})
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # valid values that do not go together
            raise UsageError(f"{source}: {reason}.") from error
        name = ".".join(str(step) for step in first["loc"])
        raise UsageError(f"{source}: {name}: {reason}. Received: {first['input']!r}.") from error
