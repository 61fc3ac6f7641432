"""The files of a dataset against its manifest."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipelines.audit.report import Finding
from pipelines.layout import Layout, publish, staged
from pipelines.pool import Done, WorkerPool
from pipelines.progress import watched
from pipelines.shards import describe_file
from schemas.manifest import MANIFEST_NAME, DataFile, DatasetError, Manifest, Shard
from schemas.store import Place


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
    paths = [inside(root, file.path) for file in files]
    told = pool.map_ordered(partial(_problem, root), files)
    outcomes = watched(told, len(paths), "hashing", "file")
    return [
        Finding(check="hash", path=file.path, detail=problem)
        for file, outcome in outcomes
        if (problem := outcome.value if isinstance(outcome, Done) else outcome.detail)
    ]


def _problem(root: Place, file: DataFile) -> str:
    path = root / file.path
    try:
        found = describe_file(path, file.path, file.rows)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found.size != file.size:
        return f"{found.size} bytes, not {file.size}"
    if found.sha256 != file.sha256:
        return f"its SHA-256 is {found.sha256}, not {file.sha256}"
    return ""


def changed_markers(root: Place, manifest: Manifest) -> list[Finding]:
    """Commit markers that do not say what the manifest says.

    Raises:
        DatasetError: if a name leads out of the folder.
    """
    findings = []
    for shard in manifest.shards:
        path = marker_path(shard)
        file = inside(root, path)
        if not file.is_file() or file.read_bytes() != shard.model_dump_json().encode():
            detail = "missing, or not what the manifest says of the shard"
            findings.append(Finding(check="hash", path=path, shard=shard.shard, detail=detail))
    return findings


def marker_path(shard: Shard) -> str:
    """The shard's commit marker, relative to the dataset."""
    return f"index/shards/{shard.shard}.json"


def published_paths(manifest: Manifest) -> list[str]:
    """What is published of a dataset, the manifest last: all but the samples and the logs."""
    described = [file.path for file in described_files(manifest)]
    tables = [path for path in described if not path.startswith("data/")]
    return [*tables, *map(marker_path, manifest.shards), MANIFEST_NAME]


def copy_file(source: Place, target: Place, layout: Layout) -> None:
    """Copy a file into a dataset, whole or not at all."""
    with staged(layout) as folder:
        with source.open("rb") as opened, (folder / target.name).open("wb") as copy:
            shutil.copyfileobj(opened, copy)
        publish(folder / target.name, target)
