"""The files of a dataset against its manifest."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipelines.audit.file_check import file_problem
from pipelines.audit.report import Finding
from pipelines.errors import UserError
from pipelines.layout import Layout, publish, staged
from pipelines.pool import Done, WorkerPool
from pipelines.progress import watched
from schemas.manifest import MANIFEST_NAME, DataFile, DatasetError, Manifest
from schemas.shard import PLAIN_NAME
from schemas.store import Place, lies_in


def described_files(manifest: Manifest) -> list[DataFile]:
    """Every file that a manifest describes."""
    shards = [file for shard in manifest.shards for file in shard.files]
    return [*manifest.tables, *manifest.documents, *shards]


def inside(root: Place, path: str) -> Place:
    """A file of a dataset by the name that its records give it.

    Raises:
        DatasetError: if the name leads out of the folder, which no record of ours does.
    """
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts:
        raise DatasetError(f"{path!r} leads out of {root}: the dataset's records are not ours")
    return root / path


def changed_files(root: Place, files: Sequence[DataFile], pool: WorkerPool) -> list[Finding]:
    """Files that are missing, or are not as described.

    Raises:
        DatasetError: if a name leads out of the folder.
    """
    for file in files:
        inside(root, file.path)
    outcomes = pool.map_ordered(partial(_problem, root), files)
    findings = []
    for file, outcome in watched(outcomes, len(files), "hashing", "file"):
        problem = outcome.value if isinstance(outcome, Done) else (outcome.reason, outcome.detail)
        if problem:
            findings.append(Finding(check=problem[0], path=file.path, detail=problem[1]))
    return findings


def _problem(root: Place, file: DataFile) -> tuple[str, str] | None:
    return file_problem(root / file.path, file)


def changed_markers(layout: Layout, manifest: Manifest) -> list[Finding]:
    """Commit markers that do not say what the manifest says, whose names of shards are plain."""
    findings = []
    for shard in manifest.shards:
        file = layout.marker(shard.shard)
        if not file.is_file() or file.read_bytes() != shard.model_dump_json().encode():
            detail = "missing, or not what the manifest says of the shard"
            path = layout.relative(file)
            findings.append(Finding(check="hash", path=path, shard=shard.shard, detail=detail))
    return findings


def check_names(layout: Layout, manifest: Manifest) -> None:
    """Refuse names that lead elsewhere, before any file is read or written by them.

    Raises:
        DatasetError: if there is one.
    """
    for shard in manifest.shards:
        if not PLAIN_NAME.fullmatch(shard.shard):
            raise DatasetError(
                f"{layout.manifest} names a shard {shard.shard!r}, which may lead out of "
                f"{layout.root}: the dataset's records are not ours"
            )
    for file in described_files(manifest):
        inside(layout.root, file.path)


def check_outside(output: Place, dataset: Place) -> None:
    """Refuse an output that lies in a dataset, or a dataset in the output.

    Raises:
        UserError: if it does.
    """
    if lies_in(output, dataset) or lies_in(dataset, output):
        raise UserError(
            f"--output {output} and the dataset {dataset} lie in one another: choose a folder "
            "outside, so that the dataset stays as it is"
        )


def published_paths(layout: Layout, manifest: Manifest) -> list[str]:
    """What is published of a dataset, the manifest last: all but the samples and the logs."""
    described = [file.path for file in described_files(manifest)]
    tables = [path for path in described if not path.startswith("data/")]
    markers = [layout.relative(layout.marker(shard.shard)) for shard in manifest.shards]
    return [*tables, *markers, MANIFEST_NAME]


def copy_file(source: Place, target: Place, layout: Layout) -> None:
    """Copy a file into a dataset, whole or not at all."""
    with staged(layout) as folder:
        with source.open("rb") as opened, (folder / target.name).open("wb") as copy:
            shutil.copyfileobj(opened, copy)
        publish(folder / target.name, target)
