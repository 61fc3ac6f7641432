"""Shards a second on each engine, and what Beam costs: `python -m benchmarks.engines`.

One plan is made once; every engine then makes its shards into a fresh folder, with one and with two
workers. The engine to compare with is a plain process pool: the same function for each shard, in a
loop without Beam. All must make the same manifest.
"""

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from benchmarks.clusters import dask_engine, portable_engine
from benchmarks.running import run_quietly
from pipelines.demo import demo_inputs
from pipelines.engines import choose_engine
from pipelines.finish import finish_dataset
from pipelines.job import Job, describe_environment
from pipelines.layout import Layout
from pipelines.pool import Done, shared_pool
from pipelines.shards import write_shard
from pipelines.steps import make_shards
from pipelines.synthesize.__main__ import main as synthesize
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe
from schemas.tables import read_table

_WORKERS = (1, 2)
_PLAIN, _DIRECT = "process pool", "in memory"


class _Setting(NamedTuple):
    """An engine with so many workers."""

    options: list[str] | None
    """Beam's; None for the plain process pool"""
    pool_workers: int
    """processes that each worker of the engine starts to open media in"""


_Start = Callable[[Path, int], AbstractContextManager[_Setting]]


class _Run(NamedTuple):
    """One timed run."""

    seconds: float
    """from the first to the last, the start of the engine's workers included"""
    steady_seconds: float
    """from when the first shard is begun until the last one is finished"""
    num_shards: int
    load: float
    """runnable processes on the machine over the last minute, when the run began"""


@contextlib.contextmanager
def _direct(mode: str, num_workers: int) -> Iterator[_Setting]:
    options = [f"--direct_running_mode={mode}", f"--direct_num_workers={num_workers}"]
    yield _Setting(options, 1 if mode == "multi_processing" else num_workers)


@contextlib.contextmanager
def _portable(folder: Path, num_workers: int) -> Iterator[_Setting]:
    with portable_engine(folder) as options:
        yield _Setting(options, num_workers)  # it starts one worker, whatever it is told


@contextlib.contextmanager
def _dask(folder: Path, num_workers: int) -> Iterator[_Setting]:
    from distributed import default_client  # an extra

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask_engine(folder, num_workers) as options:
        yield _Setting(options, 1)
        default_client().close()  # Beam leaves it open


_ENGINES: dict[str, _Start] = {
    _PLAIN: lambda _, n: contextlib.nullcontext(_Setting(None, n)),
    _DIRECT: lambda _, n: contextlib.nullcontext(_Setting(["--direct_running_mode=in_memory"], n)),
    "multi_threading": lambda _, n: _direct("multi_threading", n),
    "multi_processing": lambda _, n: _direct("multi_processing", n),
    "job server": _portable,
    "dask": _dask,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit status."""
    options = _parser().parse_args(arguments)
    engines = [name for name in _ENGINES if not options.engines or name in options.engines]
    if "dask" in engines and not importlib.util.find_spec("distributed"):
        print("dask is not installed, and left out", file=sys.stderr)
        engines.remove("dask")
    with tempfile.TemporaryDirectory(prefix="vcsr-benchmark-") as name:
        bench = _Bench(Path(name), options.input or demo_inputs(), options)
        for number, engine, workers in itertools.product(range(options.rounds), engines, _WORKERS):
            run = bench.measure(engine, workers)
            print(f"round {number}  {engine:16} {workers} workers  {_in_words(run)}", flush=True)
        _print(bench.runs, options.rounds)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines",
        description="Measure shards a second on each engine beside a plain process pool.",
    )
    parser.add_argument("--input", action="append", default=[], metavar="PATH")
    parser.add_argument("--recipe", default="cavsr")
    parser.add_argument("--shard-mib", type=float, default=1.0, metavar="MIB")
    parser.add_argument("--rounds", type=int, default=2, metavar="N")
    parser.add_argument("--engines", nargs="+", choices=_ENGINES, metavar="NAME")
    return parser


class _Bench:
    """A plan, and a place for what is made of it."""

    def __init__(self, folder: Path, inputs: list[str], options: argparse.Namespace) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        recipe = load_recipe(options.recipe)
        changes = {"validation_fraction": 0.0, "shard_mib": options.shard_mib}
        self._recipe: Recipe = recipe.model_copy(update=changes)
        self._environment = describe_environment(self._recipe)
        self._planned = folder / "planned"
        self._commit_plan([part for path in inputs for part in ("--input", path)])
        self._plan = read_table(str(Layout(self._planned).plan), PlannedSample)
        self._manifest = b""
        self.runs: dict[tuple[str, int], list[_Run]] = {}
        for workers in _WORKERS:  # pools that are kept, and files in the system's cache
            self._make(_PLAIN, workers)

    def _commit_plan(self, inputs: list[str]) -> None:
        recipe = self._folder / "recipe.yaml"  # JSON is YAML
        recipe.write_text(self._recipe.model_dump_json(exclude_none=True))
        arguments = [*inputs, f"--output={self._planned}", f"--recipe={recipe}", "--plan-only"]
        run_quietly(synthesize, arguments)

    def measure(self, engine: str, workers: int) -> _Run:
        """Make all shards once."""
        run = self._make(engine, workers)
        self.runs.setdefault((engine, workers), []).append(run)
        return run

    def _make(self, engine: str, workers: int) -> _Run:
        place = self._folder / f"run-{next(self._numbers)}"
        shutil.copytree(self._planned, place / "made")
        with _ENGINES[engine](place, workers) as setting:
            job = Job(
                output=str(place / "made"),
                recipe=self._recipe,
                seed=0,
                num_workers=setting.pool_workers,
                environment=self._environment,
            )
            load, started = os.getloadavg()[0], time.perf_counter()
            with contextlib.redirect_stderr(io.StringIO()):  # progress
                self._make_shards(job, setting)
            seconds = time.perf_counter() - started
        self._check_same(job)
        logs = [json.loads(f.read_bytes()) for f in job.layout.shard_log("any").parent.iterdir()]
        begun = min(log["finished_unix_seconds"] - log["seconds"] for log in logs)
        steady = max(log["finished_unix_seconds"] for log in logs) - begun
        shutil.rmtree(place)
        return _Run(seconds, steady, len(logs), load)

    def _make_shards(self, job: Job, setting: _Setting) -> None:
        if setting.options is not None:
            make_shards(job, self._plan, choose_engine(setting.options))
            return
        pool = shared_pool(job.num_workers)
        assert isinstance(pool.run(len, ""), Done)
        numbers = range(len({row.shard for row in self._plan}))
        finish_dataset(job, [write_shard(job, number, pool) for number in numbers])

    def _check_same(self, job: Job) -> None:
        manifest = job.layout.manifest.read_bytes()
        self._manifest = self._manifest or manifest
        if manifest != self._manifest:
            raise SystemExit("the engines do not agree on the manifest")


def _in_words(run: _Run) -> str:
    return (
        f"{run.num_shards / run.seconds:6.2f} shards/s  ({run.num_shards} in {run.seconds:.1f} s; "
        f"without start and end {run.steady_seconds:.1f} s; load before {run.load:.1f})"
    )


def _print(runs: dict[tuple[str, int], list[_Run]], rounds: int) -> None:
    whole = {key: max(run.num_shards / run.seconds for run in each) for key, each in runs.items()}
    steady = {
        key: max(run.num_shards / run.steady_seconds for run in each) for key, each in runs.items()
    }
    print(f"\nshards/s, best of {rounds:<3} {'as a whole':>31} {'without start and end':>34}")
    print(f"{'workers':24} {'1':>10} {'2':>10} {'2 / 1':>8} {'1':>12} {'2':>8} {'2 / 1':>8}")
    for engine in dict.fromkeys(engine for engine, _ in runs):
        one, two = whole[engine, 1], whole[engine, 2]
        alone = [steady[engine, workers] for workers in _WORKERS]
        print(
            f"  {engine:22} {one:10.2f} {two:10.2f} {two / one:8.2f}"
            f" {alone[0]:12.2f} {alone[1]:8.2f} {alone[1] / alone[0]:8.2f}"
        )
    if {(_PLAIN, 1), (_DIRECT, 1)} <= runs.keys():
        for title, rates in (("as a whole", whole), ("without start and end", steady)):
            costs = [rates[_PLAIN, n] / rates[_DIRECT, n] - 1 for n in _WORKERS]
            print(f"  Beam's overhead, {title:24} {costs[0]:8.1%} {costs[1]:8.1%}")


if __name__ == "__main__":
    sys.exit(main())
