"""What a training run will be like, before it begins: `python -m training.simulate DATASET`.

How long an epoch is, how fast samples can come, how large a cache of shards has to be, and how well
batches are mixed; for the same options as training. Of the dataset only the manifest and the tables
are read, no shard is opened; what work costs is measured on synthetic samples on this machine.
"""

import argparse
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.manifest import Manifest, read_manifest
from schemas.record import Record
from schemas.source import SPLITS, TRAIN
from schemas.store import Place
from schemas.wording import counted
from training.arguments import (
    HelpFormatter,
    add_stream_options,
    at_least,
    run_command,
    stream_parts,
    stream_settings,
)
from training.batches import Batches, EpochPlan, Part, room_of_copies
from training.calibration import codings_of, measure_rates, seconds_by_term
from training.config import StreamSettings, UserError
from training.dataset import SampleStream
from training.index import SampleIndex
from training.shards import CacheOptions
from training.shuffle import fully_shuffled, mixing, read_sources
from training.work import expected_work, hr_settings

logger = logging.getLogger(__name__)

_POOR_MIXING = 0.9  # of the bits of a full shuffle
_MUCH_LEFT_OUT = 0.05  # of an epoch
_BYTES_PER_GIB = 2**30


class Machines(Record):
    """Who shares the work."""

    ranks: int = 1
    """processes that train"""
    ranks_per_machine: int = 1
    """of these, on one machine"""
    workers: int = 2
    """processes that read and decode, of each rank; 0: it does so itself"""
    cores: int = 1
    """cores of a machine for all of its readers"""

    @property
    def readers(self) -> int:
        """Processes of a machine that read."""
        return self.ranks_per_machine * max(self.workers, 1)


class EpochLength(Record):
    """What an epoch of `SampleStream.epoch` consists of."""

    samples: int
    """windows, in all batches"""
    batches: int
    """of them, before ranks take their shares"""
    batches_per_rank: int
    """equally many for each"""
    batches_left_out: int
    """at the end, since they do not divide evenly"""
    batches_added: int
    """of those that follow, for the same reason"""


class Speed(Record):
    """How fast samples come, if nothing but decoding limits them; rates are of this machine."""

    work: dict[str, float]
    """of a sample, mean of what may be drawn: amounts by name (`training.work`)"""
    rates: dict[str, float]
    """seconds of one core for a unit of each, measured"""
    seconds: dict[str, float]
    """of one core for a sample: work times rates"""
    samples_per_second_of_core: float
    """1 / the sum of `seconds`"""
    samples_per_second_of_worker: float
    """its share of the machine's cores; at most a core"""
    samples_per_second_of_rank: float
    """of all its workers"""
    samples_per_second: float
    """of all ranks"""
    epoch_seconds: float
    """samples of an epoch, divided by that"""
    bytes_per_sample: float
    """that are read from the disk or the store"""
    bytes_per_second_of_rank: float
    """that must come from there for that speed"""


class CacheNeed(Record):
    """Shards that have to be at hand, where they are kept on a disk of the machine.

    A shard is, from its first use to its last one; but one that the order comes to at the beginning
    and at the end of an epoch is not in between.
    """

    shards: int
    """most that a machine needs at once"""
    bytes: int
    """most that these take: with less, some come more often than need be"""
    bytes_per_epoch: int
    """fetched by the machine that needs most"""
    room_bytes: int
    """what training asks for, of a store, for shards that are fetched meanwhile, too"""


class ShuffleQuality(Record):
    """Entropy of the sources in a batch, bits; `training.shuffle`."""

    greatest_bits: float
    """if no two samples of a batch shared a source; mean over batches"""
    mean_bits: float
    """over batches"""
    worst_bits: float
    """of the least mixed batch"""
    full_mean_bits: float
    """the same samples in one order over all shards; mean over batches"""
    full_worst_bits: float
    """of the least mixed batch of that order"""
    near_share: float
    """of samples of which a source is in the batch before, too"""
    full_near_share: float
    """the same in one order over all shards"""


class Simulation(Record):
    """What `simulate` finds."""

    dataset: str
    """where it lies"""
    split: str
    """train or validation"""
    settings: StreamSettings
    """of the stream"""
    machines: Machines
    """who shares the work"""
    shards: int
    """that hold samples of the epoch"""
    epoch: EpochLength
    """what an epoch consists of"""
    speed: Speed
    """how fast samples come"""
    cache: CacheNeed
    """what has to be at hand"""
    shuffle: ShuffleQuality
    """how well batches are mixed"""
    warnings: list[str]
    """what is poor, and what to do about it"""


def simulate(
    dataset: Place,
    split: str,
    settings: StreamSettings,
    machines: Machines,
    view: Path | None = None,
) -> Simulation:
    """Predict a run by the first of its epochs.

    Raises:
        DatasetError: if there is no dataset, or a table is damaged.
        UserError: if no batch can be made as asked.
    """
    if machines.ranks % machines.ranks_per_machine:
        raise UserError(
            f"--ranks {machines.ranks} on machines of --ranks-per-machine "
            f"{machines.ranks_per_machine}: give a multiple"
        )
    manifest = read_manifest(dataset)
    stream = SampleStream([Part(dataset, view)], split, settings, CacheOptions(gib=0))
    (part,) = stream.parts
    plan = part.plan(0)
    epoch = _epoch_length(stream, plan, machines.ranks)
    found = Simulation(
        dataset=str(dataset),
        split=split,
        settings=settings,
        machines=machines,
        shards=len(np.unique(part.index.shard[plan.entry])),
        epoch=epoch,
        speed=_speed(dataset, manifest, split, part.index, plan, settings, machines),
        cache=_cache_need(manifest, part, plan, settings.mixed_shards, epoch, machines),
        shuffle=_shuffle_quality(dataset, part.index, plan, settings),
        warnings=[],
    )
    return found.model_copy(update={"warnings": _warnings(found)})


def _epoch_length(stream: SampleStream, plan: EpochPlan, ranks: int) -> EpochLength:
    each = len(stream.of_rank(0, ranks))
    taken = each * ranks
    return EpochLength(
        samples=len(plan.entry),
        batches=stream.batches_per_epoch,
        batches_per_rank=each,
        batches_left_out=max(stream.batches_per_epoch - taken, 0),
        batches_added=max(taken - stream.batches_per_epoch, 0),
    )


def _speed(
    dataset: Place,
    manifest: Manifest,
    split: str,
    index: SampleIndex,
    plan: EpochPlan,
    settings: StreamSettings,
    machines: Machines,
) -> Speed:
    jpeg_quality = hr_settings(manifest).stored_quality(split)
    work = expected_work(
        dataset,
        manifest,
        index,
        plan,
        settings,
        is_jpeg=jpeg_quality is not None,
        in_workers=machines.workers > 0,
    )
    logger.info("measuring what decoding costs on this machine ...")
    rates = measure_rates(codings_of(work), jpeg_quality)
    rates = {name: rate for name, rate in rates.items() if name in work}
    seconds = seconds_by_term(work, rates)
    of_core = 1 / sum(seconds.values())
    of_machine = of_core * min(machines.readers, machines.cores)
    of_rank = of_machine / machines.ranks_per_machine
    return Speed(
        work=dict(work),
        rates=rates,
        seconds=seconds,
        samples_per_second_of_core=of_core,
        samples_per_second_of_worker=of_machine / machines.readers,
        samples_per_second_of_rank=of_rank,
        samples_per_second=of_rank * machines.ranks,
        epoch_seconds=len(plan.entry) / (of_rank * machines.ranks),
        bytes_per_sample=work["read_bytes"],
        bytes_per_second_of_rank=work["read_bytes"] * of_rank,
    )


def _cache_need(
    manifest: Manifest,
    part: Batches,
    plan: EpochPlan,
    mixed_shards: int,
    epoch: EpochLength,
    machines: Machines,
) -> CacheNeed:
    tars = {shard.shard: shard.files[0].size for shard in manifest.shards if shard.files}
    sizes = np.array([tars.get(shard, 0) for shard in part.index.shards], np.int64)
    used = np.unique(part.index.shard[part.items.entry])
    taken = plan.batch < epoch.batches_per_rank * machines.ranks
    shard = part.index.shard[plan.entry[taken]].astype(np.int64)
    step, rank = np.divmod(plan.batch[taken], machines.ranks)
    most_shards, most_bytes, most_fetched = 0, 0, 0
    for machine in range(machines.ranks // machines.ranks_per_machine):
        is_here = rank // machines.ranks_per_machine == machine
        stays = _stays(shard[is_here], step[is_here], mixed_shards)
        most_shards = max(most_shards, _most_at_once(stays, np.ones_like(sizes)))
        most_bytes = max(most_bytes, _most_at_once(stays, sizes))
        most_fetched = max(most_fetched, int(sizes[stays.shard].sum()))
    return CacheNeed(
        shards=most_shards,
        bytes=most_bytes,
        bytes_per_epoch=most_fetched,
        room_bytes=room_of_copies(sizes[used].tolist(), mixed_shards),
    )


class _Stays(NamedTuple):
    """When shards are at hand, (V,) each."""

    shard: np.ndarray
    first: np.ndarray
    """step of the first use"""
    last: np.ndarray
    """step of the last use"""


def _stays(shard: np.ndarray, step: np.ndarray, mixed_shards: int) -> _Stays:
    """When shards are at hand that are used in some steps, (N,) integers each.

    What lies in a shard is spread over so much of an epoch as `mixed_shards` are of all. So a shard
    that is in use for longer goes round the end, or some of its samples waited for others of their
    length: it goes where it is not used for longest, and comes a second time.
    """
    if not len(shard):
        return _Stays(shard, step, step)
    order = np.lexsort((step, shard))
    shard, step = shard[order], step[order]
    begin = np.flatnonzero(np.diff(shard, prepend=-1))
    end = np.append(begin[1:], len(shard))
    span = (step.max() + 1) * (mixed_shards + 1) / len(begin)  # one more, since it is random
    is_long = step[end - 1] - step[begin] > span
    gaps = np.diff(step, prepend=step[:1])
    again = [
        int(b + 1 + gaps[b + 1 : e].argmax())
        for b, e in zip(begin[is_long], end[is_long], strict=True)
    ]
    first = np.sort(np.append(begin, again).astype(np.int64))
    last = np.append(first[1:], len(shard)) - 1
    return _Stays(shard[first], step[first], step[last])


def _most_at_once(stays: _Stays, weights: np.ndarray) -> int:
    """The largest sum of weights of the shards that are at hand in a step; (S,) `weights`."""
    if not len(stays.shard):
        return 0
    change = np.zeros(stays.last.max() + 2, np.int64)
    np.add.at(change, stays.first, weights[stays.shard])
    np.add.at(change, stays.last + 1, -weights[stays.shard])
    return int(np.cumsum(change).max())


def _shuffle_quality(
    dataset: Place, index: SampleIndex, plan: EpochPlan, settings: StreamSettings
) -> ShuffleQuality:
    sources = read_sources(dataset, index)
    ours = mixing(plan, sources)
    full = mixing(fully_shuffled(plan, settings.batch_size, settings.seed), sources)
    return ShuffleQuality(
        greatest_bits=ours.greatest_bits,
        mean_bits=ours.mean_bits,
        worst_bits=ours.worst_bits,
        full_mean_bits=full.mean_bits,
        full_worst_bits=full.worst_bits,
        near_share=ours.near_share,
        full_near_share=full.near_share,
    )


def _warnings(found: Simulation) -> list[str]:
    settings, machines, epoch = found.settings, found.machines, found.epoch
    warnings = []
    if machines.readers > machines.cores:
        best = max(machines.cores // machines.ranks_per_machine, 1)
        warnings.append(
            f"{counted(machines.readers, 'reader')} share {counted(machines.cores, 'core')} of a "
            f"machine: more than --workers {best} is no faster"
        )
    if not epoch.batches_per_rank:
        warnings.append(
            f"{counted(epoch.batches, 'batch', 'batches')} an epoch are too few for "
            f"{machines.ranks} ranks, which get none: lower --batch-size, or add --uneven pad"
        )
    elif epoch.batches_left_out > _MUCH_LEFT_OUT * epoch.batches:
        warnings.append(
            f"{epoch.batches_left_out} of {epoch.batches} batches of an epoch are left out: lower "
            "--batch-size, or add --uneven pad"
        )
    is_poor = found.shuffle.mean_bits < _POOR_MIXING * found.shuffle.full_mean_bits
    if is_poor and settings.mixed_shards < found.shards:
        warnings.append(
            f"batches are of {found.shuffle.mean_bits:.2f} bits of sources, a full shuffle has "
            f"{found.shuffle.full_mean_bits:.2f}: raise --mixed-shards, and the cache with it"
        )
    if settings.mixed_shards > found.shards:
        warnings.append(
            f"--mixed-shards {settings.mixed_shards} of {counted(found.shards, 'shard')}: all have "
            "to be at hand; if that is too much, lower it, or make smaller shards (shard_mib of "
            "the recipe)"
        )
    return warnings


# --- Telling --------------------------------------------------------------------------------

_TERMS = {
    "fixed": ("windows", "flows"),
    "record": ("record_bytes",),
    "reading": ("read_bytes",),
    "LR decoding": ("lr_opened", "lr_coded_pixels", "lr_coded_bytes"),
    "LR colours": ("lr_frames", "lr_pixels"),
    "HR tiles": ("hr_tiles", "hr_pixels", "hr_bytes"),
    "motion": ("flow_pixels", "flow_blocks"),
    "stacking": ("stacked_bytes",),
    "handing over": ("handed_bytes",),
}


def report(found: Simulation) -> str:
    """The findings as lines for a person."""
    lines = [
        _heading(found),
        "",
        *_epoch_lines(found),
        *_speed_lines(found),
        *_cache_lines(found.cache),
        *_shuffle_lines(found.shuffle),
    ]
    if found.warnings:
        lines += ["", *(f"warning: {warning}" for warning in found.warnings)]
    return "\n".join(lines)


def _heading(found: Simulation) -> str:
    settings, machines = found.settings, found.machines
    return (
        f"{found.dataset}, {found.split}: batches of {settings.batch_size}, windows of "
        f"{settings.frames} frames, crops of {settings.crop}; "
        f"{counted(machines.ranks, 'rank')} of {counted(machines.workers, 'worker')}, "
        f"{machines.ranks_per_machine} on a machine of {counted(machines.cores, 'core')}"
    )


def _epoch_lines(found: Simulation) -> list[str]:
    epoch = found.epoch
    uneven = ""
    if epoch.batches_left_out:
        uneven = f", {epoch.batches_left_out} left out"
    if epoch.batches_added:
        uneven = f", {epoch.batches_added} of the next epoch added"
    return [
        _line("epoch", f"{counted(epoch.samples, 'sample')} in {counted(found.shards, 'shard')}"),
        _line("", f"{counted(epoch.batches, 'batch', 'batches')}, "
              f"{epoch.batches_per_rank} for each rank{uneven}"),
    ]  # fmt: skip


def _speed_lines(found: Simulation) -> list[str]:
    speed = found.speed
    per_sample = sum(speed.seconds.values())
    shares = sorted(
        ((_term_seconds(speed.seconds, names), term) for term, names in _TERMS.items()),
        reverse=True,
    )
    return [
        _line("speed", "predicted for this machine, if nothing but its cores is a limit"),
        _line("", f"a core    {speed.samples_per_second_of_core:8.1f} samples/s, "
              f"{1e3 * per_sample:.1f} ms a sample"),
        _line("", f"a worker  {speed.samples_per_second_of_worker:8.1f} samples/s"),
        _line("", f"a rank    {speed.samples_per_second_of_rank:8.1f} samples/s, "
              f"{_mb(speed.bytes_per_second_of_rank)}/s to be read"),
        _line("", f"all       {speed.samples_per_second:8.1f} samples/s, "
              f"{speed.epoch_seconds:.0f} s an epoch"),
        _line("", f"a sample reads {_mb(speed.bytes_per_sample)}; its time by parts:"),
        _line("", ", ".join(f"{term} {seconds / per_sample:.0%}" for seconds, term in shares)),
    ]  # fmt: skip


def _term_seconds(seconds: dict[str, float], names: tuple[str, ...]) -> float:
    return sum(value for name, value in seconds.items() if name.partition(".")[0] in names)


def _cache_lines(cache: CacheNeed) -> list[str]:
    gib = math.ceil(100 * cache.room_bytes / _BYTES_PER_GIB) / 100
    return [
        _line("cache", f"{_mb(cache.bytes)} at least ({counted(cache.shards, 'shard')} at once); "
              f"training asks for --cache-gib {gib:.4g}"),
        _line("", f"{_mb(cache.bytes_per_epoch)} fetched in an epoch by a machine"),
    ]  # fmt: skip


def _shuffle_lines(shuffle: ShuffleQuality) -> list[str]:
    def row(name: str, mean: float, worst: float, near: float) -> str:
        return _line("", f"{name:27} {mean:5.2f}  {worst:5.2f}   {near:.0%}")

    near = shuffle.near_share, shuffle.full_near_share
    return [
        _line("shuffle", "bits of sources in a batch   mean  worst   samples whose source is in "
              "the batch before"),
        row("this order", shuffle.mean_bits, shuffle.worst_bits, near[0]),
        row("one order over all shards", shuffle.full_mean_bits, shuffle.full_worst_bits, near[1]),
        _line("", f"{'no source twice':27} {shuffle.greatest_bits:5.2f}"),
    ]  # fmt: skip


def _line(name: str, text: str) -> str:
    return f"{name:9}{text}"


def _mb(size: float) -> str:
    return f"{size / 1e6:.4g} MB"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.simulate",
        description="Predict length, speed, cache and mixing of a training run.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_stream_options(parser)
    add = parser.add_argument
    add("--split", choices=SPLITS, default=TRAIN, help="which samples")
    add("--ranks", type=at_least(1), default=1, help="processes that train")
    add("--ranks-per-machine", type=at_least(1), help="of these, on one machine; default: all")
    add("--workers", type=at_least(0), default=2, help="processes that read, of each rank")
    add("--cores", type=at_least(1), default=os.cpu_count() or 1, help="of a machine, to share")
    add("--json", action="store_true", help="print what was found as JSON")
    given = parser.parse_args(arguments)
    return run_command(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    machines = Machines(
        ranks=given.ranks,
        ranks_per_machine=given.ranks_per_machine or given.ranks,
        workers=given.workers,
        cores=given.cores,
    )
    if len(given.datasets) > 1:
        raise UserError("give one dataset: each of a mixture is predicted by itself")
    (part,) = stream_parts(given)
    found = simulate(part.dataset, given.split, stream_settings(given), machines, part.view)
    told = found.model_dump_json(indent=1) if given.json else report(found)
    sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    raise SystemExit(main())
