"""Runs that are killed, again and again, with all of their processes: nothing is lost, nothing is
doubled, nothing is left."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.clusters import wait_for
from pipelines.layout import Layout
from pipelines.synthesize.__main__ import main as synthesize
from tests.pipelines.killing import Attempt, Torture, digests, log_names
from tests.pipelines.small import changed, command_for, make_corpus

RECIPE = changed(('name = "small"', 'name = "small"\nshard_mib = 0.03'))


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return command_for(tmp_path_factory.mktemp("killed"), RECIPE)


@pytest.fixture(scope="module")
def torture(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Torture:
    output = tmp_path_factory.mktemp("uninterrupted") / "made"
    started = time.monotonic()
    status, told, said = Attempt([*arguments, f"--output={output}"], output).wait()
    assert status == 0, said
    operations = int(told.splitlines()[-1])
    expected = digests(output)
    assert sum(path.endswith(".tar") for path in expected) >= 3
    return Torture(arguments, expected, log_names(output), operations, time.monotonic() - started)


@pytest.mark.slow
def test_killed_runs_leave_nothing_but_what_is_finished(torture: Torture, tmp_path: Path) -> None:
    assert torture.run(tmp_path / "made", 3, random.Random(7)) >= 1


@pytest.fixture(scope="module")
def first(torture: Torture, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted dataset, to which sources can be added."""
    output = tmp_path_factory.mktemp("first") / "made"
    assert synthesize([*arguments, f"--output={output}"]) == 0
    assert digests(output) == torture.expected
    return output


@pytest.fixture(scope="module")
def addition(
    first: Path, arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Torture:
    """Kills runs that add sources."""
    folder = tmp_path_factory.mktemp("added")
    corpus, output = make_corpus(folder / "neu", seed=50), folder / "made"
    shutil.copytree(first, output)
    adds = [*arguments, f"--input={corpus}", "--add-sources"]
    started = time.monotonic()
    status, told, said = Attempt([*adds, f"--output={output}"], output).wait()
    assert status == 0, said
    operations, seconds = int(told.splitlines()[-1]), time.monotonic() - started
    logs, before = log_names(output), digests(first)
    return Torture(adds, digests(output), logs, operations, seconds, before)


@pytest.mark.slow
@pytest.mark.long
def test_killed_additions_leave_nothing_but_what_is_finished(
    addition: Torture, first: Path, tmp_path: Path
) -> None:
    shutil.copytree(first, tmp_path / "made")
    assert addition.run(tmp_path / "made", 4, random.Random(7)) >= 1


@pytest.mark.slow
@pytest.mark.long
def test_after_a_killed_addition_the_first_command_makes_the_first_dataset_or_the_whole(
    addition: Torture, torture: Torture, first: Path, arguments: list[str], tmp_path: Path
) -> None:
    outcomes = set()
    for part in (0.1, 0.5):
        output = tmp_path / f"made-{part}"
        shutil.copytree(first, output)
        addition.kill(output, part)
        status, _, said = Attempt([*arguments, f"--output={output}"], output).wait()
        assert status == 0, said
        whole = digests(output) == addition.expected
        assert whole or digests(output) == torture.expected
        outcomes.add(whole)
    assert outcomes == {False, True}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("adds", [False, True])
def test_a_hundred_killed_runs(
    torture: Torture, addition: Torture, first: Path, tmp_path: Path, adds: bool
) -> None:
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")  # noqa: T201 - shown if the test fails
    random_source = random.Random(seed)
    killed = 0
    while killed < 100:
        output = tmp_path / f"made-{killed}-{time.time_ns()}"
        if adds:
            shutil.copytree(first, output)
        killed += (addition if adds else torture).run(output, 10, random_source)


@pytest.mark.slow
def test_two_runs_do_not_share_an_output(
    torture: Torture, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made"
    first = Attempt([*arguments, f"--output={output}"], output)
    wait_for("the run to begin", Layout(output).run.exists)
    assert synthesize([*arguments, f"--output={output}"]) == 2
    said = capsys.readouterr().err
    assert f"another run writes to {output} (process {first.pid} on " in said
    assert said.count("\n") == 1
    status, _, said = first.wait()
    assert status == 0, said
    assert digests(output) == torture.expected
