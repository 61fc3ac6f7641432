"""One shard: its files, its marker, its tar, its tables.

A table is parsed only if its bytes are those that the manifest describes: no reader is shown a
damaged Parquet file.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError

from pipelines.audit.dataset import Dataset, read_damageable
from pipelines.audit.file_check import file_problem
from pipelines.audit.report import Finding
from pipelines.layout import Layout
from pipelines.verify.names import shard_files
from pipelines.verify.problem import Problem
from pipelines.verify.records import Tables, planned_problems, record_problems
from pipelines.verify.tar import check_tar
from schemas.manifest import MANIFEST_NAME, DataFile, DatasetError, Manifest, Shard
from schemas.plan import PlannedSample
from schemas.record import Status
from schemas.sample import FrameRow, SampleRow, StreamRow
from schemas.store import Place
from schemas.tables import TABLE_ERRORS, R, read_group


@dataclass(frozen=True)
class ShardTask:
    """A shard to look at."""

    root: Place
    manifest: Manifest
    """without its lists of files"""
    shard: Shard
    """its part of them, with a name that can be a file's"""
    index: int
    """its place among the manifest's shards, and its row group of the plan"""
    has_plan: bool
    """the plan is what the manifest describes, so that it can be read"""


class CheckedShard(NamedTuple):
    """What looking at a shard gave."""

    findings: list[Finding]
    num_samples: int
    """that the tables tell of"""
    has_tables: bool
    """all of them can be read"""
    has_tar: bool
    """it can be read"""


def without_files(manifest: Manifest) -> Manifest:
    """What a manifest says of all shards alike."""
    return manifest.model_copy(update={"shards": [], "tables": [], "documents": []})


def check_shard(task: ShardTask) -> CheckedShard:
    """Look at everything of a shard. Runs in a worker process."""
    check = _ShardCheck(task)
    check.check_files()
    return check.check_content()


class _ShardCheck:
    """The checks of one shard, and what they found."""

    def __init__(self, task: ShardTask) -> None:
        self._task = task
        self._shard = task.shard
        self._layout = Layout(task.root)
        self._marker_bytes = _read(self._layout.marker(self._shard.shard))
        self._marker = _parse_marker(self._marker_bytes)
        self._whole = set[Place]()  # files that are what the manifest describes
        self._findings: list[Finding] = []

    def check_files(self) -> None:
        """Compare files, marker and manifest; where two of them agree, the third is at fault."""
        told, marked = _by_path(self._shard), _by_path(self._marker)
        for file in shard_files(self._layout, self._shard.shard):
            path = self._layout.relative(file)
            problem = _problem(file, told.get(path))
            if problem is None:
                self._whole.add(file)
            elif path in marked and _problem(file, marked[path]) is None:
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
            self._find("missing", path, "the marker that commits the shard, or it is unreadable")
        elif is_other and not any(one.path == MANIFEST_NAME for one in self._findings):
            self._find("marker", path, f"it is not the shard's record in {MANIFEST_NAME}")

    def check_content(self) -> CheckedShard:
        """Look at tables and tar as far as they can be read."""
        samples = self._read("samples", SampleRow)
        streams, frames = self._read("streams", StreamRow), self._read("frames", FrameRow)
        made = [row for row in samples or [] if row.status is Status.OK]
        records = None if samples is None else self._check_tar(made)
        planned = self._read_plan() if self._task.has_plan else []
        if samples is not None:
            self._check_counts(samples, len(made))
            if planned:
                self._note(planned_problems(planned, samples))
        has_tables = False
        if samples is not None and streams is not None and frames is not None:
            has_tables = True
            if planned:
                tables = Tables(samples, streams, frames)
                self._note(record_problems(records or {}, planned, tables, self._task.manifest))
        return CheckedShard(self._findings, len(made), has_tables, has_tar=records is not None)

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
        described = _by_path(self._shard)[path].rows
        if len(rows) != described:
            self._find("count", path, f"{len(rows)} rows, {MANIFEST_NAME} says {described}")
        return rows

    def _check_counts(self, samples: list[SampleRow], num_made: int) -> None:
        """What the manifest says of the shard as a whole."""
        num_left_out = len(samples) - num_made
        shard = self._shard
        if (num_made, num_left_out) != (shard.num_samples, shard.num_left_out):
            self._find(
                "count",
                MANIFEST_NAME,
                f"it says {shard.num_samples} samples and {shard.num_left_out} left out, "
                f"the table {num_made} and {num_left_out}",
            )
        if (described := _by_path(shard).get(self._path_of_tar)) and described.rows != num_made:
            told = f"it says {described.rows} samples are in the tar, the table {num_made}"
            self._find("count", MANIFEST_NAME, told)
        if {row.split for row in samples} - {shard.split}:
            self._find("count", MANIFEST_NAME, f"not all samples are of split {shard.split!r}")

    def _read_plan(self) -> list[PlannedSample]:
        """The shard's rows of the plan; none where they cannot be read."""
        path = self._layout.relative(self._layout.plan)
        try:
            rows = read_group(str(self._layout.plan), PlannedSample, self._task.index)
        except (*TABLE_ERRORS, IndexError) as error:
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
        if {row.generation for row in rows} != {self._shard.generation}:
            told = f"not all samples are planned for generation {self._shard.generation}"
            self._find("count", MANIFEST_NAME, told)
        return rows

    def _check_tar(self, made: list[SampleRow]) -> dict[str, bytes] | None:
        """Compare the tar with the index; the records that are whole, by key.

        None where the tar cannot be read.
        """
        try:
            with self._layout.tar(self._shard.shard).open("rb") as tar:
                problems, records = check_tar(tar, made)
        except OSError:
            return None
        self._note(problems)
        return records

    @property
    def _path_of_tar(self) -> str:
        return self._layout.relative(self._layout.tar(self._shard.shard))

    def _note(self, problems: Iterable[Problem]) -> None:
        """Make findings of problems."""
        for problem in problems:
            path = self._path_of_tar
            if problem.table:
                path = self._layout.relative(self._layout.table(problem.table, self._shard.shard))
            self._find(problem.check, path, problem.detail, problem.key, problem.member)

    def _find(self, check: str, path: str, detail: str, key: str = "", member: str = "") -> None:
        self._findings.append(
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


def _problem(file: Place, described: DataFile | None) -> tuple[str, str] | None:
    if described is None:
        return "manifest", f"{MANIFEST_NAME} does not list it"
    return file_problem(file, described)


def _read(file: Place) -> bytes:
    """A small file; nothing where it is missing or unreadable."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
