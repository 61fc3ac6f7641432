"""What the documentation says is so."""

import re
import textwrap
from pathlib import Path

import pytest

from docs.reference import PAGE, page
from schemas import draw, manifest, plan, recipe, sample, source
from schemas.record import Record

ROOT = Path(__file__).parents[1]


def test_the_reference_page_is_that_of_the_schemas() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_field_says_what_it_means() -> None:
    records = {
        value
        for module in (draw, manifest, plan, recipe, sample, source)
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


@pytest.mark.parametrize("text", ["README.md", "docs/data.md"])
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


def test_reasons_in_the_guide_are_those_of_the_code() -> None:
    guide = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "pipelines").glob("*.py"))
    bullet = guide.split("- Left out with a reason:")[1].split("\n- ")[0]
    for reason in re.findall(r"`([a-z_]+)`", bullet):
        assert f'"{reason}"' in code, reason


def test_the_example_of_the_readme_compiles() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        compile(textwrap.dedent(block), "README.md", "exec")
