from importlib import resources
from pathlib import Path

import pytest

from schemas.recipe import RecipeError, parse_recipe
from schemas.recipe_files import load_recipe, shipped_recipes

TOML = """
name = "mine"
source = "Größe 夜"
shared = [{ op = "downscale" }]
streams = [{ name = "clean" }]
"""
YAML = """
name: mine
source: Größe 夜
shared: [{op: downscale}]
streams: [{name: clean}]
"""


def write(file: Path, text: str) -> str:
    file.write_bytes(text.encode())
    return str(file)


def refusal(name_or_path: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name_or_path)
    return str(caught.value)


def test_shipped_recipes_are_found_by_name() -> None:
    names = shipped_recipes()
    assert {"apisr", "bsrgan", "cavsr", "realbasicvsr", "realesrgan", "streaming"} < set(names)
    assert names == sorted(names)
    assert [load_recipe(name).name for name in names] == names


def test_a_strict_recipe_stands_beside_the_one_that_corrects_it() -> None:
    strict = {name.removesuffix("-strict") for name in shipped_recipes() if "-strict" in name}
    assert strict == {"apisr", "realbasicvsr", "realesrgan", "vcisr"}
    assert strict < set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_says_where_it_comes_from(name: str) -> None:
    assert load_recipe(name).source
    file = resources.files("schemas") / "recipes" / f"{name}.toml"
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# ") and text.isascii()


def test_a_recipe_may_be_written_in_toml_or_yaml(tmp_path: Path) -> None:
    files = [("夜.toml", TOML), ("a b.yaml", YAML), ("c.yml", YAML)]
    recipes = [load_recipe(write(tmp_path / name, text)) for name, text in files]
    assert recipes[0].source == "Größe 夜"
    assert recipes[0] == recipes[1] == recipes[2]


def test_a_shipped_recipe_is_not_shadowed_by_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cavsr").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("cavsr").name == "cavsr"


def test_a_mistyped_name_is_refused_with_what_was_meant() -> None:
    message = refusal("cavrs")
    assert "no recipe and no file 'cavrs'" in message and "did you mean 'cavsr'?" in message
    assert "(shipped: apisr, " in message


def test_what_is_nowhere_is_refused_with_what_there_is(tmp_path: Path) -> None:
    for missing in (str(tmp_path / "nowhere.toml"), "", str(tmp_path)):
        message = refusal(missing)
        assert f"no recipe and no file {missing!r}" in message
        assert f"(shipped: {', '.join(shipped_recipes())})" in message
        assert "did you mean" not in message


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name in ("recipe.json", "recipe", "recipe.TOML.bak"):
        file = write(tmp_path / name, TOML)
        expected = f"recipe {file!r}: name it .toml or .yaml, as it is written"
        assert refusal(file) == expected


def test_a_mistake_inside_is_told_with_the_file_and_the_key(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", f"scael = 2\n{TOML}")
    assert refusal(file) == (
        f"{file} is not a recipe:\n  scael: unknown key, did you mean 'scale'?"
    )


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    assert "is not TOML" in refusal(write(tmp_path / "a.toml", YAML))
    assert "is not YAML" in refusal(write(tmp_path / "b.yaml", "a: [1"))


def test_bytes_that_are_no_text_are_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "latin1.toml"
    file.write_bytes('source = "Größe"'.encode("latin-1"))
    assert refusal(str(file)).startswith(f"{file} is no text in UTF-8")


def test_a_recipe_that_would_grow_without_end_is_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for name, below in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]")
    with pytest.raises(RecipeError, match="aliases are not taken: write it out"):
        parse_recipe("\n".join(lines), "yaml", "bomb.yaml")
    with pytest.raises(RecipeError, match="it has more than 1048576 characters"):
        parse_recipe("name=" + " " * 2_000_000, "toml", "long.toml")
    with pytest.raises(RecipeError, match="is not"):
        parse_recipe("a = " + "[" * 100_000, "toml", "deep.toml")
    with pytest.raises(RecipeError, match="is not"):
        parse_recipe("a: " + "[" * 100_000, "yaml", "deep.yaml")


@pytest.mark.parametrize(
    "value",
    ["1" * 5000, "2001-99-99", '"\\UFFFFFFFF"', "!!bool x", "!!int x"],
    ids=["long number", "no date", "no character", "no truth", "no number"],
)
def test_values_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(RecipeError, match="is not YAML"):
        parse_recipe(f"seed: {value}", "yaml", "odd.yaml")


def test_a_number_without_end_is_refused() -> None:
    with pytest.raises(RecipeError, match="is not TOML"):
        parse_recipe("seed = " + "1" * 5000, "toml", "odd.toml")


def test_of_an_endless_file_only_the_beginning_is_read(tmp_path: Path) -> None:
    file = tmp_path / "endless.toml"
    with file.open("wb") as opened:
        opened.truncate(2**40)
    assert "it has more than 1048576 characters" in refusal(str(file))
