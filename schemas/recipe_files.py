"""Recipes by name or by file; those that come with the package are in `recipes/`."""

from importlib import resources
from pathlib import Path
from typing import Literal

from schemas.recipe import MAX_CHARACTERS, Recipe, RecipeError, parse_recipe
from schemas.wording import did_you_mean

_SYNTAX: dict[str, Literal["toml", "yaml"]] = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("schemas") / "recipes"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a shipped recipe, or a TOML or YAML file.

    Raises:
        RecipeError: if there is none, or it is not a recipe.
    """
    name = str(name_or_path)
    if name in shipped_recipes():
        file = resources.files("schemas") / "recipes" / f"{name}.toml"
        return parse_recipe(file.read_text(encoding="utf-8"), "toml", f"{name}.toml")
    path = Path(name)
    if not path.is_file():
        hint = did_you_mean(name, shipped_recipes())
        shipped = ", ".join(shipped_recipes())
        raise RecipeError(f"there is no recipe and no file {name!r}{hint} (shipped: {shipped})")
    if path.suffix not in _SYNTAX:
        raise RecipeError(f"recipe {name!r}: name it .toml or .yaml, as it is written")
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_CHARACTERS + 1)  # of more, no more is read
    except UnicodeDecodeError as error:
        raise RecipeError(f"{name} is no text in UTF-8: {error}") from error
    return parse_recipe(text, _SYNTAX[path.suffix], name)
