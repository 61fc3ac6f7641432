from typing import Any

import pytest

from schemas.recipe import Recipe

Stages = list[dict[str, Any]]

DOWN = {"op": "downscale"}
BD = DOWN | {"kernels": ["bd"]}
RESIZE = {"op": "resize", "scaling": {"down": 1}}
KEEP = {"op": "resize", "scaling": {}}
HALF = {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 0.5}}
THIRD = {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 1 / 3}}
GAUSSIAN = HALF | {"kernels": ["gaussian"]}
CODEC = {"op": "codec", "encoders": [{"codec": "h264", "crf": 20}]}
SLOW = CODEC | {"frame_rate_ratio": [0.5, 1]}
BLUR, RETIME, DENOISE = {"op": "blur"}, {"op": "retime"}, {"op": "denoise"}
SHARPEN, STILL, NOISE = {"op": "sharpen"}, {"op": "still"}, {"op": "noise"}

ONE_DOWNSCALE = "needs exactly one downscale stage"
RESIZED_AFTER = "a resize stage may come after the downscale stage"
ONLY_BD = "the bd kernel is the x4 downscale of an unresized HR patch"
DIVISORS = "the gaussian kernel divides the size by a whole number"
SLOW_LAST = "the last codec may have a frame_rate_ratio"
RETIMED_LAST = "a retime stage may come after the last codec"
DENOISED_LAST = "a denoise stage may come after the last codec"


def shuffle(*groups: Stages, keep_order: list[int] | None = None) -> dict[str, Any]:
    return {"op": "shuffle", "groups": list(groups), "keep_order": keep_order or []}


def choice(*branches: Stages, weights: list[float] | None = None) -> dict[str, Any]:
    pairs = zip(weights or [1] * len(branches), branches, strict=True)
    return {"op": "choice", "branches": [{"weight": w, "stages": b} for w, b in pairs]}


def sometimes(stage: dict[str, Any], probability: float = 0.5) -> dict[str, Any]:
    return stage | {"probability": probability}


def recipe(shared: Stages, own: Stages, scale: int = 4) -> Recipe:
    streams = [{"name": "only", "stages": own}]
    fields = {"name": "test", "scale": scale, "shared": shared, "streams": streams}
    return Recipe.model_validate(fields | {"hr": {"patch_height": 240, "patch_width": 240}})


WORKING: list[tuple[Stages, Stages]] = [
    ([DOWN], []),
    ([], [DOWN, CODEC]),
    ([RESIZE, RESIZE], [RESIZE, DOWN]),
    # A codec may work at any size, several times, and before the downscale.
    ([CODEC], [RESIZE, CODEC, DOWN, CODEC]),
    ([], [CODEC, DOWN]),
    ([], [SLOW, RETIME, DENOISE, DOWN, SLOW, CODEC, BLUR, STILL, SHARPEN, NOISE]),
    ([], [sometimes(SLOW), sometimes(CODEC), DOWN, CODEC]),
    # What streams share is not stored as coded: nothing comes after its last codec too late.
    ([SLOW, DOWN, RETIME, DENOISE], []),
    ([CODEC, DOWN], [RETIME, DENOISE]),
    ([CODEC, DOWN, RETIME], [CODEC]),
    # Without a codec there is none to come after.
    ([], [DOWN, RETIME, DENOISE]),
    # Orders and branches.
    ([], [shuffle([CODEC], [DOWN, BLUR])]),
    ([], [shuffle([BLUR], [RESIZE], [STILL]), DOWN, CODEC]),
    ([], [shuffle([RESIZE], [DOWN], [NOISE], keep_order=[0, 1])]),
    ([], [shuffle([BLUR], [DENOISE], [CODEC], keep_order=[1, 2]), DOWN]),
    ([], [choice([DOWN, CODEC], [shuffle([DOWN, BLUR], [STILL])])]),
    ([], [choice([DOWN], [RETIME], weights=[1, 0])]),
    ([], [DOWN, CODEC, sometimes(RETIME, 0)]),
    ([], [DOWN, sometimes(choice([], [CODEC]))]),
    # Kernels that are particular about sizes.
    ([BD], [CODEC]),
    ([], [CODEC, BD]),
    ([GAUSSIAN], [DOWN]),
    ([HALF, BLUR, GAUSSIAN, GAUSSIAN], [DOWN]),
    ([GAUSSIAN, RESIZE], [DOWN]),
]


@pytest.mark.parametrize(("shared", "own"), WORKING)
def test_chains_that_always_work_out_are_taken(shared: Stages, own: Stages) -> None:
    recipe(shared, own)


FAILING: list[tuple[Stages, Stages, str]] = [
    ([], [], ONE_DOWNSCALE),
    ([CODEC], [CODEC], ONE_DOWNSCALE),
    ([DOWN], [DOWN], ONE_DOWNSCALE),
    ([], [DOWN, DOWN], ONE_DOWNSCALE),
    ([], [sometimes(choice([DOWN]))], ONE_DOWNSCALE),
    ([], [choice([DOWN], [BLUR])], ONE_DOWNSCALE),
    ([], [choice([DOWN], []), DOWN], ONE_DOWNSCALE),
    ([], [shuffle([DOWN], [DOWN])], ONE_DOWNSCALE),
    ([DOWN], [RESIZE], RESIZED_AFTER),
    ([DOWN], [KEEP], RESIZED_AFTER),
    ([DOWN], [HALF], RESIZED_AFTER),
    ([], [DOWN, sometimes(RESIZE, 0.001)], RESIZED_AFTER),
    ([], [shuffle([RESIZE], [DOWN])], RESIZED_AFTER),
    ([], [shuffle([BLUR], [RESIZE], [DOWN], keep_order=[0, 1])], RESIZED_AFTER),
    ([], [shuffle([DOWN], [choice([BLUR], [RESIZE])])], RESIZED_AFTER),
    ([RESIZE], [BD], ONLY_BD),
    ([KEEP], [BD], ONLY_BD),
    ([HALF], [BD], ONLY_BD),
    ([], [sometimes(RESIZE), DOWN | {"kernels": ["area", "bd"]}], ONLY_BD),
    ([RESIZE, GAUSSIAN], [DOWN], DIVISORS),
    ([sometimes(RESIZE), GAUSSIAN], [DOWN], DIVISORS),
    ([shuffle([RESIZE], [GAUSSIAN])], [DOWN], DIVISORS),
    ([THIRD | {"kernels": ["gaussian"]}], [DOWN], DIVISORS),
    ([THIRD, GAUSSIAN], [DOWN], DIVISORS),
    ([GAUSSIAN, GAUSSIAN, HALF, GAUSSIAN], [DOWN], DIVISORS),
    ([], [DOWN, SLOW], SLOW_LAST),
    ([], [DOWN, SLOW, sometimes(CODEC)], SLOW_LAST),
    ([], [DOWN, CODEC, sometimes(SLOW)], SLOW_LAST),
    ([], [DOWN, shuffle([SLOW], [CODEC])], SLOW_LAST),
    ([], [DOWN, SLOW, choice([CODEC], [BLUR])], SLOW_LAST),
    ([CODEC], [DOWN, SLOW], SLOW_LAST),
    ([], [DOWN, CODEC, RETIME], RETIMED_LAST),
    ([], [DOWN, shuffle([CODEC], [RETIME])], RETIMED_LAST),
    ([], [DOWN, CODEC, RETIME, sometimes(CODEC)], RETIMED_LAST),
    ([], [DOWN, CODEC, sometimes(DENOISE)], DENOISED_LAST),
    ([], [CODEC, DENOISE, DOWN], DENOISED_LAST),
    ([], [DOWN, choice([CODEC, DENOISE], [CODEC])], DENOISED_LAST),
    # Deeper down.
    ([], [shuffle([choice([shuffle([DOWN], [RESIZE])])])], RESIZED_AFTER),
]


@pytest.mark.parametrize(("shared", "own", "problem"), FAILING)
def test_chains_that_may_fail_are_refused(shared: Stages, own: Stages, problem: str) -> None:
    with pytest.raises(ValueError, match="'only'") as caught:
        recipe(shared, own)
    assert f"stream 'only': {problem}" in str(caught.value)


def test_the_bd_kernel_needs_scale_4() -> None:
    recipe([BD], [], scale=4)
    with pytest.raises(ValueError, match=ONLY_BD):
        recipe([BD], [], scale=2)


def test_the_divisors_of_the_gaussian_kernel_depend_on_the_scale() -> None:
    recipe([THIRD | {"kernels": ["gaussian"]}], [DOWN], scale=3)
    with pytest.raises(ValueError, match="divide 4"):
        recipe([GAUSSIAN, GAUSSIAN, GAUSSIAN], [DOWN], scale=2)


def test_every_stream_is_checked() -> None:
    streams = [{"name": "first"}, {"name": "second", "stages": [DOWN]}]
    with pytest.raises(ValueError, match="'second': needs exactly one downscale"):
        Recipe.model_validate({"name": "test", "shared": [DOWN], "streams": streams})


def test_a_long_shuffle_is_checked_quickly() -> None:
    groups: list[Stages] = [[BLUR], [NOISE], [STILL], [SHARPEN]] * 5
    recipe([], [shuffle(*groups, [RESIZE], [DENOISE]), DOWN])


def test_a_shuffle_of_many_different_groups_is_checked_at_all() -> None:
    groups = [[sometimes(KEEP)], [sometimes(CODEC)]] * 5
    Recipe.model_validate(
        {"name": "t", "streams": [{"name": "s", "stages": [shuffle(*groups), DOWN, CODEC]}]}
    )
