import math

import pytest
import torch

from training.aligned import UNCOMPRESSED, Coding
from training.ranking import PretrainConfig, comparable, ranking_loss

I, P, B = 0, 1, 2  # noqa: E741 - the codec's own names
ONLY_WITHIN = PretrainConfig(
    margin_per_crf=0.1, margin=1.5, within_weight=1, across_weight=0, types_weight=0
)


def coding(*frames: tuple[float, int, int]) -> Coding:
    """Of (strength, type, content) of each frame."""
    strength, types, content = zip(*frames, strict=True)
    return Coding(
        strength=torch.tensor(strength), frame_type=torch.tensor(types),
        content=torch.tensor(content),
        moment=torch.arange(len(frames)) // 3,
    )  # fmt: skip


def pairs_of(table: torch.Tensor) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in table.nonzero()]


def test_frames_of_one_type_are_ranked_by_crf_within_and_across_clips() -> None:
    pairs = comparable(coding((15, P, 0), (35, P, 0), (25, P, 1), (35, B, 0)))
    assert pairs_of(pairs.within) == [(1, 0)]
    assert pairs_of(pairs.across) == [(1, 2), (2, 0)]


def test_frames_of_one_crf_and_one_clip_are_ranked_by_type() -> None:
    pairs = comparable(coding((15, I, 0), (15, P, 0), (15, B, 0), (15, B, 1), (20, B, 0)))
    assert pairs_of(pairs.types) == [(1, 0), (2, 0), (2, 1)]


def test_uncompressed_frames_are_below_all_others_and_alike() -> None:
    pairs = comparable(coding((UNCOMPRESSED, I, 0), (UNCOMPRESSED, P, 0), (0, P, 0), (0, P, 1)))
    assert pairs_of(pairs.within) == [(2, 1)]
    assert pairs_of(pairs.across) == [(3, 1)]
    assert not pairs.types.any()


def test_frames_without_a_strength_are_compared_with_nothing() -> None:
    frames = coding((math.nan, P, 0), (math.nan, B, 0), (15, P, 0), (25, P, 1))
    assert pairs_of(comparable(frames).across) == [(3, 2)]
    assert not comparable(frames).within.any() and not comparable(frames).types.any()
    scores = torch.zeros(4, requires_grad=True)
    loss = ranking_loss(scores, frames, PretrainConfig(across_weight=1, margin=9))
    loss.backward()
    assert loss.item() == pytest.approx(1)  # 10 steps of 0.1 are lacking
    assert scores.grad is not None and scores.grad.tolist() == [0, 0, 1, -1]


def test_rows_are_those_of_the_whole_table() -> None:
    frames = coding((15, P, 0), (35, P, 0), (25, P, 1), (35, B, 0), (35, I, 0))
    rows = torch.tensor([1, 3])
    for part, whole in zip(comparable(frames, rows), comparable(frames), strict=True):
        assert torch.equal(part, whole[rows])


@pytest.mark.parametrize(("difference", "loss"), [(0, 1), (0.75, 0.25), (1, 0), (7, 0), (-1, 2)])
def test_a_pair_costs_what_it_lacks_of_its_margin(difference: float, loss: float) -> None:
    frames = coding((15, P, 0), (25, P, 0))
    found = ranking_loss(torch.tensor([0, difference]), frames, ONLY_WITHIN)
    assert found.item() == pytest.approx(loss)


def test_margins_do_not_grow_for_ever() -> None:
    frames = coding((10, P, 0), (50, P, 0))
    assert ranking_loss(torch.zeros(2), frames, ONLY_WITHIN).item() == pytest.approx(1.5)


def test_kinds_of_pairs_are_weighted_means() -> None:
    frames = coding((10, I, 0), (10, P, 0), (20, P, 0), (30, P, 1))
    config = PretrainConfig(
        margin_per_crf=0.1, margin=1.5, within_weight=2, across_weight=3, types_weight=4
    )
    lacking = 2 * 1 + 3 * (1.5 + 1) / 2 + 4 * 1.5
    assert ranking_loss(torch.zeros(4), frames, config).item() == pytest.approx(lacking)


def test_without_pairs_nothing_is_lost() -> None:
    scores = torch.zeros(1, requires_grad=True)
    ranking_loss(scores, coding((15, P, 0)), PretrainConfig()).backward()
    assert scores.grad is not None and scores.grad.item() == 0
