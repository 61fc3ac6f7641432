"""What it costs that no input can end a run: `python -m benchmarks.isolation`.

The same samples are made in turn by a plain process pool of the standard library and by ours,
whose workers may die alone and have limits on CPU time and memory; both probe the same inputs, too.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from benchmarks.running import run_quietly
from pipelines.corpus import discover
from pipelines.demo import demo_inputs
from pipelines.layout import Layout
from pipelines.make import MakeTask, make
from pipelines.pool import WorkerPool
from pipelines.probe import probe
from pipelines.shards import Location
from pipelines.synthesize.__main__ import main as synthesize
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe
from schemas.source import Source
from schemas.tables import read_table

_Run = Callable[[Callable[[Any], Any], Sequence[Any]], int]


class _Work(NamedTuple):
    """Something to be done in worker processes."""

    name: str
    function: Callable[[Any], Any]
    tasks: Sequence[Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit status."""
    options = _parser().parse_args(arguments)
    recipe = load_recipe(options.recipe).model_copy(update={"validation_fraction": 0.0})
    inputs = options.input or demo_inputs()
    with (
        tempfile.TemporaryDirectory(prefix="vcsr-benchmark-") as folder,
        _pools(options.workers) as pools,
    ):
        make_tasks = list(_make_tasks(Path(folder), inputs, recipe))
        entries = discover(inputs) * options.repeat
        works = [
            _Work("make", make, make_tasks),
            _Work("probe", partial(probe, recipe=recipe, seed=0), entries),
        ]
        for work in works:
            _compare(work, pools, options.rounds)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.isolation",
        description="Measure what worker processes that may die cost, beside a plain pool.",
    )
    parser.add_argument("--input", action="append", default=[], metavar="PATH")
    parser.add_argument("--recipe", default="cavsr")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="probes of each input")
    return parser


@contextlib.contextmanager
def _pools(num_workers: int) -> Iterator[dict[str, _Run]]:
    spawn = multiprocessing.get_context("spawn")
    plain = ProcessPoolExecutor(num_workers, spawn, initializer=cv2.setNumThreads, initargs=(0,))
    ours = WorkerPool(num_workers)
    with plain, contextlib.closing(ours):
        yield {
            "plain": lambda function, tasks: _count(plain.map(function, tasks)),
            "isolated": lambda function, tasks: _count(ours.map_ordered(function, tasks)),
        }


def _count(outcomes: Iterable[object]) -> int:
    return sum(1 for _ in outcomes)


def _make_tasks(folder: Path, inputs: Sequence[str], recipe: Recipe) -> Iterator[MakeTask]:
    """All samples of a plan, as a run gives them to its workers."""
    file = folder / "recipe.yaml"  # JSON is YAML
    file.write_text(recipe.model_dump_json(exclude_none=True))
    arguments = [part for path in inputs for part in ("--input", path)]
    arguments += [f"--output={folder / 'set'}", f"--recipe={file}", "--plan-only"]
    run_quietly(synthesize, arguments)
    layout = Layout(folder / "set")
    sources = {row.source_id: row for row in read_table(str(layout.sources), Source)}
    paths = {row.source_id: row.paths for row in read_table(str(layout.locations), Location)}
    rows = read_table(str(layout.plan), PlannedSample)
    for _, together in itertools.groupby(rows, key=lambda row: row.spans):
        yield MakeTask(recipe=recipe, seed=0, rows=list(together), sources=sources, paths=paths)


def _compare(work: _Work, pools: dict[str, _Run], rounds: int) -> None:
    for run in pools.values():
        run(work.function, work.tasks[:4])  # processes started, modules imported
    seconds: dict[str, list[float]] = {name: [] for name in pools}
    for number in range(rounds):
        # In turns the one and the other first, since machines slow down and speed up.
        for name in sorted(pools, reverse=bool(number % 2)):
            started = time.perf_counter()
            done = pools[name](work.function, work.tasks)
            seconds[name].append(time.perf_counter() - started)
            assert done == len(work.tasks)
    ratios = [a / b - 1 for a, b in zip(seconds["isolated"], seconds["plain"], strict=True)]
    best = {name: min(each) for name, each in seconds.items()}
    print(
        f"{work.name}: {len(work.tasks)} tasks, best of {rounds}: plain {best['plain']:.2f} s, "
        f"isolated {best['isolated']:.2f} s: {best['isolated'] / best['plain'] - 1:+.1%}; median "
        f"of the rounds {statistics.median(ratios):+.1%} ({min(ratios):+.1%} to "
        f"{max(ratios):+.1%})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
