"""Time to go on with a dataset that is finished: `python -m benchmarks.resume`.

One shard is made for real and stands for all: its files are copied under as many names as asked
for, with markers and a plan that fit, so that the command finds nothing to make. The time is that
of the whole command, in a process of its own; of reading pixels again (the hashes of the tars) it
holds what tiny tars take.
"""

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.job import Job
from pipelines.layout import Layout
from pipelines.run_identity import RunIdentity
from schemas.manifest import SHARD_TABLES, Shard, read_manifest
from schemas.plan import PlannedSample
from schemas.recipe_files import load_recipe
from schemas.tables import TableWriter, read_group

_RECIPE = "vcisr"
_SIDE = 600
_KIB_PER_MIB = 1024


class _Cost(NamedTuple):
    num_shards: int
    seconds: float
    """of the command, from its start to its end"""
    peak_mib: float
    """of the command's process, the largest so far"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns the exit status."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vcsr-benchmark-") as name:
        folder = Path(name)
        command = _make_one_shard(folder)
        _print([_measure(folder, command, number) for number in sorted({1, *options.shards})])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resume",
        description="Measure how long a run takes that finds all of its shards finished.",
    )
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    return parser


def _make_one_shard(folder: Path) -> list[str]:
    """Make a dataset of one shard in `folder`; returns the command."""
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 256, (_SIDE // 4, _SIDE // 4, 3), np.uint8)
    (folder / "in").mkdir()
    cv2.imwrite(str(folder / "in" / "photograph.png"), cv2.resize(coarse, (_SIDE, _SIDE)))
    recipe = load_recipe(_RECIPE).model_copy(update={"validation_fraction": 0.0})
    (folder / "recipe.yaml").write_text(recipe.model_dump_json(exclude_none=True))  # JSON is YAML
    command = [sys.executable, "-m", "pipelines.synthesize", "--workers=1"]
    command += [f"--input={folder / 'in'}", f"--recipe={folder / 'recipe.yaml'}"]
    command += [f"--output={folder / 'made'}"]
    subprocess.run(command, check=True, capture_output=True)
    return command


def _measure(folder: Path, command: list[str], num_shards: int) -> _Cost:
    """Time the command over so many finished shards, and see that it finds them so."""
    layout = Layout(folder / "made")
    _multiply(layout, folder / "recipe.yaml", num_shards)
    before = layout.marker(_name(num_shards - 1)).stat()
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    after = layout.marker(_name(num_shards - 1)).stat()
    if len(read_manifest(layout.root).shards) != num_shards or before.st_ino != after.st_ino:
        raise SystemExit("the shards were not found finished")
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return _Cost(num_shards, seconds, peak_kib / _KIB_PER_MIB)


def _name(number: int) -> str:
    return f"train-{number:06d}"


def _multiply(layout: Layout, recipe: Path, num_shards: int) -> None:
    """Put copies of the first shard beside it, and plan all of them; there is no manifest then."""
    layout.manifest.unlink()
    identity = RunIdentity.model_validate_json(layout.run.read_bytes())
    job = Job(
        output=str(layout.root),
        recipe=load_recipe(recipe),
        seed=identity.seed,
        num_workers=1,
        environment=identity.environment,
    )
    rows = read_group(str(layout.plan), PlannedSample, 0)
    first = Shard.model_validate_json(layout.marker(_name(0)).read_bytes())
    layout.plan.unlink()
    writer = TableWriter(str(layout.plan), PlannedSample)
    for name in map(_name, range(num_shards)):
        planned = [row.model_copy(update={"shard": name}) for row in rows]
        writer.write_group(planned)
        if name != first.shard:
            _copy(layout, first, name, job.plan_sha256(planned))
    writer.close()


def _copy(layout: Layout, first: Shard, name: str, plan_sha256: str) -> None:
    for path in (Layout.tar, *(lambda at, shard, t=t: at.table(t, shard) for t in SHARD_TABLES)):
        path(layout, name).unlink(missing_ok=True)
        os.link(path(layout, first.shard), path(layout, name))
    files = [
        file.model_copy(update={"path": file.path.replace(first.shard, name)})
        for file in first.files
    ]
    changes = {"shard": name, "plan_sha256": plan_sha256, "files": files}
    layout.marker(name).write_text(first.model_copy(update=changes).model_dump_json())


def _print(costs: Sequence[_Cost]) -> None:
    print(f"{'shards':>10} {'seconds':>9} {'ms a shard more':>16} {'peak MiB':>9}")
    for before, cost in itertools.pairwise([costs[0], *costs]):
        more = cost.num_shards - before.num_shards
        each = 1000 * (cost.seconds - before.seconds) / more if more else 0
        print(f"{cost.num_shards:10} {cost.seconds:9.1f} {each:16.2f} {cost.peak_mib:9.0f}")
    few, many = costs[-2], costs[-1]
    shards, seconds = many.num_shards / few.num_shards, many.seconds / few.seconds
    print(f"\n{shards:.0f} times the shards take {seconds:.1f} times the time")


if __name__ == "__main__":
    sys.exit(main())
