"""The proof that a dataset is the published one, file by file, and what differs if it is not."""

from collections.abc import Iterator

from pipelines.audit.dataset import Dataset, open_dataset, read_damageable
from pipelines.audit.files import changed_files, changed_markers, described_files
from pipelines.audit.report import Finding, Report
from pipelines.audit.sources import FoundSources
from pipelines.command import RETRY
from pipelines.job import Job
from pipelines.pool import WorkerPool
from pipelines.shards import describe_file
from schemas.manifest import MANIFEST_NAME, Shard
from schemas.record import Record, Status
from schemas.sample import SampleRow


class ShardProof(Record):
    """A shard against the published one."""

    shard: str
    """the shard"""
    is_identical: bool
    """each of its files has the published hash"""
    identical: int
    """samples of the same bytes, or left out for the same reason"""
    different: list[str]
    """keys of samples of other bytes"""
    missing: list[str]
    """keys of samples that were published and could not be made"""


class MaterializeReport(Report):
    """What was made, against what was published."""

    shards: list[ShardProof]
    """in the order of the manifest"""

    def describe(self) -> str:
        """The report for a person; the verdict last."""
        lines = [
            f"{proof.shard}: {proof.identical} samples identical, {len(proof.different)} "
            f"different, {len(proof.missing)} missing\n"
            for proof in self.shards
            if not proof.is_identical
        ]
        verdict = (
            "NOT EQUAL: this is another dataset than the published one"
            if self.findings
            else "EQUAL: every file has the published bytes, the manifest included"
        )
        if any(proof.missing for proof in self.shards):
            verdict += (
                f". Once its sources are at hand, the same command with {RETRY} makes the rest"
            )
        return "".join(lines) + super().describe() + verdict + "\n"


def prove(published: Dataset, job: Job, found: FoundSources, pool: WorkerPool) -> MaterializeReport:
    """Hash everything that was made, and compare it with what was published."""
    root, manifest = job.layout.root, published.manifest
    absent = [Finding(check="source", detail=line) for line in sorted(found.absent.values())]
    changed = changed_files(root, described_files(manifest), pool)
    changed += changed_markers(job.layout, manifest)
    if job.layout.manifest.read_bytes() != published.layout.manifest.read_bytes():
        detail = "not the published manifest"
        changed.append(Finding(check="manifest", path=MANIFEST_NAME, detail=detail))
    paths = {finding.path for finding in changed}
    proofs = [_prove_shard(published, open_dataset(root), s, paths) for s in manifest.shards]
    return MaterializeReport(
        command="materialize",
        dataset=str(root),
        manifest_sha256=describe_file(job.layout.manifest, "", 0).sha256,
        settings={"published": str(published.layout.root)},
        looked_at={
            "sources": len(found.paths) + len(absent),
            "files": len(described_files(manifest)),
            "shards": len(proofs),
            "samples": sum(p.identical + len(p.different) + len(p.missing) for p in proofs),
        },
        not_looked_at=[],
        findings=[*absent, *changed, *_sample_findings(proofs)],
        shards=proofs,
    )


def _prove_shard(published: Dataset, made: Dataset, shard: Shard, changed: set[str]) -> ShardProof:
    planned = shard.num_samples + shard.num_left_out
    if changed.isdisjoint(file.path for file in shard.files):
        return ShardProof(
            shard=shard.shard, is_identical=True, identical=planned, different=[], missing=[]
        )
    before, after = (
        {row.key: row for row in read_damageable(d.layout.table("samples", shard.shard), SampleRow)}
        for d in (published, made)
    )
    made_keys = {key for key, row in after.items() if row.status is Status.OK}
    missing = [
        key for key, row in before.items() if row.status is Status.OK and key not in made_keys
    ]
    different = [
        key
        for key, row in before.items()
        if key not in missing and _content(row) != _content(after.get(key))
    ]
    identical = len(before) - len(missing) - len(different)
    return ShardProof(
        shard=shard.shard,
        is_identical=False,
        identical=identical,
        different=different,
        missing=missing,
    )


def _content(row: SampleRow | None) -> list[object]:
    """What a sample is, wherever it lies in the tar; empty for none."""
    if row is None:
        return []
    return [row.reason, *((member.name, member.size, member.crc32) for member in row.members)]


def _sample_findings(proofs: list[ShardProof]) -> Iterator[Finding]:
    for proof in proofs:
        for key in proof.different:
            yield Finding(check="different", shard=proof.shard, key=key, detail="other bytes")
        for key in proof.missing:
            yield Finding(check="missing", shard=proof.shard, key=key, detail="was not made")
