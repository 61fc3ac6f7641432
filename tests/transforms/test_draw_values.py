import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.number import Number, Range, Scaling
from transforms.draw_values import draw_number, draw_scaling, draw_track, draw_weighted, walk
from transforms.seeding import generator

LEAST_P = 1e-3  # seeds are fixed: a test passes always or never


def values(number: Number, count: int = 2000) -> np.ndarray:
    rng = generator("values", repr(number))
    return np.array([draw_number(number, rng) for _ in range(count)])


@settings(max_examples=200, deadline=None)
@given(
    least=st.integers(-100, 100),
    width=st.integers(0, 50),
    step=st.sampled_from([0.1, 0.25, 1, 3]),
    seed=st.integers(0, 1000),
)
def test_stepped_numbers_lie_on_their_steps_up_to_the_end(
    least: int, width: int, step: float, seed: int
) -> None:
    number = Range(min=least, max=least + width, step=step)
    drawn = draw_number(number, generator(seed))
    assert least <= drawn <= least + width + 1e-9
    assert abs((drawn - least) / step - round((drawn - least) / step)) < 1e-6


def test_both_ends_of_a_stepped_range_are_drawn() -> None:
    tenths = {round(value, 6) for value in values(Range(min=0, max=0.3, step=0.1), 200)}
    assert tenths == {0, 0.1, 0.2, 0.3}
    assert set(values(Range(min=7, max=21, step=2), 300)) == set(range(7, 22, 2))


def test_fixed_numbers_are_fixed_and_lists_are_drawn_from() -> None:
    assert set(values(3.5, 5)) == {3.5} and set(values(Range(min=2, max=2), 5)) == {2}
    counts = Counter(values([1, 5, 5, 9]))
    assert scipy.stats.chisquare([counts[1], counts[5], counts[9]], [500, 1000, 500])[1] > LEAST_P


@pytest.mark.parametrize(
    ("spread", "even"),
    [
        ("linear", lambda value: value),
        ("log", math.log),
        ("square", lambda value: value**2),
        ("inverse", lambda value: 1 / value),
    ],
)
def test_a_spread_says_what_is_uniform(spread: str, even: object) -> None:
    assert callable(even)
    drawn = values(Range.model_validate({"min": 0.2, "max": 8, "spread": spread}))
    assert drawn.min() >= 0.2 - 1e-9 and drawn.max() <= 8 + 1e-9
    ends = sorted([even(0.2), even(8)])
    uniform = scipy.stats.uniform(ends[0], ends[1] - ends[0])
    assert scipy.stats.kstest([even(value) for value in drawn], uniform.cdf).pvalue > LEAST_P
    assert len(set(drawn)) == len(drawn)


def test_a_square_spread_may_begin_at_0() -> None:
    assert values(Range(min=0, max=2, spread="square")).min() >= 0


def test_weights_are_proportions_and_0_is_never_drawn() -> None:
    rng = generator("weights")
    weights = {"a": 1, "b": 0, "c": 2.5, "d": 0.5, "e": 0}
    counts = Counter(draw_weighted(weights, rng) for _ in range(4000))
    assert set(counts) == {"a", "c", "d"}
    found = [counts[key] for key in "acd"]
    assert scipy.stats.chisquare(found, [1000, 2500, 500]).pvalue > LEAST_P


@pytest.mark.parametrize("weights", [{"a": 0, "b": 1e-9}, {"b": 1e9, "a": 0}])
def test_the_only_weight_decides_however_small_or_large(weights: dict[str, float]) -> None:
    rng = generator("only")
    assert {draw_weighted(weights, rng) for _ in range(100)} == {"b"}


def test_a_track_is_one_number_unless_it_walks_or_is_fresh() -> None:
    rng = generator("track")
    plain, walking = Range(min=0, max=9), Range(min=0, max=9, walk=0.5)
    fresh = Range(min=0, max=9, fresh=True)
    assert len(draw_track(plain, 20, rng)) == len(draw_track(4.0, 20, rng)) == 1
    assert len(set(draw_track(fresh, 20, rng))) == 20
    assert len(set(draw_track(plain, 20, rng, independent=True))) == 20
    steps = np.diff(draw_track(walking, 20, rng))
    assert len(steps) == 19 and 0 < np.abs(steps).max() <= 0.5
    jumps = np.diff(draw_track(walking, 20, rng, independent=True))
    assert np.abs(jumps).max() > 0.5


@settings(max_examples=100, deadline=None)
@given(
    least=st.floats(-10, 10),
    width=st.floats(0, 10),
    most=st.floats(0, 30),
    num_frames=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_a_walk_stays_in_its_range_and_within_its_step(
    least: float, width: float, most: float, num_frames: int, seed: int
) -> None:
    rng = generator(seed)
    limits = (least, least + width)
    path = walk(float(rng.uniform(*limits)), most, limits, num_frames, rng)
    assert len(path) == num_frames
    assert all(limits[0] <= value <= limits[1] for value in path)
    assert all(abs(step) <= most + 1e-9 for step in np.diff(path))


def test_the_steps_of_a_walk_are_uniform() -> None:
    steps = np.diff(walk(0.0, 0.3, (-1e9, 1e9), 3000, generator("steps")))
    assert scipy.stats.kstest(steps, scipy.stats.uniform(-0.3, 0.6).cdf).pvalue > LEAST_P


def test_a_scaling_goes_each_way_as_often_as_it_should() -> None:
    rng = generator("scaling")
    scaling = Scaling(
        up=0.2,
        down=0.7,
        keep=0.1,
        up_factor=Range(min=1, max=1.5),
        down_factor=Range(min=0.15, max=1),
    )
    factors = np.array([draw_scaling(scaling, 9, rng) for _ in range(3000)])
    assert factors.shape == (3000, 1)
    ways = [np.sum(factors > 1), np.sum(factors < 1), np.sum(factors == 1)]
    assert scipy.stats.chisquare(ways, [600, 2100, 300]).pvalue > LEAST_P
    down = scipy.stats.uniform(0.15, 0.85)
    assert scipy.stats.kstest(factors[factors < 1], down.cdf).pvalue > LEAST_P


def test_a_walking_scaling_leaves_the_side_on_which_it_began() -> None:
    scaling = Scaling(keep=1, down_factor=Range(min=0.3, max=1), up_factor=1.2, walk=0.2)
    path = draw_scaling(scaling, 200, generator("walking"))
    assert path[0] == 1 and min(path) == 0.3 and max(path) == 1.2
    assert np.abs(np.diff(path)).max() <= 0.2
    assert len(draw_scaling(scaling, 1, generator("one"))) == 1
