"""Make samples again: `python -m pipelines.resynth DATASET KEY... --verify`.

They are made from the draws that are stored with them and from their sources, so that nothing is
drawn anew; --verify says whether they are what is stored, and if not, why.
"""

import argparse
import difflib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from pipelines.audit.compare import Verdict, all_members
from pipelines.audit.dataset import Dataset, open_dataset
from pipelines.audit.files import check_outside, inside
from pipelines.audit.material import Material, RemakeTask, gather
from pipelines.audit.remake import Comparison, remake_and_compare
from pipelines.audit.report import Finding, Report, check_json
from pipelines.command import add_inputs, add_json, add_workers, check_workers, run_command
from pipelines.corpus import discover
from pipelines.errors import UserError
from pipelines.pool import Done, WorkerDied, shared_pool
from pipelines.progress import watched
from schemas.plan import PlannedSample
from schemas.record import Outcome, Status
from schemas.sample import SampleRow, StreamRow
from schemas.store import place_argument
from transforms.degrade import MadeSample

_Outcome: TypeAlias = Done[tuple[MadeSample | Outcome, Comparison]] | WorkerDied


class ResynthReport(Report):
    """What became of each sample."""

    samples: list[Comparison]
    """in the order of the keys"""

    def describe(self) -> str:
        """The report for a person."""
        is_compared = Verdict.BYTES in self.looked_at
        lines = [_describe(sample, is_compared) for sample in self.samples]
        return "".join(line + "\n" for line in lines) + super().describe()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command("resynth", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    report = resynth(options)
    sys.stdout.write(report.describe())
    if options.json:
        report.write(options.json)
    return report.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.resynth",
        description="Make samples again, from their stored draws and their sources.",
        epilog="Exit status: 0 if all are identical, or identical in their pixels; 1 if one "
        "differs or cannot be made; 2 for a mistake.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "dataset", type=place_argument, metavar="DATASET", help="a dataset: a folder or a URL"
    )
    parser.add_argument("keys", nargs="+", metavar="KEY", help="samples to make")
    parser.add_argument(
        "--verify", action="store_true", help="compare with what is stored, and say why it differs"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where the members go, as KEY.<member>"
    )
    add_inputs(parser, "where to look for sources that are not where they were")
    add_json(parser)
    add_workers(parser)
    return parser


def resynth(options: argparse.Namespace) -> ResynthReport:
    """Make samples again, and write or compare them.

    Raises:
        UserError: if there is nothing to do, or a sample is unknown.
        DatasetError: if a table is damaged.
    """
    if not options.verify and not options.output:
        raise UserError("say what becomes of the samples: --verify, --output FOLDER, or both")
    check_workers(options.workers)
    dataset = open_dataset(options.dataset)
    if options.output:
        check_outside(options.output, options.dataset)
    check_json(options.json)
    keys = list(dict.fromkeys(options.keys))
    _check_known(dataset, keys)
    entries = discover(options.input) if options.input else []
    pool = shared_pool(options.workers)
    material = gather(dataset, keys, entries, pool)
    tasks = list(_tasks(material, keys))
    samples = [
        _finish(task, outcome, options.output)
        for task, outcome in watched(
            pool.map_ordered(remake_and_compare, tasks), len(tasks), "making again", "sample"
        )
    ]
    return _report(options, dataset, samples)


def _check_known(dataset: Dataset, keys: Sequence[str]) -> None:
    known = [row.key for row in dataset.read(dataset.layout.plan, PlannedSample)]
    for key in keys:
        if key not in known:
            similar = difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {' or '.join(similar)}?" if similar else "see index/plan.parquet"
            raise UserError(f"{dataset.layout.root} has no sample {key!r}: {hint}")


def _tasks(material: Material, keys: Sequence[str]) -> Iterator[RemakeTask]:
    dataset = material.dataset
    rows: dict[str, SampleRow] = {}
    streams: defaultdict[str, list[StreamRow]] = defaultdict(list)
    for shard in material.hosts:  # of the samples
        table = dataset.layout.table
        rows |= {row.key: row for row in dataset.read(table("samples", shard), SampleRow)}
        for stream in dataset.read(table("streams", shard), StreamRow):
            streams[stream.key].append(stream)
    for key in keys:
        row = rows.get(key)
        if row is None or row.status is not Status.OK:
            why = f"{row.reason}: {row.detail}" if row else "its table lacks it"
            raise UserError(f"{key} was left out when the dataset was made ({why})")
        yield material.task(row, streams[key])


def _finish(task: RemakeTask, outcome: _Outcome, output: Path | None) -> Comparison:
    """Write a sample's members, and tell what became of it."""
    if isinstance(outcome, WorkerDied):
        return Comparison(
            key=task.row.key,
            verdict=Verdict.DIFFERENT,
            members={},
            absent=task.absent,
            reasons=[f"{outcome.reason}: {outcome.detail}"],
        )
    made, comparison = outcome.value
    if output is not None and isinstance(made, MadeSample):
        for name, data in all_members(made).items():
            _write(output, f"{made.sample.key}.{name}", data)
    return comparison


def _write(folder: Path, name: str, data: bytes) -> None:
    target = Path(str(inside(folder, name)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}; choose another --output"
        ) from error


def _report(
    options: argparse.Namespace, dataset: Dataset, samples: list[Comparison]
) -> ResynthReport:
    verdicts = Counter(sample.verdict for sample in samples)
    compared = {str(verdict): verdicts[verdict] for verdict in Verdict} if options.verify else {}
    findings = [
        Finding(check="different", key=sample.key, detail="; ".join(sample.reasons))
        for sample in samples
        if not sample.members or (options.verify and sample.verdict is Verdict.DIFFERENT)
    ]
    return ResynthReport(
        command="resynth",
        dataset=str(options.dataset),
        manifest_sha256=dataset.manifest.sha256,
        settings={"verify": str(options.verify), "output": str(options.output or "")},
        looked_at={"samples": len(samples), **compared},
        not_looked_at=[
            f"{sample.key}: HR against its source: {line}"
            for sample in samples
            for line in sample.absent
        ],
        findings=findings,
        samples=samples,
    )


def _describe(sample: Comparison, is_compared: bool) -> str:
    if not sample.members:
        return "\n".join([f"{sample.key}: not made", *(f"  {line}" for line in sample.reasons)])
    told = str(sample.verdict) if is_compared else "made"
    lines = [f"{sample.key}: {told}, from its {'stored HR' if sample.absent else 'source'}"]
    if is_compared and sample.verdict is not Verdict.BYTES:
        lines += [f"  {name}: {verdict}" for name, verdict in sample.members.items()]
        lines += [f"  {reason}" for reason in sample.reasons]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
