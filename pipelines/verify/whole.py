"""What spans all shards: the manifest, the tables beside it, the documents, files of no one."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.audit.dataset import Dataset, read_damageable
from pipelines.audit.files import inside
from pipelines.audit.report import Finding
from pipelines.documents import documents
from pipelines.finish import describe_dataset
from pipelines.layout import Layout
from pipelines.verify.shard import file_problem, shard_files
from schemas.manifest import MANIFEST_NAME, Manifest, Shard
from schemas.store import Place, StorePath


@dataclass(frozen=True)
class WholeTask:
    """A dataset whose tables are all what its manifest describes."""

    root: Place
    manifest: Manifest


def spanning_tables(layout: Layout) -> list[Place]:
    """The tables that span all shards, as the manifest lists them."""
    return [layout.plan, layout.sources, layout.shards]


def spanning_findings(layout: Layout, manifest: Manifest) -> Iterator[Finding]:
    """What is wrong with the bytes of the documents, and of the tables that span all shards."""
    described = {file.path: file for file in (*manifest.documents, *manifest.tables)}
    documents = [inside(layout.root, file.path) for file in manifest.documents]
    for file in (*documents, *spanning_tables(layout)):
        path = layout.relative(file)
        if problem := file_problem(file, described.get(path)):
            yield Finding(check=problem[0], path=path, detail=problem[1])


def extra_findings(layout: Layout, manifest: Manifest) -> Iterator[Finding]:
    """Files that the manifest does not account for."""
    expected = {layout.manifest, *spanning_tables(layout)}
    expected |= {layout.root / file.path for file in manifest.documents}
    for shard in manifest.shards:
        expected |= {*shard_files(layout, shard.shard), layout.marker(shard.shard)}
    paths = {layout.relative(file) for file in expected}
    ours = {layout.logs.name, layout.staging.name}  # no part of the dataset
    for path in sorted(_files_below(layout.root) - paths):
        if path.partition("/")[0] not in ours:
            told = f"{MANIFEST_NAME} does not account for it"
            yield Finding(check="extra", path=path, detail=told)


def _files_below(root: Place) -> set[str]:
    if isinstance(root, StorePath):
        return {file.relative_to(root).as_posix() for file in root.walk()}
    return {
        Path(folder, name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in names
    }


def check_whole(task: WholeTask) -> list[Finding]:
    """Make the manifest again from the tables, and compare. Runs in a worker process."""
    dataset = Dataset(Layout(task.root), task.manifest)
    layout, manifest = dataset
    try:
        shards = read_damageable(layout.shards, Shard)
        again = describe_dataset(dataset.job(task.root, num_workers=1), manifest.shards)
        made_again = documents(again, layout)
    except (OSError, ValueError) as error:  # Arrow's errors are kinds of these
        return [Finding(check="table", path="index", detail=" ".join(str(error).split()))]
    findings = []
    if again.data != layout.manifest.read_bytes():
        told = _differing(manifest, again) or "it is not written as this release writes it"
        findings.append(Finding(check="manifest", path=MANIFEST_NAME, detail=told))
    if shards != manifest.shards:
        told = f"not the shards of {MANIFEST_NAME}"
        findings.append(Finding(check="rows", path=layout.relative(layout.shards), detail=told))
    for path, data in made_again.items():
        file = layout.root / path
        if file.is_file() and file.read_bytes() != data:
            told = f"it is not what {MANIFEST_NAME} and the tables give"
            findings.append(Finding(check="document", path=path, detail=told))
    return findings


def _differing(found: Manifest, again: Manifest) -> str:
    names: Sequence[str] = [
        name for name in Manifest.model_fields if getattr(found, name) != getattr(again, name)
    ]
    return f"the tables give another {' and '.join(names)}" if names else ""
