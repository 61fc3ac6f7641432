"""`--add-sources`: what is new becomes shards of its own, and what is there stays as it is."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from pipelines import generations
from pipelines.diff.__main__ import main as diff
from pipelines.export.__main__ import main as export
from pipelines.layout import Layout
from pipelines.materialize.__main__ import main as materialize
from pipelines.publish import main as publish
from pipelines.resynth import main as resynth
from pipelines.status import read_status
from pipelines.synthesize.__main__ import main
from pipelines.verify.__main__ import main as verify
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.record import Status
from schemas.sample import SampleRow
from schemas.source import Source
from schemas.tables import read_table
from tests.pictures import moving_clip, texture
from tests.pipelines.accidents import probe_unless_deadly
from tests.pipelines.killing import digests, finished_files, log_names, remains
from tests.pipelines.small import changed, make_corpus, rows
from tests.pipelines.test_output import cut
from tests.synthetic import write_video

RECIPE = changed(('name = "small"', 'name = "small"\nshard_mib = 0.03'))
ADD = "--add-sources"


class Place:
    """A folder with inputs `old` and `new`, and a recipe."""

    def __init__(self, folder: Path) -> None:
        self.old = make_corpus(folder / "old", seed=0)
        self.new = make_corpus(folder / "new", seed=50)
        shutil.copy(self.old / "photo-a.png", self.new / "known.png")
        (self.new / "notes.txt").write_text("not a picture")
        self.recipe = folder / "small.toml"
        self.recipe.write_text(RECIPE)

    def run(self, output: Path, inputs: Sequence[Path], *others: str) -> int:
        """The command; its exit status."""
        given = [f"--input={path}" for path in inputs]
        options = ["--runner=DirectRunner", f"--recipe={self.recipe}", f"--output={output}"]
        return main([*options, *given, "--workers=1", *others])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place ü")
    here = Place(folder)
    assert here.run(folder / "first", [here.old]) == 0
    shutil.copytree(folder / "first", folder / "both")
    assert here.run(folder / "both", [here.new], ADD) == 0
    return folder


@pytest.fixture(scope="module")
def here(place: Path) -> Place:
    there = Place.__new__(Place)
    there.old, there.new, there.recipe = place / "old", place / "new", place / "small.toml"
    return there


@pytest.fixture
def first(place: Path, tmp_path: Path) -> Path:
    """A copy of the dataset of the old sources."""
    shutil.copytree(place / "first", tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def both(place: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to which the new ones were added."""
    shutil.copytree(place / "both", tmp_path / "set")
    return tmp_path / "set"


def plan_of(dataset: Path) -> list[PlannedSample]:
    return read_table(str(Layout(dataset).plan), PlannedSample)


def sources_of(dataset: Path) -> list[Source]:
    return read_table(str(Layout(dataset).sources), Source)


def test_what_is_there_stays_and_what_is_new_follows(place: Path, here: Place, first: Path) -> None:
    before, files = digests(first), finished_files(first)
    plan, sources = plan_of(first), sources_of(first)
    assert here.run(first, [here.new], ADD) == 0
    assert digests(first) == digests(place / "both")
    assert files <= finished_files(first)  # the same inodes, of the same time
    of_shards = {path for path in before if path.startswith("data/") or path.count("/") == 2}
    assert of_shards and {path: digests(first)[path] for path in of_shards} == {
        path: before[path] for path in of_shards
    }
    assert plan_of(first)[: len(plan)] == plan
    assert sources_of(first)[: len(sources)] == sources
    assert {row.generation for row in plan} == {0}
    assert {row.generation for row in plan_of(first)[len(plan) :]} == {1}
    added = {row.uris[0]: row.reason for row in sources_of(first) if row.generation}
    assert added == {  # without known.png
        **dict.fromkeys(["new/kurz ü.mp4", "new/long.mp4"], ""),
        **dict.fromkeys(["new/photo-a.png", "new/photo-b.png"], ""),
        "new/notes.txt": "not_media",
    }


def test_shards_are_numbered_on_and_their_generation_is_told(place: Path) -> None:
    shards = read_manifest(place / "both").shards
    num_first = len(read_manifest(place / "first").shards)
    assert [shard.shard for shard in shards] == [f"train-{k:06d}" for k in range(len(shards))]
    assert [shard.generation for shard in shards] == [0] * num_first + [1] * (
        len(shards) - num_first
    )
    card = (place / "both" / "README.md").read_text()
    assert "| generation | samples | shards |" in card
    assert "generations" not in (place / "first" / "README.md").read_text()


@pytest.mark.parametrize("others", [[], ["--direct_runner_bundle_repeat=1"], ["--workers=2"]])
def test_all_inputs_may_be_given_and_the_runner_does_not_matter(
    place: Path, here: Place, first: Path, others: list[str]
) -> None:
    assert here.run(first, [here.old, here.new], ADD, *others) == 0
    assert digests(first) == digests(place / "both")


def test_inputs_of_any_generation_go_on_with_all(
    place: Path, here: Place, both: Path, tmp_path: Path
) -> None:
    layout = Layout(both)
    shards = [shard.shard for shard in read_manifest(both).shards]
    for inputs, others in (([here.old], []), ([here.new], []), ([here.new], [ADD])):
        for shard in (shards[0], shards[-1]):
            layout.marker(shard).unlink()
        assert here.run(both, inputs, *others) == 0
        assert digests(both) == digests(place / "both")


def test_old_sources_are_found_where_they_were_or_where_they_are_now(
    place: Path, here: Place, tmp_path: Path
) -> None:
    moved = Place(tmp_path)
    output = tmp_path / "set"
    assert moved.run(output, [moved.old]) == 0
    # Other content of the same names and sizes is added.
    namesakes = tmp_path / "elsewhere" / "old"
    namesakes.mkdir(parents=True)
    for number, name in enumerate(("photo-a", "photo-b")):
        Image.fromarray(texture(140, 72, 90 + number)).save(namesakes / f"{name}.png")
        sizes = [(folder / f"{name}.png").stat().st_size for folder in (moved.old, namesakes)]
        with (namesakes / f"{name}.png").open("ab") as file:
            file.write(bytes(max(0, sizes[0] - sizes[1])))
    assert moved.run(output, [namesakes], ADD) == 0
    whole = digests(output)
    assert read_manifest(output).failures == {}
    for marker in Layout(output).marker("any").parent.glob("*.json"):
        marker.unlink()
    assert moved.run(output, [namesakes]) == 0
    assert digests(output) == whole
    moved.old.rename(tmp_path / "away")
    (tmp_path / "later").mkdir()
    (tmp_path / "away").rename(tmp_path / "later" / "old")
    for marker in Layout(output).marker("any").parent.glob("*.json"):
        marker.unlink()
    assert moved.run(output, [tmp_path / "later" / "old"]) == 0
    assert digests(output) == whole


def test_other_inputs_without_the_option_are_refused_with_the_cure(
    here: Place, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(first)
    assert here.run(first, [here.new]) == 2
    assert "made with other inputs: add them with --add-sources, choose" in capsys.readouterr().err
    for others in (["--seed=1"], ["--seed=1", ADD], ["--separate-licences", ADD]):
        assert here.run(first, [here.new], *others) == 2
        said = capsys.readouterr().err
        assert "choose another --output" in said and ADD not in said
    assert digests(first) == before


def test_what_adds_nothing_is_refused_and_changes_nothing(
    here: Place, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, logs = digests(first), log_names(first)
    assert here.run(first, [here.old, here.old / "long.mp4", here.old / "photo-a.png"], ADD) == 0
    (tmp_path / "useless").mkdir()
    shutil.copy(here.old / "long.mp4", tmp_path / "useless" / "copy.mp4")
    assert here.run(first, [tmp_path / "useless"], ADD) == 2
    assert "nothing to add: the dataset holds every source" in capsys.readouterr().err
    (tmp_path / "useless" / "empty.png").touch()
    (tmp_path / "useless" / "notes.txt").write_text("no")
    assert here.run(first, [tmp_path / "useless"], ADD) == 2
    said = capsys.readouterr().err
    assert "of 2 new sources, none can be used (" in said and "1 empty_file" in said
    assert digests(first) == before
    assert here.run(first, [here.old]) == 0
    assert (digests(first), log_names(first)) == (before, logs)


@pytest.mark.parametrize("is_planned", [True, False])
def test_there_must_be_something_to_add_to(
    here: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_planned: bool
) -> None:
    output = tmp_path / "set"
    if is_planned:
        assert here.run(output, [here.old], "--plan-only") == 0
        Layout(output).plan.unlink()
    assert here.run(output, [here.new], ADD) == 2
    assert "leave out --add-sources" in capsys.readouterr().err
    assert not Layout(output).plan.exists()


def test_a_plan_of_an_addition_commits_nothing(
    place: Path, here: Place, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, logs = digests(first), log_names(first)
    assert here.run(first, [here.new], ADD, "--plan-only") == 0
    said = capsys.readouterr().out
    assert "Plan: 8 samples" in said and "added     4 samples in 4 shards, generation 1" in said
    assert digests(first) == before
    assert here.run(first, [here.old]) == 0
    assert (digests(first), log_names(first)) == (before, logs)
    assert here.run(first, [here.new], ADD) == 0
    assert digests(first) == digests(place / "both")


def test_an_addition_to_a_plan_of_which_nothing_was_made(
    place: Path, here: Place, tmp_path: Path
) -> None:
    output = tmp_path / "set"
    assert here.run(output, [here.old], "--plan-only") == 0
    assert here.run(output, [here.new], ADD) == 0
    assert digests(output) == digests(place / "both")


def test_another_addition_forgets_one_that_was_only_asked_about(
    place: Path, here: Place, first: Path, tmp_path: Path
) -> None:
    (tmp_path / "third").mkdir()
    write_video(tmp_path / "third" / "a.mp4", moving_clip(6, 72, 80, seed=77))
    assert here.run(first, [tmp_path / "third"], ADD, "--plan-only") == 0
    assert here.run(first, [here.new], ADD) == 0
    assert digests(first) == digests(place / "both")
    assert here.run(first, [tmp_path / "third"], ADD) == 0
    assert [row.generation for row in plan_of(first)] == [0] * 4 + [1] * 4 + [2]
    assert here.run(first, [here.old]) == 0
    assert here.run(first, [here.new]) == 0


def test_inputs_that_move_while_they_are_added_are_probed_again(
    place: Path, here: Place, first: Path, tmp_path: Path
) -> None:
    assert here.run(first, [here.old, here.new], ADD, "--plan-only") == 0
    for folder in (here.old, here.new):
        shutil.copytree(folder, tmp_path / "moved" / folder.name)
    moved = [tmp_path / "moved" / "old", tmp_path / "moved" / "new"]
    assert here.run(first, moved, ADD) == 0
    assert digests(first) == digests(place / "both")


def test_a_source_that_could_not_be_read_is_tried_again(
    here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.probing._probe_entry", probe_unless_deadly)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("deadly.mp4", "fine.mp4")):
        write_video(tmp_path / "in" / name, moving_clip(6, 72, 80, seed=number + 5))
    (tmp_path / "in" / "empty.png").touch()
    output = tmp_path / "set"
    assert here.run(output, [tmp_path / "in"]) == 0
    reasons = {row.uris[0]: (row.reason, row.generation) for row in sources_of(output)}
    assert reasons["in/deadly.mp4"] == ("worker_died", 0)
    write_video(tmp_path / "in" / "more.mp4", moving_clip(6, 72, 80, seed=9))
    monkeypatch.undo()
    assert here.run(output, [tmp_path / "in"], ADD) == 0
    reasons = {row.uris[0]: (row.reason, row.generation) for row in sources_of(output)}
    assert reasons == {
        "in/deadly.mp4": ("", 1),
        "in/empty.png": ("empty_file", 0),
        "in/fine.mp4": ("", 0),
        "in/more.mp4": ("", 1),
    }
    assert len(rows_of(output)) == 3


def rows_of(dataset: Path) -> list[SampleRow]:
    return [row for row in rows(dataset, "samples", SampleRow) if row.status is Status.OK]


# What a killed run may leave


def interrupted(step: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Interrupt where something is about to be published."""

    def failing(function: Callable[..., None]) -> Callable[..., None]:
        def fail(file: Path, target: Path, *others: object) -> None:
            if target.name == step.rpartition("/")[2] and target.parent.name == step.split("/")[0]:
                raise KeyboardInterrupt
            function(file, target, *others)

        return fail

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("publish", "move"):
            monkeypatch.setattr(generations, name, failing(getattr(generations, name)))

    return patch


@pytest.mark.parametrize("step", ["logs/sources.parquet", "index/plan.parquet"])
def test_an_addition_that_was_not_committed_is_none(
    place: Path, here: Place, first: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted(step)(patched)
        assert here.run(first, [here.new], ADD) == 130
    again = first.with_name("again")
    shutil.copytree(first, again)
    assert here.run(first, [here.old]) == 0
    assert digests(first) == digests(place / "first")
    assert log_names(first) == log_names(place / "first")
    assert not remains(first)
    assert here.run(again, [here.new], ADD) == 0
    assert digests(again) == digests(place / "both")
    assert log_names(again) == log_names(place / "both")
    assert here.run(first, [here.new], ADD) == 0
    assert digests(first) == digests(place / "both")


@pytest.mark.parametrize("inputs", ["old", "new"])
def test_an_addition_that_was_committed_is_whole_whatever_goes_on(
    place: Path, here: Place, first: Path, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted("index/sources.parquet")(patched)
        assert here.run(first, [here.new], ADD) == 130
    assert not Layout(first).manifest.exists()
    assert here.run(first, [{"old": here.old, "new": here.new}[inputs]]) == 0
    assert digests(first) == digests(place / "both")
    assert not remains(first)


def test_a_first_plan_that_was_committed_is_whole_whatever_goes_on(
    place: Path, here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "set"
    with monkeypatch.context() as patched:
        interrupted("index/sources.parquet")(patched)
        assert here.run(output, [here.old]) == 130
    told = read_status(output)
    assert (told.shards_done, told.sources) == (0, len(sources_of(place / "first")))
    assert here.run(output, [here.old]) == 0
    assert digests(output) == digests(place / "first")


def test_a_table_that_waits_and_was_damaged_is_told_and_cured(
    place: Path,
    here: Place,
    first: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layout = Layout(first)
    with monkeypatch.context() as patched:
        interrupted("index/sources.parquet")(patched)
        assert here.run(first, [here.new], ADD) == 130
    cut(layout.next_sources)
    assert here.run(first, [here.new]) == 2
    assert f"{layout.next_sources} is damaged" in capsys.readouterr().err
    layout.plan.unlink()
    assert here.run(first, [here.old]) == 0
    assert here.run(first, [here.new], ADD) == 0
    assert digests(first) == digests(place / "both")


@pytest.mark.parametrize("table", ["plan", "sources"])
def test_a_plan_that_was_damaged_is_made_again_generation_by_generation(
    place: Path, here: Place, both: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    cut(Layout(both).root / "index" / f"{table}.parquet")
    assert here.run(both, [here.old]) == 2
    assert f"delete {Layout(both).plan}, and the same command plans" in capsys.readouterr().err
    Layout(both).plan.unlink()
    assert here.run(both, [here.old]) == 0
    assert here.run(both, [here.new], ADD) == 0
    assert digests(both) == digests(place / "both")


# The other commands


@pytest.mark.parametrize("grade", ["structural", "semantic", "pixel"])
def test_both_generations_are_verified(both: Path, grade: str) -> None:
    assert verify([str(both), f"--grade={grade}", "--workers=1"]) == 0


def test_a_generation_that_is_not_the_plans_is_found(
    both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, manifest = Layout(both), read_manifest(both)
    *others, last = manifest.shards
    moved = last.model_copy(update={"generation": 0})
    layout.marker(last.shard).write_text(moved.model_dump_json())
    layout.manifest.write_bytes(manifest.model_copy(update={"shards": [*others, moved]}).data)
    assert verify([str(both), "--grade=structural", "--workers=1"]) == 1
    assert "not all samples are planned for generation 0" in capsys.readouterr().out


def test_both_generations_are_published_and_made_again(
    place: Path, here: Place, tmp_path: Path
) -> None:
    published, output = tmp_path / "published", tmp_path / "made"
    assert publish([str(place / "both"), f"--output={published}", "--workers=1"]) == 0
    given = [f"--input={here.old}", f"--input={here.new}"]
    options = ["--runner=DirectRunner", f"--output={output}", "--workers=1"]
    assert materialize([str(published), *given, *options]) == 0
    assert digests(output) == digests(place / "both")
    (tmp_path / "third").mkdir()
    write_video(tmp_path / "third" / "a.mp4", moving_clip(6, 72, 80, seed=77))
    assert here.run(output, [tmp_path / "third"], ADD) == 0
    assert [row.generation for row in plan_of(output)] == [0] * 4 + [1] * 4 + [2]
    assert here.run(output, [tmp_path / "third"]) == 0


def test_samples_of_both_generations_are_made_again(both: Path) -> None:
    keys = [plan_of(both)[0].key, plan_of(both)[-1].key]
    assert resynth([str(both), *keys, "--verify", "--workers=1"]) == 0


def test_the_first_generation_is_equal_in_both(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diff([str(place / "first"), str(place / "both")]) == 1
    said = capsys.readouterr().out
    assert "new/long.mp4 is not among the other's sources" in said
    assert "old/" not in said


def test_both_generations_are_exported(both: Path, tmp_path: Path) -> None:
    assert export([str(both), f"--output={tmp_path / 'png'}", "--workers=1"]) == 0
    uris = {path.name for path in (tmp_path / "png").rglob("*.png")}
    assert uris
