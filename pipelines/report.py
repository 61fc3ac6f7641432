"""What the command says: the plan before, the result after."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from pipelines.command import RETRY
from pipelines.job import Job
from pipelines.licences import UNKNOWN_LICENCE, LicencePolicy
from pipelines.plan import Committed, Portion
from pipelines.shards import num_retryable
from schemas.manifest import read_manifest
from schemas.wording import KIND_NAMES, counted

_BYTES_PER_MIB = 2**20
_RETRY_CURE = f"once the sources are well, the same command with {RETRY}"
_HR_BYTES_PER_CORE_SECOND = 0.7 * _BYTES_PER_MIB
"""HR bytes per second and core: a cautious one of 0.5 to 3 measured with the shipped recipes."""


def describe_plan(job: Job, plan: Committed, policy: LicencePolicy) -> str:
    """What will be made: samples, shards, size and time."""
    sources, portions = plan
    kinds = _count(portions, lambda portion: portion.kind)
    splits = _count(portions, lambda portion: portion.split)
    licences = _count(portions, lambda portion: portion.licence or UNKNOWN_LICENCE)
    size = sum(portion.estimated_bytes for portion in portions)
    workers = counted(job.num_workers, "worker")
    seconds = size / _HR_BYTES_PER_CORE_SECOND / job.num_workers
    reasons = Counter(sources.column("reason").to_pylist())
    usable = reasons.pop("", 0)
    left_out = "".join(f", {count} {reason}" for reason, count in sorted(reasons.items()))
    taken = policy.taken(sources.column("licence").to_pylist())
    allowed = (f"{pattern}: {', '.join(of)}" for pattern, of in taken.items())
    lines = [
        f"Plan: {counted(plan.num_samples, 'sample')} ({', '.join(_by_kind(kinds))}) x "
        f"{counted(len(job.recipe.streams), 'LR stream')}, in {counted(len(plan.shards), 'shard')}",
        *_additions(plan),
        f"  sources   {usable} usable{left_out}",
        f"  splits    {', '.join(f'{name} {count}' for name, count in sorted(splits.items()))}",
        f"  licences  {', '.join(f'{name} {count}' for name, count in sorted(licences.items()))}",
        *(f"  allowed   {pattern}" for pattern in allowed),
        f"  size      about {size / _BYTES_PER_MIB:.0f} MiB (estimate)",
        f"  time      about {duration(seconds)} with {workers} (estimate)",
        f"  output    {job.output}",
    ]
    return "\n".join(lines) + "\n"


def _count(portions: Iterable[Portion], of: Callable[[Portion], str]) -> Counter[str]:
    """Samples by something that all samples of a portion share."""
    counts = Counter[str]()
    for portion in portions:
        counts[of(portion)] += portion.num_samples
    return counts


def _additions(plan: Committed) -> Iterator[str]:
    """A line for each generation but the first."""
    samples, shards = Counter[int](), Counter[int]()
    for generation, of_one in itertools.groupby(plan.portions, lambda p: p.generation):
        portions = list(of_one)
        samples[generation] = sum(portion.num_samples for portion in portions)
        shards[generation] = len({portion.shard for portion in portions})
    for number in range(1, plan.num_generations):
        told = f"{counted(samples[number], 'sample')} in {counted(shards[number], 'shard')}"
        yield f"  added     {told}, generation {number}"


def _by_kind(kinds: Counter[str]) -> list[str]:
    return [counted(kinds[kind], name) for kind, name in KIND_NAMES.items() if kinds[kind]]


def duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 120:
        return counted(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def describe_result(job: Job, seconds: float) -> str:
    """What was made: samples, shards, bytes, what was left out and why, and the speed."""
    manifest = read_manifest(job.layout.root)
    num_samples = sum(manifest.splits.values())
    size = sum(shard.files[0].size for shard in manifest.shards)
    num_to_retry = num_retryable(job.layout, manifest.shards)
    failures = [f"{count} {reason}" for reason, count in manifest.failures.items()]
    lines = [
        f"Done: {counted(num_samples, 'sample')} in {counted(len(manifest.shards), 'shard')}, "
        f"{size / _BYTES_PER_MIB:.1f} MiB, {seconds:.1f} s ({num_samples / seconds:.2f} samples/s)",
        f"  splits    {', '.join(f'{name} {count}' for name, count in manifest.splits.items())}",
        f"  left out  {', '.join(failures) or 'nothing'}",
        f"  dataset   {job.output}",
        f"  look      python -m pipelines.contact_sheet {job.output} --output contact-sheet.png",
        f"  train     python -m training.train {job.output}",
    ]
    if num_to_retry:
        lines.insert(3, f"  retry     {counted(num_to_retry, 'sample')}: {_RETRY_CURE}")
    return "\n".join(lines) + "\n"
