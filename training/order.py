"""In which order items come up, and which make a batch. Arrays in, arrays out, no files."""

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


def into_batches(group: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut a sequence of items into batches of one group each.

    Batches come in the order in which they are complete; those that stay smaller come last.

    Args:
        group: (N,) integers; items of one group may share a batch.
        batch_size: items in a batch.

    Returns:
        Positions in the sequence, ascending, (batch_size,) int64 or fewer each.
    """
    if not len(group):
        return []
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order[0]] - 1))
    sizes = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    begins = np.flatnonzero(rank % batch_size == 0)
    ends = np.append(begins[1:], len(order))
    turns = np.lexsort((order[ends - 1], ends - begins < batch_size))
    return [order[begins[turn] : ends[turn]] for turn in turns]


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
