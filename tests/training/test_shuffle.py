import numpy as np
import pytest
from scipy.stats import entropy

from training import shuffle
from training.batches import EpochPlan
from training.shuffle import Sources, fully_shuffled, mixing


def plan_of(batch: list[int]) -> EpochPlan:
    """A plan of samples 0, 1, ... in these batches."""
    number = len(batch)
    anything, nothing = np.full(number, -1), np.zeros(number, np.int64)
    return EpochPlan(np.arange(number), anything, anything, nothing + 5, nothing, np.array(batch))


def sources_of(lists: list[list[int]]) -> Sources:
    begin = np.concatenate([[0], np.cumsum([len(sources) for sources in lists])])
    return Sources(begin, np.concatenate(lists), max(map(max, lists)) + 1)


def test_entropy_of_single_sources() -> None:
    sources = [0, 1, 2, 3, 0, 0, 1, 2, 5, 5, 5, 5, 4]
    found = mixing(plan_of([0] * 4 + [1] * 4 + [2] * 4 + [3]), sources_of([[s] for s in sources]))
    bits = [entropy(counts, base=2) for counts in ([1, 1, 1, 1], [2, 1, 1], [4], [1])]
    assert bits[:2] == pytest.approx([2, 1.5])
    assert found.mean_bits == pytest.approx(np.mean(bits))
    assert found.worst_bits == 0
    assert found.greatest_bits == pytest.approx((2 + 2 + 2 + 0) / 4)
    assert found.near_share == pytest.approx(4 / 13)  # all of batch 1 are of sources of batch 0


def test_a_sample_of_several_sources_counts_in_parts() -> None:
    found = mixing(plan_of([0, 0, 1, 1]), sources_of([[0, 1], [2, 3], [0, 1], [1, 2, 4, 5]]))
    first, second = entropy([1, 1, 1, 1], base=2), entropy([4, 4 + 2, 2, 2, 2], base=2)
    assert found.mean_bits == pytest.approx((first + second) / 2)
    assert found.worst_bits == pytest.approx(min(first, second))
    assert found.greatest_bits == pytest.approx((2 + entropy([2, 2, 1, 1, 1, 1], base=2)) / 2)
    assert found.near_share == pytest.approx((1 + 2 / 4) / 4)


def test_order_of_a_plan_does_not_matter() -> None:
    # As batches of two lengths that fill up side by side.
    sources = sources_of([[0], [1], [0], [1], [0], [1]])
    found = mixing(plan_of([0, 1, 0, 1, 0, 1]), sources)
    assert (found.mean_bits, found.near_share) == (0, 0)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sources = sources_of([rng.integers(0, 9, rng.integers(1, 4)).tolist() for _ in range(60)])
    plan = plan_of(np.repeat(np.arange(20), 3).tolist())
    whole = mixing(plan, sources)
    for size in (1, 3, 7):
        monkeypatch.setattr(shuffle, "_CHUNK_BATCHES", size)
        assert mixing(plan, sources) == pytest.approx(whole)


def test_a_full_shuffle_is_of_the_same_samples_in_batches_of_one_kind() -> None:
    plan = plan_of(np.repeat(np.arange(25), 4).tolist())
    plan = plan._replace(group=np.arange(100) // 50, stream=np.arange(100) % 7)
    full = fully_shuffled(plan, 4, seed=1)
    assert sorted(full.entry) == list(range(100))
    assert (full.stream == full.entry % 7).all()
    groups = [set(full.group[full.batch == batch]) for batch in range(full.batch.max() + 1)]
    assert all(len(group) == 1 for group in groups)
    sizes = np.bincount(full.batch)
    assert sizes.max() == 4 and sizes.sum() == 100
    # Sources that come one after the other are mixed by it.
    sources = sources_of([[number // 10] for number in range(100)])
    assert mixing(full, sources).mean_bits > mixing(plan, sources).mean_bits + 0.5
