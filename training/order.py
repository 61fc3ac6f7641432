"""In which order items come up, and which make a batch. Arrays in, arrays out, no files."""

from typing import NamedTuple

import numpy as np


def by_shards(shard: np.ndarray, mixed_shards: int, rng: np.random.Generator) -> np.ndarray:
    """An order that is random, and comes to a few shards at a time.

    Items of `mixed_shards` shards come up together, and of no more: the shards stand in a random
    circle, and what lies in each is spread evenly over a part of the way round. Each enters as
    another leaves, so that whoever reads in this order can fetch one while it reads the others.
    Those in which the way begins come up at its end again.

    Args:
        shard: (N,) integers from 0, where each item lies.
        mixed_shards: how many shards are shuffled together.
        rng: the generator.

    Returns:
        (N,) int64, a permutation.
    """
    used, shard = np.unique(shard, return_inverse=True)
    if len(used) <= mixed_shards:
        return rng.permutation(len(shard))
    place = rng.permutation(len(used))[shard]
    return np.argsort((place + mixed_shards * rng.random(len(shard))) % len(used))


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
        (V,) shards in the order in which they come up, and the (V,) positions of their first items,
        ascending: of each half, since what came up in the first may have to be fetched again.
    """
    half = len(shard) // 2
    visits = list[tuple[np.ndarray, np.ndarray]]()
    for start, part in ((0, shard[:half]), (half, shard[half:])):
        shards, positions = np.unique(part, return_index=True)
        order = np.argsort(positions)
        visits.append((shards[order], start + positions[order]))
    return np.concatenate([v[0] for v in visits]), np.concatenate([v[1] for v in visits])
