"""What the documentation says is so."""

import re
import textwrap
import typing
from pathlib import Path

import pytest

from docs.reference import PAGE, page
from schemas import codec_stage, draw, manifest, number, plan, recipe, sample, source, stages
from schemas.recipe_files import shipped_recipes
from schemas.record import Record

ROOT = Path(__file__).parents[1]


def test_the_reference_page_is_that_of_the_schemas() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_field_says_what_it_means() -> None:
    records = {
        value
        for module in (codec_stage, draw, manifest, number, plan, recipe, sample, source, stages)
        for value in vars(module).values()
        if isinstance(value, type(Record))
    }
    silent = [
        f"{record.__name__}.{name}"
        for record in records
        for name, field in record.model_fields.items()
        if not field.description
    ]
    assert not silent


@pytest.mark.parametrize("text", ["README.md", "docs/data.md", "docs/degradations.md"])
def test_links_lead_somewhere(text: str) -> None:
    file = ROOT / text
    links = re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8"))
    assert all((file.parent / link).exists() for link in links)


def test_names_in_the_map_of_the_tree_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("| folder | what is in it |")[1].split("\n\n")[0]
    for folder, what in re.findall(r"^\| `(\w+)/` \| (.*) \|$", table, re.MULTILINE):
        for name in re.findall(r"`([a-z_]+)/?`", what):
            places = [ROOT / folder / f"{name}.py", ROOT / folder / name]
            assert any(place.exists() for place in places), f"{folder}/{name}"


def test_the_guide_to_degradations_knows_every_recipe_and_stage() -> None:
    guide = (ROOT / "docs/degradations.md").read_text(encoding="utf-8")
    recipes = guide.split("| recipe | for |")[1].split("\n\n")[0]
    for name in shipped_recipes():
        assert f"`{name.removesuffix('-strict')}`" in recipes, name
    rows = guide.split("## Stages")[1].split("\n\n")[1].splitlines()[2:]
    cells = [row.split(" | ") for row in rows]
    described = {cell[0].strip("| `"): re.findall(r"`(\w+)`", cell[2]) for cell in cells}
    (union, *_) = typing.get_args(stages.Stage)
    known = {get_op(stage): stage for stage in typing.get_args(union)}
    assert set(described) == set(known)
    for op, keys in described.items():
        assert set(keys) <= set(known[op].model_fields), op


def get_op(stage: type[Record]) -> str:
    (op,) = typing.get_args(stage.model_fields["op"].annotation)
    return str(op)


def test_the_toml_in_the_guide_to_degradations_is_a_stage() -> None:
    guide = (ROOT / "docs/degradations.md").read_text(encoding="utf-8")
    head = 'name = "t"\nshared = [{ op = "downscale" }]\n[[streams]]\nname = "s"\n'
    for block in re.findall(r"```toml\n(.*?)```", guide, re.DOTALL):
        recipe.parse_recipe(head + block, "toml", "degradations.md")


def test_reasons_in_the_guide_are_those_of_the_code() -> None:
    guide = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    modules = [p for folder in ("pipelines", "transforms") for p in (ROOT / folder).glob("*.py")]
    code = "".join(module.read_text(encoding="utf-8") for module in modules)
    table = guide.split("| status | reasons |")[1].split("\n\n")[0]
    cells = [row.split("|")[2] for row in table.strip().splitlines()]
    reasons = [name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)]
    assert len(reasons) > 15
    for reason in reasons:
        assert f'"{reason}"' in code, reason


def test_the_example_of_the_readme_compiles() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        compile(textwrap.dedent(block), "README.md", "exec")
