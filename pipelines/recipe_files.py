"""Recipes by name or by file."""

import difflib
from importlib import resources
from pathlib import Path
from typing import Literal

from pipelines.errors import UserError
from schemas.recipe import Recipe, RecipeError, parse_recipe

_SYNTAX: dict[str, Literal["toml", "yaml"]] = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("pipelines") / "recipes"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe, or a TOML or YAML file.

    Raises:
        UserError: if there is none, or it is not a recipe.
    """
    try:
        if name_or_path in shipped_recipes():
            file = resources.files("pipelines") / "recipes" / f"{name_or_path}.toml"
            return parse_recipe(file.read_text(encoding="utf-8"), "toml", f"{name_or_path}.toml")
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(_not_found(name_or_path))
        if path.suffix not in _SYNTAX:
            raise UserError(f"recipe {name_or_path!r}: name it .toml or .yaml, as it is written")
        return parse_recipe(path.read_text(encoding="utf-8"), _SYNTAX[path.suffix], str(path))
    except (RecipeError, UnicodeDecodeError) as error:
        raise UserError(str(error)) from error


def _not_found(name: str) -> str:
    similar = difflib.get_close_matches(name, shipped_recipes(), n=1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    shipped = ", ".join(shipped_recipes())
    return f"there is no recipe and no file {name!r}{hint} (shipped: {shipped})"
