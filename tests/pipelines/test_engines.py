"""One graph, on every engine that runs here: the same bytes, whatever happens on the way."""

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer

from benchmarks.clusters import (
    DEADLINE_SECONDS,
    dask_engine,
    portable_engine,
    worker_processes,
)
from pipelines.engines import choose_engine
from pipelines.job import Job
from pipelines.layout import Layout
from pipelines.steps import ProbeSources, WriteManifest, WriteShards
from pipelines.watchdog import EXIT_WORKERS_LOST
from schemas.manifest import Environment, read_manifest
from schemas.recipe_files import load_recipe
from tests.pipelines.clusters import await_work, kill_a_worker, run, start
from tests.pipelines.small import changed, make_corpus, synthesize

EngineStarter = Callable[[Path], AbstractContextManager[list[str]]]
NUM_SHARDS = 8
RECIPE = changed(("validation_fraction = 0", "validation_fraction = 0\nshard_mib = 0.05")).replace(
    "variants = 1", "variants = 4"
)
needs_dask = pytest.mark.skipif(
    not importlib.util.find_spec("distributed"), reason="needs the extra dask"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "in")


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    dataset = synthesize(corpus, tmp_path_factory.mktemp("expected") / "made", RECIPE)
    assert len(read_manifest(dataset).shards) == NUM_SHARDS
    return digests(dataset)


@pytest.fixture
def command(corpus: Path, tmp_path: Path) -> list[str]:
    """The options of a run, but for its engine."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    output = f"--output={tmp_path / 'made'}"
    return [f"--input={corpus}", f"--recipe={recipe}", output, "--workers=1"]


def digests(dataset: Path) -> dict[str, str]:
    """Hashes of all files but the logs."""
    return {
        file.relative_to(dataset).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in dataset.rglob("*")
        if file.is_file() and not file.is_relative_to(Layout(dataset).logs)
    }


# The graph


def graph(job: Job, part: str) -> beam.Pipeline:
    root = beam.Pipeline(options=choose_engine([]))
    if part == "probing":
        _ = root | ProbeSources(job, 3)
    else:
        _ = root | WriteShards(job, 5) | WriteManifest(job)
    return root


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        output=str(tmp_path / "made"),
        recipe=load_recipe("cavsr"),
        seed=0,
        num_workers=1,
        environment=Environment(libraries={}, encoders={}),
    )


class _Primitives(PipelineVisitor):
    """Everything that an engine executes."""

    def __init__(self) -> None:
        self.found: list[AppliedPTransform] = []

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self.found.append(transform_node)


@pytest.mark.parametrize("part", ["probing", "making"])
def test_the_graph_is_a_line_with_one_leaf(job: Job, part: str) -> None:
    visitor = _Primitives()
    graph(job, part).visit(visitor)
    assert len(visitor.found) > 5
    consumers: Counter[Any] = Counter()
    for transform in visitor.found:
        assert len(transform.inputs) == 1, transform.full_label
        assert list(transform.outputs) == [None], transform.full_label  # no tags
        assert not transform.side_inputs, transform.full_label
        consumers.update(transform.inputs)
    assert set(consumers.values()) == {1}
    made = [output for transform in visitor.found for output in transform.outputs.values()]
    assert [output for output in made if output not in consumers] == made[-1:]


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Bytes that go through each shuffle, as they are coded for it; by the shuffle's identity."""
    sizes: dict[int, int] = {}
    append = GroupingBuffer.append

    def measured(buffer: GroupingBuffer, coded: bytes) -> None:
        sizes[id(buffer)] = sizes.get(id(buffer), 0) + len(coded)
        kept.append(buffer)
        append(buffer, coded)

    kept: list[GroupingBuffer] = []  # so that no identity is used twice
    monkeypatch.setattr(GroupingBuffer, "append", measured)
    return sizes


def test_pixels_do_not_travel_through_shuffles(
    corpus: Path, tmp_path: Path, shuffled: dict[int, int]
) -> None:
    dataset = synthesize(corpus, tmp_path / "made", RECIPE)
    manifest = read_manifest(dataset)
    num_samples = sum(manifest.splits.values())
    batches, numbers, records = shuffled.values()
    assert 0 < batches < 64  # there is one
    assert 0 < numbers < 64 * NUM_SHARDS
    assert 0 < records < 2048 * NUM_SHARDS
    stored = sum(shard.files[0].size for shard in manifest.shards)
    assert num_samples >= 16 and sum(shuffled.values()) < 0.05 * stored


# Engines


@pytest.mark.parametrize(
    "engine",
    [
        ["--direct_running_mode=multi_threading", "--direct_num_workers=3"],
        ["--direct_runner_bundle_repeat=1"],
    ],
    ids=["multi_threading", "replay"],
)
def test_threads_and_replays_give_the_same_bytes(
    corpus: Path, expected: dict[str, str], tmp_path: Path, engine: list[str]
) -> None:
    assert digests(synthesize(corpus, tmp_path / "made", RECIPE, *engine)) == expected


def test_shards_written_again_over_finished_ones_have_the_same_bytes(
    corpus: Path, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.shards._finished_shard", lambda *_: None)
    replay = "--direct_runner_bundle_repeat=1"
    dataset = synthesize(corpus, tmp_path / "made", RECIPE, replay)
    assert digests(dataset) == expected
    logs = [file.read_text() for file in Layout(dataset).shard_log("any").parent.iterdir()]
    assert len(logs) == NUM_SHARDS and all('"attempts": 2' in log for log in logs)


@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@pytest.mark.parametrize("engine", [worker_processes, portable_engine])
def test_processes_and_a_job_server_with_a_worker_pool_give_the_same_bytes(
    command: list[str], expected: dict[str, str], tmp_path: Path, engine: EngineStarter
) -> None:
    with engine(tmp_path) as options:
        status, said = run([*command, *options])
    assert status == 0, said
    assert digests(tmp_path / "made") == expected


@pytest.mark.slow
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@needs_dask
def test_dask_gives_the_same_bytes_though_a_worker_is_killed(
    command: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    with dask_engine(tmp_path) as engine, start([*command, *engine]) as process:
        kill_a_worker(tmp_path / "made", num_workers=2)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, said
    assert digests(tmp_path / "made") == expected


@pytest.mark.slow
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@pytest.mark.parametrize(
    ("runner", "variable"),
    [
        (
            [
                *("--runner=FlinkRunner", "--flink_master=[local]", "--parallelism=2"),
                "--flink_job_server_jar",
            ],
            "VCSR_FLINK_JOB_SERVER_JAR",
        ),
        (["--runner=SparkRunner", "--spark_job_server_jar"], "VCSR_SPARK_JOB_SERVER_JAR"),
    ],
    ids=["flink", "spark"],
)
def test_flink_and_spark_give_the_same_bytes(
    command: list[str],
    expected: dict[str, str],
    tmp_path: Path,
    runner: list[str],
    variable: str,
) -> None:
    if not (jar := os.environ.get(variable)):
        pytest.skip(f"{variable} does not name the jar of Beam's job server")
    *options, jar_option = runner
    options += [f"{jar_option}={jar}", "--environment_type=LOOPBACK"]
    status, said = run([*command, *options])
    assert status == 0, said
    assert digests(tmp_path / "made") == expected


# Workers that cannot work, or do not live


@pytest.mark.slow
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@needs_dask
@pytest.mark.long
def test_a_run_goes_on_while_workers_of_a_killed_command_still_write(
    command: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    with dask_engine(tmp_path) as engine:
        with start([*command, *engine]) as process:
            await_work(tmp_path / "made")
            process.kill()
        status, said = run(command)
        assert status == 0, said
        assert "Traceback" not in said
    assert digests(tmp_path / "made") == expected


@pytest.mark.slow
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@needs_dask
@pytest.mark.long
def test_daemonic_workers_of_dask_are_refused_with_the_cure(
    command: list[str], tmp_path: Path
) -> None:
    with dask_engine(tmp_path, num_workers=1, daemon=True) as engine:
        status, said = run([*command, *engine])
    assert status == 2
    assert "DASK_DISTRIBUTED__WORKER__DAEMON=False" in said.splitlines()[-1]


@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@pytest.mark.parametrize("engine", [worker_processes, portable_engine])
def test_a_killed_worker_never_hangs_a_run_and_the_next_gives_the_same_bytes(
    command: list[str],
    expected: dict[str, str],
    tmp_path: Path,
    engine: EngineStarter,
) -> None:
    with engine(tmp_path) as options:
        with start([*command, *options, "--worker_timeout=4"]) as process:
            work = kill_a_worker(tmp_path / "made")
            _, said = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == EXIT_WORKERS_LOST, said
        assert f"shows no sign of life, though it was at work on {work}" in said
        status, said = run([*command, *options])
    assert status == 0, said
    assert digests(tmp_path / "made") == expected
