"""One shard: its files, its marker, its tar, its tables.

A table is parsed only if its bytes are those that the manifest describes: no reader is shown a
damaged Parquet file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError

from pipelines.audit.dataset import Dataset, read_damageable
from pipelines.audit.report import Finding
from pipelines.layout import Layout
from pipelines.shards import describe_file
from pipelines.verify.records import RowProblem, Tables, planned_problems, record_problems
from pipelines.verify.tar import check_tar
from schemas.manifest import MANIFEST_NAME, SHARD_TABLES, DataFile, DatasetError, Manifest, Shard
from schemas.plan import PlannedSample
from schemas.sample import JSON_MEMBER, FrameRow, SampleRow, StreamRow
from schemas.store import Place
from schemas.tables import R, read_table


@dataclass(frozen=True)
class ShardTask:
    """A shard to look at."""

    root: Place
    manifest: Manifest
    index: int
    """its place among the manifest's shards, and its row group of the plan"""
    has_plan: bool
    """the plan is what the manifest describes, so that it can be read"""


class CheckedShard(NamedTuple):
    """What looking at a shard gave."""

    findings: list[Finding]
    num_samples: int
    """that the tables tell of"""
    is_readable: bool
    """all tables can be read"""


def check_shard(task: ShardTask) -> CheckedShard:
    """Look at everything of a shard. Runs in a worker process."""
    check = _ShardCheck(task)
    check.check_files()
    tables = check.read_tables()
    if tables is None:
        return CheckedShard(check.findings, 0, is_readable=False)
    check.check_counts(tables)
    records = check.check_tar(tables.made)
    if task.has_plan and (planned := check.read_plan()):
        check.note(planned_problems(planned, tables.samples))
        check.note(record_problems(records, planned, tables, task.manifest))
    return CheckedShard(check.findings, len(tables.made), is_readable=True)


class _ShardCheck:
    """The checks of one shard, and what they found."""

    def __init__(self, task: ShardTask) -> None:
        self._task = task
        self._shard: Shard = task.manifest.shards[task.index]
        self._layout = Layout(task.root)
        marker = self._layout.marker(self._shard.shard)
        self._marker_bytes = marker.read_bytes() if marker.is_file() else b""
        self._marker = _parse_marker(self._marker_bytes)
        self._whole = set[Place]()  # files that are what the manifest describes
        self.findings: list[Finding] = []

    def check_files(self) -> None:
        """Compare files, marker and manifest; where two of them agree, the third is at fault."""
        told, marked = _by_path(self._shard), _by_path(self._marker)
        for file in shard_files(self._layout, self._shard.shard):
            path = self._layout.relative(file)
            problem = file_problem(file, told.get(path))
            if problem is None:
                self._whole.add(file)
            elif path in marked and file_problem(file, marked[path]) is None:
                self._find(
                    "manifest",
                    MANIFEST_NAME,
                    f"{path}: {problem[1]}, and the shard's marker agrees with the file",
                )
            else:
                self._find(problem[0], path, problem[1])
        self._check_marker()

    def _check_marker(self) -> None:
        path = self._layout.relative(self._layout.marker(self._shard.shard))
        is_other = self._marker_bytes != self._shard.model_dump_json().encode()
        if not self._marker_bytes:
            self._find("missing", path, "the marker that commits the shard")
        elif is_other and not any(one.path == MANIFEST_NAME for one in self.findings):
            self._find("marker", path, f"it is not the shard's record in {MANIFEST_NAME}")

    def read_tables(self) -> Tables | None:
        """Every table that is whole; None if one is not."""
        samples = self._read("samples", SampleRow)
        streams, frames = self._read("streams", StreamRow), self._read("frames", FrameRow)
        if samples is None or streams is None or frames is None:
            return None
        return Tables(samples, streams, frames)

    def _read(self, table: str, record: type[R]) -> list[R] | None:
        file = self._layout.table(table, self._shard.shard)
        path = self._layout.relative(file)
        if file not in self._whole:
            return None
        try:
            rows = read_damageable(file, record)
        except DatasetError as error:
            self._find("table", path, str(error))
            return None
        (described,) = (one.rows for one in self._shard.files if one.path == path)
        if len(rows) != described:
            self._find("count", path, f"{len(rows)} rows, {MANIFEST_NAME} says {described}")
        return rows

    def check_counts(self, tables: Tables) -> None:
        """What the manifest says of the shard as a whole."""
        num_made = len(tables.made)
        num_left_out = len(tables.samples) - num_made
        shard = self._shard
        if (num_made, num_left_out) != (shard.num_samples, shard.num_left_out):
            self._find(
                "count",
                MANIFEST_NAME,
                f"it says {shard.num_samples} samples and {shard.num_left_out} left out, "
                f"the table {num_made} and {num_left_out}",
            )
        if {row.split for row in tables.samples} - {shard.split}:
            self._find("count", MANIFEST_NAME, f"not all samples are of split {shard.split!r}")

    def read_plan(self) -> list[PlannedSample]:
        """The shard's rows of the plan; none where they cannot be read."""
        path = self._layout.relative(self._layout.plan)
        try:
            rows = read_table(str(self._layout.plan), PlannedSample, group=self._task.index)
        except (OSError, ValueError, IndexError) as error:
            self._find("table", path, str(error))
            return []
        job = Dataset(self._layout, self._task.manifest).job(self._task.root, num_workers=1)
        if (found := job.plan_sha256(rows)) != self._shard.plan_sha256:
            self._find(
                "plan_sha256",
                MANIFEST_NAME,
                f"recipe, seed, environment and plan give {found}, it says "
                f"{self._shard.plan_sha256}",
            )
        return rows

    def check_tar(self, made: list[SampleRow]) -> dict[str, bytes]:
        """Compare the tar with the index; the records that are whole, by key."""
        file = self._layout.tar(self._shard.shard)
        if not file.is_file():
            return {}
        with file.open("rb") as tar:
            problems, records = check_tar(tar, made)
        for problem in problems:
            path = self._layout.relative(file)
            self._find(problem.check, path, problem.detail, problem.key, problem.member)
        return records

    def note(self, problems: Iterator[RowProblem]) -> None:
        """Make findings of problems."""
        name = self._shard.shard
        for problem in problems:
            table = problem.table
            file = self._layout.table(table, name) if table else self._layout.tar(name)
            member = "" if table else JSON_MEMBER
            path = self._layout.relative(file)
            self._find(problem.check, path, problem.detail, problem.key, member)

    def _find(self, check: str, path: str, detail: str, key: str = "", member: str = "") -> None:
        self.findings.append(
            Finding(
                check=check,
                path=path,
                shard=self._shard.shard,
                key=key,
                member=member,
                detail=" ".join(detail.split()),
            )
        )


def _parse_marker(data: bytes) -> Shard | None:
    try:
        return Shard.model_validate_json(data)
    except ValidationError:
        return None


def _by_path(shard: Shard | None) -> dict[str, DataFile]:
    return {file.path: file for file in shard.files} if shard else {}


def shard_files(layout: Layout, shard: str) -> list[Place]:
    """The files of a shard as the manifest lists them: the tar, then its part of each table."""
    return [layout.tar(shard), *(layout.table(table, shard) for table in SHARD_TABLES)]


def file_problem(file: Place, described: DataFile | None) -> tuple[str, str] | None:
    """(check, detail) of a file that is not what the manifest says; None if it is."""
    if described is None:
        return "manifest", f"{MANIFEST_NAME} does not describe it"
    if not file.is_file():
        return "missing", f"{MANIFEST_NAME} lists it"
    found = describe_file(file, described.path, described.rows)
    if found.size != described.size:
        return "size", f"{found.size} bytes, {MANIFEST_NAME} says {described.size}"
    if found.sha256 != described.sha256:
        return "hash", f"SHA-256 is {found.sha256}, {MANIFEST_NAME} says {described.sha256}"
    return None
