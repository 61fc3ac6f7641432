import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.corpus import Entry, SourceRule
from pipelines.errors import UserError
from pipelines.job import Job
from pipelines.run_identity import RunIdentity, claim_output
from schemas.manifest import Environment
from schemas.recipe_files import load_recipe
from schemas.record import SCHEMA_VERSION

CAVSR = load_recipe("cavsr")
ENVIRONMENT = Environment(libraries={"av": "18.1.0"}, encoders={"h264": "x264 - core 165"})


def job(output: Path, **changes: Any) -> Job:
    plain = Job(output=str(output), recipe=CAVSR, seed=3, num_workers=1, environment=ENVIRONMENT)
    return plain.model_copy(update=changes)


def entry(folder: Path, name: str = "夜.png", size: int = 5) -> Entry:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(bytes(size))
    return Entry(uri=f"photos/{name}", paths=(str(folder / name),), is_folder=False)


def begun(output: Path) -> Path:
    """Make it look as if a shard had been made: only then a run keeps others away."""
    (output / "data").mkdir()
    return output


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_folder_is_taken(tmp_path: Path, exists: bool) -> None:
    output = tmp_path / "deep" / "夜 out"
    if exists:
        output.mkdir(parents=True)
    claim_output(job(output), [entry(tmp_path / "in")], [])
    assert list(files_below(output)) == ["logs/run.json"]
    identity = RunIdentity.model_validate_json((output / "logs" / "run.json").read_bytes())
    assert (identity.recipe_name, identity.seed) == ("cavsr", 3)
    assert identity.environment == ENVIRONMENT


def test_the_same_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    output, inputs = tmp_path / "out", [entry(tmp_path / "in")]
    rules = [SourceRule(pattern="*", licence="CC0")]
    claim_output(job(output), inputs, rules)
    before = files_below(output)
    (output / "index").mkdir()
    claim_output(job(output), inputs, rules)
    assert files_below(output) == before


def test_the_number_of_workers_and_the_place_of_the_inputs_do_not_matter(tmp_path: Path) -> None:
    output = tmp_path / "out"
    claim_output(job(output), [entry(tmp_path / "in")], [])
    claim_output(job(output, num_workers=7), [entry(tmp_path / "moved")], [])


CHANGES: dict[str, Callable[[Path], tuple[dict[str, Any], list[Entry], list[SourceRule]]]] = {
    "another recipe": lambda f: ({"recipe": load_recipe("vcisr")}, [entry(f)], []),
    "another seed": lambda f: ({"seed": 4}, [entry(f)], []),
    "other inputs": lambda f: ({}, [entry(f, size=6)], []),
    "another source list": lambda f: ({}, [entry(f)], [SourceRule(pattern="a*", split="train")]),
    "other library or encoder versions": lambda f: (
        {"environment": ENVIRONMENT.model_copy(update={"libraries": {"av": "19.0.0"}})},
        [entry(f)],
        [],
    ),
}


@pytest.mark.parametrize("words", CHANGES)
def test_another_run_is_refused_in_one_sentence_and_nothing_is_touched(
    tmp_path: Path, words: str
) -> None:
    output = tmp_path / "out"
    claim_output(job(output), [entry(tmp_path / "in")], [])
    begun(output)
    before = files_below(output)
    changes, inputs, rules = CHANGES[words](tmp_path / "in")
    with pytest.raises(UserError) as caught:
        claim_output(job(output, **changes), inputs, rules)
    cure = "add them with --add-sources, " if words == "other inputs" else ""
    assert str(caught.value) == (
        f"{output} holds a dataset (recipe cavsr, seed 3) made with {words}: "
        f"{cure}choose another --output, or delete the folder"
    )
    assert files_below(output) == before


def test_a_changed_recipe_of_the_same_name_is_another_recipe(tmp_path: Path) -> None:
    output = tmp_path / "out"
    claim_output(job(output), [], [])
    begun(output)
    with pytest.raises(UserError, match="made with another recipe:"):
        claim_output(job(output, recipe=CAVSR.model_copy(update={"shard_mib": 1.0})), [], [])


def test_all_differences_are_named_at_once(tmp_path: Path) -> None:
    output = tmp_path / "out"
    claim_output(job(output), [entry(tmp_path / "in")], [])
    begun(output)
    with pytest.raises(UserError, match="made with another seed and other inputs:"):
        claim_output(job(output, seed=4), [], [])


def test_one_more_and_one_renamed_input_are_other_inputs(tmp_path: Path) -> None:
    output, first = tmp_path / "out", entry(tmp_path / "in")
    claim_output(job(output), [first], [])
    begun(output)
    for inputs in ([first, entry(tmp_path / "in", "b.png")], [entry(tmp_path / "in", "c.png")]):
        with pytest.raises(UserError, match="made with other inputs:"):
            claim_output(job(output), inputs, [])


def test_a_plan_of_which_nothing_was_made_keeps_nobody_away(tmp_path: Path) -> None:
    output = tmp_path / "out"
    claim_output(job(output), [], [])
    (output / "index").mkdir()
    (output / "index" / "plan.parquet").write_text("of the other seed")
    claim_output(job(output, seed=4), [], [])
    assert list(files_below(output)) == ["logs/run.json"]
    identity = RunIdentity.model_validate_json((output / "logs" / "run.json").read_bytes())
    assert identity.seed == 4


def test_other_code_is_another_run(tmp_path: Path) -> None:
    claim_output(job(tmp_path), [], [])
    begun(tmp_path)
    other = job(tmp_path).model_copy(update={"code_sha256": "of another version"})
    with pytest.raises(UserError, match="another version of this package's code"):
        claim_output(other, [], [])


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError) as caught:
        claim_output(job(tmp_path), [], [])
    assert str(caught.value) == (
        f"{tmp_path} is not empty and holds no run of this command: "
        "choose another --output, or empty the folder"
    )
    assert files_below(tmp_path) == {"thesis.tex": b"precious"}


def test_a_record_of_another_release_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    claim_output(job(tmp_path), [], [])
    begun(tmp_path)
    file = tmp_path / "logs" / "run.json"
    text = file.read_text()
    told = '"schema_version": "{}"'
    file.write_text(text.replace(told.format(SCHEMA_VERSION), told.format("99.0")))
    assert file.read_text() != text
    with pytest.raises(UserError, match=r"schema version '99\.0', this code reads"):
        claim_output(job(tmp_path), [], [])
    file.write_text(text[:-5])
    with pytest.raises(UserError, match="another release wrote it; choose another --output"):
        claim_output(job(tmp_path), [], [])


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    for output in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(UserError, match=f"cannot write to {output}: .*; choose another"):
            claim_output(job(output), [], [])


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}: Permission denied"):
        claim_output(job(tmp_path), [], [])
    tmp_path.chmod(0o700)
