import numpy as np
import pytest

from training.order import by_shards, first_uses, into_batches


def shards_in(window: np.ndarray) -> int:
    return len(np.unique(window))


@pytest.mark.parametrize("mixed", [1, 3, 20])
def test_a_few_shards_are_mixed_all_along(mixed: int) -> None:
    shard = np.random.default_rng(0).permutation(np.repeat(np.arange(0, 400, 10), 100))
    order = by_shards(shard, mixed, np.random.default_rng(1))
    assert sorted(order) == list(range(4000))
    seen = shard[order]
    each = [shards_in(seen[at : at + 100]) for at in range(0, 3900, 10)]
    assert mixed - 1 <= min(each) and max(each) <= mixed + 2
    used = [np.flatnonzero(seen == number) for number in range(0, 400, 10)]
    # At hand from its first item to its last, but for those that go round the end.
    spans = [int(at[-1] - at[0]) for at in used]
    assert sum(span > 100 * (mixed + 2) for span in spans) <= mixed
    other = by_shards(shard, mixed, np.random.default_rng(2))
    assert not np.array_equal(order, other)
    assert np.array_equal(order, by_shards(shard, mixed, np.random.default_rng(1)))


def test_few_shards_are_mixed_whole() -> None:
    shard = np.repeat([5, 700], 500)
    seen = shard[by_shards(shard, 2, np.random.default_rng(0))]
    assert all(180 < (part == 5).sum() < 320 for part in (seen[:500], seen[500:]))


def test_a_sequence_tells_when_it_comes_to_a_shard() -> None:
    shards, positions = first_uses(np.array([4, 4, 2, 7, 7, 2, 9, 4]))
    assert shards.tolist() == [4, 2, 7, 7, 2, 9, 4]
    assert positions.tolist() == [0, 2, 3, 4, 5, 6, 7]


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
