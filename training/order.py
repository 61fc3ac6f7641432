"""In which order items come up, and which make a batch. Arrays in, arrays out, no files."""

from typing import NamedTuple

import numpy as np


def by_shards(shard: np.ndarray, mixed_shards: int, rng: np.random.Generator) -> np.ndarray:
    """An order that is random, and comes to a few shards at a time.

    The shards are shuffled and taken `mixed_shards` at a time; what lies in these is shuffled as
    one. So whoever reads in this order needs no more shards at hand, and sees each of them once.

    Args:
        shard: (N,) integers from 0, where each item lies.
        mixed_shards: how many shards are shuffled together.
        rng: the generator.

    Returns:
        (N,) int64, a permutation.
    """
    num_shards = int(shard.max(initial=-1)) + 1
    place = np.empty(num_shards, np.int64)
    place[rng.permutation(num_shards)] = np.arange(num_shards)
    return np.lexsort((rng.random(len(shard)), place[shard] // mixed_shards))


class BatchedOrder(NamedTuple):
    """A sequence of items, cut into batches."""

    positions: np.ndarray
    """(N,) int64, positions in the sequence, batch after batch, ascending in each"""
    bounds: np.ndarray
    """(B + 1,) int64, where among these each batch begins, and where the last one ends"""

    def batch(self, number: int) -> np.ndarray:
        """Positions of the items of batch `number`, (batch_size,) or fewer."""
        return self.positions[self.bounds[number] : self.bounds[number + 1]]

    def batch_of_each(self) -> np.ndarray:
        """The batch of each item of the sequence, (N,) int64."""
        batch = np.empty(len(self.positions), np.int64)
        batch[self.positions] = np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))
        return batch


def into_batches(group: np.ndarray, batch_size: int) -> BatchedOrder:
    """Cut a sequence of items into batches of one group each.

    Batches come in the order in which they are complete; those that stay smaller come last.

    Args:
        group: (N,) integers; items of one group may share a batch.
        batch_size: items in a batch.
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order[:1]] - 1))
    sizes = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    begins = np.flatnonzero(rank % batch_size == 0)
    lengths = np.diff(begins, append=len(order))
    turns = np.lexsort((order[begins + lengths - 1], lengths < batch_size))
    bounds = np.append(0, np.cumsum(lengths[turns]))
    shift = np.repeat(begins[turns] - bounds[:-1], lengths[turns])
    return BatchedOrder(order[np.arange(len(order)) + shift], bounds)


def first_uses(shard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which shards a sequence comes to, in order.

    Args:
        shard: (N,) integers, where each item lies.

    Returns:
        (S,) shards in the order in which they come up, and the (S,) positions of their first items,
        ascending.
    """
    shards, positions = np.unique(shard, return_index=True)
    order = np.argsort(positions)
    return shards[order], positions[order]
