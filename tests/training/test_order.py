import numpy as np
import pytest

from training.order import by_shards, into_batches


@pytest.mark.parametrize("mixed", [1, 3, 100])
def test_no_more_shards_are_needed_than_are_mixed(mixed: int) -> None:
    rng = np.random.default_rng(0)
    shard = rng.integers(0, 10, 2000)
    order = by_shards(shard, mixed, np.random.default_rng(1))
    assert sorted(order) == list(range(2000))
    seen = shard[order]
    last = {int(s): int(np.flatnonzero(seen == s)[-1]) for s in range(10)}
    first = {int(s): int(np.flatnonzero(seen == s)[0]) for s in range(10)}
    at_hand = [sum(first[s] <= at <= last[s] for s in range(10)) for at in range(2000)]
    assert max(at_hand) == min(mixed, 10)
    other = by_shards(shard, mixed, np.random.default_rng(2))
    assert not np.array_equal(order, other)
    assert np.array_equal(order, by_shards(shard, mixed, np.random.default_rng(1)))


def test_an_order_of_nothing() -> None:
    nothing = np.zeros(0, np.int64)
    assert len(by_shards(nothing, 4, np.random.default_rng(0))) == 0
    assert len(into_batches(nothing, 2).bounds) == 1


def test_batches_are_of_one_group_and_small_ones_come_last() -> None:
    group = np.array([5, 7, 5, 7, 7, 5, 7, 5, 5, 9])
    order = into_batches(group, 2)
    expected = [[0, 2], [1, 3], [4, 6], [5, 7], [8], [9]]
    assert [order.batch(number).tolist() for number in range(6)] == expected
    assert len(order.bounds) == 7
    for number, batch in enumerate(expected):
        assert (order.batch_of_each()[batch] == number).all()
