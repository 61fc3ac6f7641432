"""How well batches are mixed: of how many sources the samples of a batch are, in bits.

A sample of one source counts as that source, one of several as an equal part of each. The entropy
of a batch's sources is largest, log2 of the batch size, where no two samples share a source (larger
for samples of several sources). What can be reached depends on how many sources there are, so the
same samples in one order over all shards are the measure.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.sample import SampleRow
from schemas.store import Place
from schemas.tables import arrow_schema
from training.batches import EpochPlan
from training.index import SampleIndex, made_samples
from training.order import into_batches

_CHUNK_BATCHES = 2**15


class Sources(NamedTuple):
    """Which sources each of N samples is of; those of sample n are begin[n] and on."""

    begin: np.ndarray
    """(N + 1,) int64"""
    source: np.ndarray
    """integers from 0"""
    number: int
    """how many sources there are"""


class Mixing(NamedTuple):
    """How well the batches of an epoch are mixed."""

    mean_bits: float
    worst_bits: float
    greatest_bits: float
    """mean of what batches had if no two samples shared a source"""
    near_share: float
    """of samples, expected: a source of theirs is in the batch before, too"""


def read_sources(dataset: Place, index: SampleIndex) -> Sources:
    """The sources of all samples, in the order of the index.

    Raises:
        DatasetError: if a table is missing or damaged.
    """
    columns = ["key", "source_ids"]
    nothing = arrow_schema(SampleRow).empty_table().select(columns)
    tables = [made_samples(dataset, shard, columns) for shard in index.shards]
    rows = pa.concat_tables([nothing, *tables])
    lists = rows.take(pc.sort_indices(rows.column("key"))).column("source_ids").combine_chunks()
    flat = lists.flatten().dictionary_encode()
    counts = pc.list_value_length(lists).to_numpy()
    begin = np.concatenate([[0], np.cumsum(counts)])
    return Sources(begin, flat.indices.to_numpy(), len(flat.dictionary))


def mixing(plan: EpochPlan, sources: Sources) -> Mixing:
    """How well the batches of a plan are mixed."""
    order = np.argsort(plan.batch, kind="stable")
    entry, batch = plan.entry[order], plan.batch[order]
    num_batches = int(batch[-1]) + 1
    bits, greatest = np.empty(num_batches), np.empty(num_batches)
    near = 0.0
    # So many at once, since packs have dozens of sources each.
    for first in range(0, num_batches, _CHUNK_BATCHES):
        last = min(first + _CHUNK_BATCHES, num_batches)
        # One more in front, for what the first has in common with it.
        begin, end = np.searchsorted(batch, [max(first - 1, 0), last])
        part = _parts(entry[begin:end], batch[begin:end], sources)
        skipped = first - max(first - 1, 0)
        base = max(first - 1, 0)
        bits[first:last] = _entropy(part, base, last)[skipped:]
        greatest[first:last] = _greatest(part, base, last)[skipped:]
        near += _near(part, first)
    return Mixing(
        mean_bits=float(bits.mean()),
        worst_bits=float(bits.min()),
        greatest_bits=float(greatest.mean()),
        near_share=near / len(entry),
    )


def fully_shuffled(plan: EpochPlan, batch_size: int, seed: int) -> EpochPlan:
    """The same samples in one order over all shards."""
    order = np.random.default_rng(seed).permutation(len(plan.entry))
    shuffled = EpochPlan(*(column[order] for column in plan))
    return shuffled._replace(batch=into_batches(shuffled.group, batch_size).batch_of_each())


class _Parts(NamedTuple):
    """(P,) each: a source of a sample."""

    batch: np.ndarray
    source: np.ndarray
    share: np.ndarray
    """of its sample"""
    size: np.ndarray
    """samples in the batch"""
    number: int
    """how many sources there are"""


def _parts(entry: np.ndarray, batch: np.ndarray, sources: Sources) -> _Parts:
    begin, counts = sources.begin[entry], np.diff(sources.begin)[entry]
    row = np.repeat(np.arange(len(entry)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = np.bincount(batch - batch[0])[batch - batch[0]]
    return _Parts(
        batch=batch[row],
        source=sources.source[begin[row] + within],
        share=1 / counts[row],
        size=size[row],
        number=sources.number,
    )


def _entropy(parts: _Parts, first: int, last: int) -> np.ndarray:
    """Bits of each batch."""
    pair, which = np.unique(parts.batch * parts.number + parts.source, return_inverse=True)
    p = np.bincount(which, weights=parts.share / parts.size)
    return np.bincount(pair // parts.number - first, -p * np.log2(p), last - first)


def _greatest(parts: _Parts, first: int, last: int) -> np.ndarray:
    p = parts.share / parts.size
    return np.bincount(parts.batch - first, -p * np.log2(p), last - first)


def _near(parts: _Parts, first: int) -> float:
    """Samples from batch `first` on that share a source with the batch before, expected."""
    pair = parts.batch * parts.number + parts.source
    asked = parts.batch >= first
    before = np.isin(pair[asked] - parts.number, pair)
    return float(parts.share[asked][before].sum())
