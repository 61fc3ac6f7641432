"""Memory and time of planning against the number of sources: `python -m benchmarks.planning`.

Photographs are made up as probing would have described them, then planned for real, each number in
a process of its own. Whoever submits a run needs this memory; workers do not.
"""

import argparse
import hashlib
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.corpus import Entry
from pipelines.generations import commit_plan, read_plan
from pipelines.job import Job
from pipelines.layout import publish, staged
from pipelines.licences import LicencePolicy
from pipelines.plan import NOTHING
from pipelines.probe import Probed
from pipelines.probing import BATCH_ENTRIES, plan_sources, write_batches, write_locations
from schemas.manifest import Environment
from schemas.plan import Span
from schemas.recipe_files import load_recipe
from schemas.source import Source, SourceKind
from schemas.tables import write_table

_KIB_PER_MIB = 1024
_CELLS = 12
"""Usable cells of a photograph."""


class _Cost(NamedTuple):
    num_sources: int
    num_samples: int
    peak_mib: float
    """of the whole process"""
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.folder:  # a child
        _plan(options.folder, options.sources[0], options.recipe)
        return 0
    costs = [_measure(number, options.recipe) for number in [0, *options.sources]]
    _print(costs)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planning",
        description="Measure memory and time of planning, one process for each number of sources.",
    )
    parser.add_argument("--recipe", default="vcisr")
    parser.add_argument(
        "--sources", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N"
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def _measure(num_sources: int, recipe: str) -> _Cost:
    with tempfile.TemporaryDirectory(prefix="vcsr-benchmark-") as folder:
        _write_probed(_job(Path(folder), recipe), num_sources)
        command = [sys.executable, "-m", "benchmarks.planning", "--folder", folder]
        command += ["--sources", str(num_sources), "--recipe", recipe]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
    num_samples, peak_mib, seconds = map(float, told.stdout.split())
    return _Cost(num_sources, int(num_samples), peak_mib, seconds)


def _plan(folder: Path, num_sources: int, recipe: str) -> None:
    """In the child: what submitting a run does between its two graphs, and before them."""
    job, started = _job(folder, recipe), time.perf_counter()
    if num_sources:  # none tells what the interpreter and the libraries take
        entries = [_entry(number) for number in range(num_sources)]
        num_batches = write_batches(job, entries)
        commit_plan(job.layout, plan_sources(job, num_batches, [], LicencePolicy(), NOTHING))
        write_locations(job, entries)
    num_samples = read_plan(job.layout).num_samples
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB
    print(num_samples, peak_mib, time.perf_counter() - started)


def _job(folder: Path, recipe: str) -> Job:
    return Job(
        output=str(folder),
        recipe=load_recipe(recipe),
        seed=0,
        num_workers=1,
        environment=Environment(libraries={}, encoders={}),
    )


def _entry(number: int) -> Entry:
    name = f"photos/{number // 1000:04d}/photograph-{number:08d}.png"
    return Entry(uri=name, paths=(f"/data/corpora/{name}",), is_folder=False)


def _write_probed(job: Job, num_sources: int) -> None:
    write_batches(job, [_entry(number) for number in range(num_sources)])  # forgets what was probed
    for batch, first in enumerate(range(0, num_sources, BATCH_ENTRIES)):
        last = min(first + BATCH_ENTRIES, num_sources)
        with staged(job.layout) as folder:
            write_table(str(folder / "probed"), Probed, map(_probed, range(first, last)))
            publish(folder / "probed", job.layout.probed(0, batch))


def _probed(number: int) -> Probed:
    source_id = hashlib.sha256(str(number).encode()).hexdigest()
    uri = _entry(number).uri
    source = Source(
        source_id=source_id,
        kind=SourceKind.IMAGE,
        uris=[uri],
        group="",
        split="",
        licence="",
        attribution="",
        size=2_000_000,
        width=2040,
        height=1356,
        num_frames=1,
        codec="png",
        pixel_format="RGB",
    )
    spans = [Span(source_id=source_id, start=0, count=_CELLS)]
    return Probed(source=source, spans=spans)


def _print(costs: Sequence[_Cost]) -> None:
    header = f"{'sources':>10} {'samples':>10} {'peak MiB':>10}"
    print(f"{header} {'KiB a source more':>18} {'a sample more':>14} {'seconds':>9}")
    for before, cost in itertools.pairwise([costs[0], *costs]):
        more_kib = _KIB_PER_MIB * (cost.peak_mib - before.peak_mib)
        a_source = more_kib / max(1, cost.num_sources - before.num_sources)
        a_sample = more_kib / max(1, cost.num_samples - before.num_samples)
        line = f"{cost.num_sources:10} {cost.num_samples:10} {cost.peak_mib:10.0f}"
        print(f"{line} {a_source:18.2f} {a_sample:14.2f} {cost.seconds:9.1f}")
    few, many = costs[1], costs[-1]
    if few is not many:
        sources, memory = many.num_sources / few.num_sources, many.peak_mib / few.peak_mib
        print(f"\n{sources:.0f} times the sources take {memory:.2f} times the memory")


if __name__ == "__main__":
    sys.exit(main())
