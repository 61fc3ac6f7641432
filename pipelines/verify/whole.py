"""What spans all shards: the manifest, the tables beside it, the documents, files of no one."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.audit.dataset import Dataset, read_damageable
from pipelines.audit.file_check import file_problem
from pipelines.audit.report import Finding
from pipelines.documents import documents
from pipelines.finish import describe_dataset
from pipelines.layout import Layout
from pipelines.shards import describe_bytes
from pipelines.verify.names import document_files, named_shards, shard_files, spanning_tables
from schemas.manifest import MANIFEST_NAME, Manifest, Shard
from schemas.store import Place, StorePath
from schemas.tables import TABLE_ERRORS


@dataclass(frozen=True)
class WholeTask:
    """A dataset whose tables are all what its manifest describes."""

    root: Place
    manifest: Manifest


def spanning_findings(layout: Layout, manifest: Manifest) -> Iterator[Finding]:
    """What is wrong with the bytes of the documents, and of the tables that span all shards."""
    described = {file.path: file for file in (*manifest.documents, *manifest.tables)}
    for file in (*document_files(layout), *spanning_tables(layout)):
        path = layout.relative(file)
        if path not in described:
            yield Finding(check="manifest", path=path, detail=f"{MANIFEST_NAME} does not list it")
        elif problem := file_problem(file, described[path]):
            yield Finding(check=problem[0], path=path, detail=problem[1])


def extra_findings(layout: Layout, manifest: Manifest) -> Iterator[Finding]:
    """Files, folders and links that the manifest does not account for."""
    # A run that was killed left its lock.
    expected = {
        layout.manifest,
        layout.shared_lock,
        *spanning_tables(layout),
        *document_files(layout),
    }
    for shard in named_shards(manifest).values():
        expected |= {*shard_files(layout, shard.shard), layout.marker(shard.shard)}
    if isinstance(layout.root, StorePath):
        paths = {layout.relative(file) for file in layout.root.walk()}
        unexpected = paths - {layout.relative(file) for file in expected}
        ours = f"{layout.logs.name}/"
        for path in sorted(path for path in unexpected if not path.startswith(ours)):
            yield _extra(path)
    else:
        yield from _extra_on_disk(layout, {Path(str(file)) for file in expected})


def _extra(path: str) -> Finding:
    return Finding(check="extra", path=path, detail=f"{MANIFEST_NAME} does not account for it")


def _extra_on_disk(layout: Layout[Path], expected: set[Path]) -> Iterator[Finding]:
    folders = {parent for file in expected for parent in file.parents}
    for place, names, files in os.walk(layout.root):
        folder = Path(place)
        if folder == layout.root:
            ours = {layout.logs.name, layout.staging.name}  # no part of the dataset
            names[:] = [name for name in names if name not in ours]
        found = sorted(folder / name for name in (*names, *files))
        names[:] = sorted(name for name in names if folder / name in folders)
        for path in found:
            if path not in expected | folders:
                yield _extra(_printable(layout, path))
            elif _leads_out(layout.root, path):
                told = f"a link that leads out of the dataset, to {path.resolve()}"
                yield Finding(check="link", path=_printable(layout, path), detail=told)


def _leads_out(root: Path, path: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(root.resolve())


def _printable(layout: Layout, path: Path) -> str:
    """A path, with whatever is no UTF-8 of it escaped."""
    return os.fsencode(layout.relative(path)).decode(errors="backslashreplace")


def check_whole(task: WholeTask) -> list[Finding]:
    """Make the manifest again from the tables, and compare. Runs in a worker process."""
    dataset = Dataset(Layout(task.root), task.manifest)
    layout, manifest = dataset
    try:
        shards = read_damageable(layout.shards, Shard)
        again = describe_dataset(dataset.job(task.root, num_workers=1), manifest.shards)
        made_again = documents(again, layout)
        is_as_written = again.data == layout.manifest.read_bytes()
    except TABLE_ERRORS as error:
        return [Finding(check="table", path="index", detail=" ".join(str(error).split()))]
    findings = []
    if not is_as_written:
        told = _differing(manifest, again) or "it is not written as this release writes it"
        findings.append(Finding(check="manifest", path=MANIFEST_NAME, detail=told))
    if shards != manifest.shards:
        told = f"not the shards of {MANIFEST_NAME}"
        findings.append(Finding(check="rows", path=layout.relative(layout.shards), detail=told))
    for path, data in made_again.items():
        problem = file_problem(layout.root / path, describe_bytes(data, path))
        if problem and problem[0] in ("size", "hash"):
            told = f"it is not what {MANIFEST_NAME} and the tables give"
            findings.append(Finding(check="document", path=path, detail=told))
    return findings


def _differing(found: Manifest, again: Manifest) -> str:
    names: Sequence[str] = [
        name for name in Manifest.model_fields if getattr(found, name) != getattr(again, name)
    ]
    return f"the tables give another {' and '.join(names)}" if names else ""
