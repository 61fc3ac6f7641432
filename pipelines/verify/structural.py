"""The structural grade: every file is there, whole, and says the same as all others."""

from typing import NamedTuple

from pydantic import ValidationError

from pipelines.audit.dataset import Dataset
from pipelines.audit.report import Finding
from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.pool import Done, WorkerDied, WorkerPool
from pipelines.progress import watched
from pipelines.verify.names import name_problems, named_shards, spanning_tables
from pipelines.verify.shard import ShardTask, check_shard, without_files
from pipelines.verify.whole import WholeTask, check_whole, extra_findings, spanning_findings
from schemas.manifest import MANIFEST_NAME, DatasetError, Manifest, read_manifest
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.record import SchemaVersionError
from schemas.store import Place
from schemas.tables import TABLE_ERRORS, read_columns


class Structure(NamedTuple):
    """What the structural grade found."""

    dataset: Dataset | None
    """None where the manifest cannot be read"""
    readable_shards: list[str]
    """shards whose tables and tar can be read"""
    is_plan_readable: bool
    """so are the tables that span all shards"""
    findings: list[Finding]
    looked_at: dict[str, int]
    not_looked_at: list[str]


def check_structure(root: Place, pool: WorkerPool) -> Structure:
    """Look at every byte of a dataset.

    Raises:
        UserError: if there is no finished dataset, or another release wrote it.
    """
    try:
        manifest = _read_manifest(root, pool)
    except _DamagedManifestError as error:
        finding = Finding(check="manifest", path=MANIFEST_NAME, detail=str(error))
        return Structure(
            None, [], False, [finding], {}, [f"everything else: it takes {MANIFEST_NAME}"]
        )
    return _Check(Dataset(Layout(root), manifest), pool).run()


class _DamagedManifestError(Exception):
    """What is wrong with the manifest."""


def _read_manifest(root: Place, pool: WorkerPool) -> Manifest:
    layout = Layout(root)
    if not layout.manifest.is_file():
        raise UserError(
            f"{root} has no {MANIFEST_NAME}: it is no dataset, or its synthesis did not finish"
        )
    try:
        manifest = read_manifest(root)
        Recipe.model_validate(manifest.recipe)
    except SchemaVersionError as error:
        if pool.run(_is_of_this_release, layout) != Done(True):
            raise UserError(str(error)) from error
        raise _DamagedManifestError(f"its tables are of this release, {error}") from error
    except (DatasetError, ValidationError) as error:
        raise _DamagedManifestError(f"not readable: {' '.join(str(error).split())}") from error
    return manifest


def _is_of_this_release(layout: Layout) -> bool:
    """Whether the plan is; another release's manifest comes with another release's tables.

    Runs in a worker process.
    """
    try:
        read_columns(str(layout.plan), PlannedSample, [])
    except TABLE_ERRORS:
        return False
    return True


class _Check:
    """The checks of one dataset, and what they found."""

    def __init__(self, dataset: Dataset, pool: WorkerPool) -> None:
        self._layout, self._manifest = dataset
        self._shards = named_shards(dataset.manifest)
        self._dataset, self._pool = dataset, pool
        self._readable: list[str] = []
        self._has_tables = set[str]()
        self._has_tars = False
        self._findings: list[Finding] = []
        self._num_samples = 0
        self._not_looked_at: list[str] = []

    def run(self) -> Structure:
        misnamed = list(name_problems(self._layout, self._manifest))
        for told in misnamed:
            self._findings.append(Finding(check="manifest", path=MANIFEST_NAME, detail=told))
        damaged = list(spanning_findings(self._layout, self._manifest))
        self._findings += damaged
        damaged_paths = {finding.path for finding in damaged}
        has_plan = self._layout.relative(self._layout.plan) not in damaged_paths
        if not has_plan:
            self._not_looked_at.append("whether samples are those of the plan: it is damaged")
        tars = [self._layout.tar(shard.shard) for shard in self._shards.values()]
        self._has_tars = any(tar.is_file() for tar in tars)
        if tars and not self._has_tars:
            told = "no shard is here; of a published dataset pipelines.materialize makes them"
            self._not_looked_at.append(told)
        self._check_shards(has_plan=has_plan)
        tables = {self._layout.relative(file) for file in spanning_tables(self._layout)}
        if misnamed:
            told = f"whether the tables give {MANIFEST_NAME}: its names are not those of a dataset"
            self._not_looked_at.append(told)
        elif damaged_paths & tables or len(self._has_tables) < len(self._shards):
            self._not_looked_at.append(f"whether the tables give {MANIFEST_NAME}: some are damaged")
        else:
            self._check_whole()
        self._findings += extra_findings(self._layout, self._manifest)
        looked_at = {"shards": len(self._shards), "samples": self._num_samples}
        return Structure(
            dataset=self._dataset,
            readable_shards=self._readable,
            is_plan_readable=not damaged_paths & tables,
            findings=self._findings,
            looked_at=looked_at,
            not_looked_at=self._not_looked_at,
        )

    def _check_shards(self, *, has_plan: bool) -> None:
        common = without_files(self._manifest)
        tasks = (
            ShardTask(self._layout.root, common, shard, index, has_plan)
            for index, shard in self._shards.items()
        )
        outcomes = self._pool.map_ordered(check_shard, tasks)
        for task, outcome in watched(outcomes, len(self._shards), "checking structure", "shard"):
            shard = task.shard.shard
            if isinstance(outcome, WorkerDied):
                self._findings.append(
                    Finding(
                        check=outcome.reason,
                        path=self._layout.relative(self._layout.tar(shard)),
                        shard=shard,
                        detail=f"reading the shard's files took the process down: {outcome.detail}",
                    )
                )
                continue
            self._findings += outcome.value.findings
            self._num_samples += outcome.value.num_samples
            if not outcome.value.has_tables:
                self._not_looked_at.append(f"{shard}: its samples: a table cannot be used")
                continue
            self._has_tables.add(shard)
            if outcome.value.has_tar:
                self._readable.append(shard)
            elif self._has_tars:
                self._not_looked_at.append(f"{shard}: its samples: the tar cannot be read")

    def _check_whole(self) -> None:
        outcome = self._pool.run(check_whole, WholeTask(self._layout.root, self._manifest))
        if isinstance(outcome, WorkerDied):
            told = f"reading the tables took the process down: {outcome.detail}"
            self._findings.append(Finding(check=outcome.reason, path="index", detail=told))
        else:
            self._findings += outcome.value
