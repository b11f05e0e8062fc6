"""Recipes as text that a user can print, save, edit and pass back.

Knows TOML and how to say what is wrong in it; which values are possible is `recipes`' business.
"""

import dataclasses
import json
import tomllib
from pathlib import Path

from pydantic import ValidationError

from belvedere.errors import UsageError, find_named
from belvedere.training.recipes import RECIPES, Recipe

TABLE = "recipe"  # of the file; others, which a run's config.toml has too, are not read
FIELDS = {entry.name: entry for entry in dataclasses.fields(Recipe)}


def recipe_to_toml(recipe: str, config: Path | str | None = None, epochs: int | None = None, **changes: object) -> str:
    """Returns the recipe that `train` would take as TOML: a table `[recipe]`, each key that is set with what it is.

    Raises:
        UsageError: As `choose_recipe`.
    """
    return to_toml(choose_recipe(recipe, config, epochs, **changes))


def to_toml(recipe: Recipe) -> str:
    """Writes a recipe as a table `[recipe]`: each key that is set on a line, under one that says what it is."""
    explained = Recipe.__pydantic_fields__  # type: ignore[attr-defined]
    values = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    # Numbers, strings, and arrays of them are written in JSON as in TOML, but on one line.
    keys = (
        f"# {explained[name].description}\n{name} = {json.dumps(value, ensure_ascii=False)}\n"
        for name, value in values.items()
    )
    return f"[{TABLE}]\n" + "".join(keys)


def read_config(file: Path, base: Recipe) -> Recipe:
    """Reads a recipe from a file.

    Args:
        file: TOML with a table `[recipe]`, such as `--print-config` prints or a run's config.toml.
        base: What the file leaves out is taken from here.

    Returns:
        The recipe.

    Raises:
        UnknownNameError: The file holds a key that no recipe has; the nearest is suggested.
        UsageError: It can't be read, or a value is not possible.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Can't read {file}: {error.strerror}. Expected a TOML file.") from error
    except (ValueError, RecursionError) as error:  # of TOML, or of UTF-8
        raise UsageError(f"{file} is not TOML: {error}. Compare it with: belvedere train --print-config") from error
    values = content.get(TABLE)
    if not isinstance(values, dict):
        raise UsageError(f"{file} has no table [{TABLE}]. Compare it with: belvedere train --print-config")
    for name in values:
        find_named("recipe key", name, FIELDS)
    return change_recipe(base, values, str(file))


def choose_recipe(
    recipe: Recipe | str, config: Path | str | None = None, epochs: int | None = None, **changes: object
) -> Recipe:
    """Returns the recipe to train by.

    Args:
        recipe: A name, or a recipe.
        config: A file whose values take the place of the recipe's.
        epochs: Instead of the recipe's; of few photographs an epoch is then one round.
        **changes: Further values, by the recipe's keys, which take the place of both.

    Raises:
        UnknownNameError: There is no such recipe, or a key that no recipe has.
        UsageError: A value is not possible.
    """
    chosen = find_named("recipe", recipe, RECIPES) if isinstance(recipe, str) else recipe
    if config is not None:
        chosen = read_config(Path(config), chosen)
    for name in changes:
        find_named("recipe key", name, FIELDS)
    if changes:
        chosen = change_recipe(chosen, changes, "The arguments")
    return chosen if epochs is None else change_recipe(chosen, {"epochs": epochs, "min_steps": 0}, "--epochs")


def change_recipe(base: Recipe, values: dict[str, object], source: str) -> Recipe:
    """Returns a recipe with some values changed.

    Args:
        base: The recipe.
        values: By the names of its fields.
        source: Where they come from, to name in an error.

    Raises:
        UsageError: A value is not possible.
    """
    try:
        given = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        return Recipe(**{**dataclasses.asdict(base), **given})
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # values that are possible, but not together
            raise UsageError(f"{source}: {reason}.") from error
        name = ".".join(str(step) for step in first["loc"])
        raise UsageError(f"{source}: {name}: {reason}. Received: {first['input']!r}.") from error
