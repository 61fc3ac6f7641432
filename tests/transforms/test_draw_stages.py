import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.draw import (
    BlurDraw,
    CodecDraw,
    DenoiseDraw,
    NoiseDraw,
    ResizeDraw,
    RetimeDraw,
    SharpenDraw,
    StageDraw,
    StillDraw,
)
from schemas.recipe import Recipe
from schemas.stages import Stage
from tests.transforms.replay import replay
from transforms.draw_stages import ChainDrawer
from transforms.seeding import generator
from transforms.streams import split_at_last_codec

LEAST_P = 1e-3  # seeds are fixed: a test passes always or never
SIZE, SCALE = (96, 128), 4
DOWN = {"op": "downscale"}
CODEC = {"op": "codec", "encoders": [{"codec": "mpeg4", "qscale": 3}]}
STAGES: TypeAdapter[list[Stage]] = TypeAdapter(list[Stage])


def drawn(
    *stages: dict[str, Any], seed: int | str = 0, frames: int = 6, independent: bool = False
) -> list[StageDraw]:
    chain = ChainDrawer(SIZE, SCALE, frames, independent=independent)
    return chain.draw(STAGES.validate_python(stages), generator("drawn", seed))


def many(
    *stages: dict[str, Any], count: int = 400, frames: int = 6, independent: bool = False
) -> list[list[StageDraw]]:
    return [
        drawn(*stages, seed=seed, frames=frames, independent=independent) for seed in range(count)
    ]


def blurs(stage: dict[str, Any], count: int = 400) -> list[BlurDraw]:
    return [draw for (draw,) in many({"op": "blur"} | stage, count=count) if draw.op == "blur"]


def noises(stage: dict[str, Any], count: int = 400, independent: bool = False) -> list[NoiseDraw]:
    draws = many({"op": "noise"} | stage, count=count, independent=independent)
    return [draw for (draw,) in draws if draw.op == "noise"]


def chi_square(found: Counter[Any], shares: Mapping[Any, float]) -> float:
    assert set(found) <= set(shares)
    total = sum(found.values()) / sum(shares.values())
    counts = [found[key] for key in shares]
    return float(scipy.stats.chisquare(counts, [share * total for share in shares.values()]).pvalue)


def test_a_stage_is_applied_with_its_probability() -> None:
    stages = many({"op": "blur", "probability": 0.8}, {"op": "noise", "probability": 0}, DOWN)
    found = Counter(tuple(stage.op for stage in chain) for chain in stages)
    shares = {("blur", "resize"): 0.8, ("resize",): 0.2}
    assert chi_square(found, shares) > LEAST_P


def test_kernel_families_come_with_their_weights_and_parameters() -> None:
    weights = {"isotropic": 4, "anisotropic": 2, "plateau_anisotropic": 1, "sinc": 1}
    draws = blurs({"kernels": weights | {"generalized_isotropic": 0}}, 1000)
    assert chi_square(Counter(draw.kernel for draw in draws), weights) > LEAST_P
    for draw in draws:
        (x,), (y,), (theta,) = draw.sigma_x, draw.sigma_y, draw.theta
        (beta,), (cutoff,) = draw.beta, draw.cutoff
        is_sinc = draw.kernel == "sinc"
        assert (cutoff > 0) == is_sinc and (x == 0) == is_sinc
        if draw.kernel == "isotropic":
            assert x == y and theta == 0
        if draw.kernel.endswith("anisotropic"):
            assert x != y and theta != 0
        assert 1 <= beta <= 2 if draw.kernel.startswith("plateau") else beta == 1


def test_sizes_and_sigmas_of_kernels_are_uniform() -> None:
    draws = blurs({"sigma": {"min": 0.2, "max": 3}}, 1000)
    sizes = Counter(draw.size for draw in draws)
    assert chi_square(sizes, dict.fromkeys(range(7, 22, 2), 1)) > LEAST_P
    sigmas = [draw.sigma_x[0] for draw in draws]
    assert scipy.stats.kstest(sigmas, scipy.stats.uniform(0.2, 2.8).cdf).pvalue > LEAST_P


def test_the_cutoff_of_a_sinc_filter_depends_on_its_size_unless_it_is_given() -> None:
    draws = blurs({"kernels": {"sinc": 1}}, 1000)
    for small, least in ((True, math.pi / 3), (False, math.pi / 5)):
        cutoffs = [draw.cutoff[0] for draw in draws if (draw.size < 13) == small]
        uniform = scipy.stats.uniform(least, math.pi - least)
        assert scipy.stats.kstest(cutoffs, uniform.cdf).pvalue > LEAST_P
    given_ = {"kernels": {"sinc": 1}, "cutoff": {"min": 1, "max": 1.1}}
    assert all(1 <= draw.cutoff[0] <= 1.1 for draw in blurs(given_, 50))


def test_beta_is_as_often_below_1_as_above() -> None:
    draws = blurs({"kernels": {"generalized_isotropic": 1}}, 1000)
    betas = np.array([draw.beta[0] for draw in draws])
    for side, uniform in (
        (betas[betas < 1], scipy.stats.uniform(0.5, 0.5)),
        (betas[betas >= 1], scipy.stats.uniform(1, 3)),
    ):
        assert len(side) / 1000 == pytest.approx(0.5, abs=0.05)
        assert scipy.stats.kstest(side, uniform.cdf).pvalue > LEAST_P


def test_half_of_the_plateaus_have_beta_1_as_in_real_esrgan() -> None:
    betas = np.array([d.beta[0] for d in blurs({"kernels": {"plateau_isotropic": 1}}, 1000)])
    assert np.mean(betas == 1) == pytest.approx(0.5, abs=0.05)
    above = scipy.stats.uniform(1, 1)
    assert scipy.stats.kstest(betas[betas > 1], above.cdf).pvalue > LEAST_P


def test_a_beta_that_is_all_on_one_side_of_1_stays_there() -> None:
    stage = {"kernels": {"generalized_isotropic": 1}, "beta_generalized": {"min": 2, "max": 4}}
    betas = [draw.beta[0] for draw in blurs(stage)]
    assert scipy.stats.kstest(betas, scipy.stats.uniform(2, 2).cdf).pvalue > LEAST_P
    fresh = {"min": 2, "max": 4, "fresh": True}
    assert all(len(set(d.beta)) == 6 for d in blurs(stage | {"beta_generalized": fresh}, 5))


def test_numbers_walk_along_a_clip_and_the_kind_stays() -> None:
    stage = {
        "op": "blur",
        "kernels": {"generalized_anisotropic": 1, "sinc": 1},
        "sigma": {"min": 0.2, "max": 3, "walk": 0.02},
        "theta": {"min": -3, "max": 3, "walk": 0.3},
        "beta_generalized": {"min": 0.5, "max": 4, "walk": 0.05},
        "cutoff_walk": 0.06,
    }
    for (draw,) in many(stage, count=40, frames=30):
        assert isinstance(draw, BlurDraw)
        tracks = {
            "sinc": [(draw.cutoff, 0.06)],
            "generalized_anisotropic": [
                (draw.sigma_x, 0.02),
                (draw.sigma_y, 0.02),
                (draw.theta, 0.3),
                (draw.beta, 0.05),
            ],
        }[draw.kernel]
        for track, most in tracks:
            assert len(track) == 30 and 0 < np.abs(np.diff(track)).max() <= most
        assert draw.sigma_x != draw.sigma_y or draw.kernel == "sinc"


def test_noise_comes_in_its_kinds_with_their_levels() -> None:
    kinds = {"gaussian": 3, "poisson": 2, "speckle": 1, "camera": 1}
    ranges = {
        "gaussian": ("sigma", 2, 25),
        "poisson": ("poisson_scale", 0.05, 2),
        "speckle": ("speckle", 0.01, 0.1),
        "camera": ("shot", 1e-4, 0.01),
    }
    stage = {name: {"min": least, "max": most} for name, least, most in ranges.values()}
    draws = noises({"kinds": kinds} | stage, 1500)
    assert chi_square(Counter(draw.kind for draw in draws), kinds) > LEAST_P
    for kind, (_, least, most) in ranges.items():
        levels = [draw.level[0] for draw in draws if draw.kind == kind]
        uniform = scipy.stats.uniform(least, most - least)
        assert scipy.stats.kstest(levels, uniform.cdf).pvalue > LEAST_P
    assert all((draw.read_level[0] > 0) == (draw.kind == "camera") for draw in draws)
    assert all(0 <= draw.seed < 2**53 for draw in draws)  # exact in any JSON reader
    assert len({draw.seed for draw in draws}) == len(draws)


def test_read_noise_follows_shot_noise_as_brooks_measured_it() -> None:
    stage = {"kinds": {"camera": 1}, "shot": {"min": 1e-4, "max": 0.012, "spread": "log"}}
    draws = noises(stage, 1000)
    shot, read = (np.log([getattr(d, n)[0] for d in draws]) for n in ("level", "read_level"))
    residual = read - (2.18 * shot + 1.2)
    assert scipy.stats.kstest(residual, scipy.stats.norm(0, 0.26).cdf).pvalue > LEAST_P
    assert noises({"kinds": {"camera": 1}, "shot": 0}, 1)[0].read_level == [0]


def test_gray_and_static_noise_are_as_frequent_as_asked() -> None:
    draws = noises({"gray_probability": 0.4, "static_probability": 0.2}, 1000)
    for name, share in (("gray", 0.4), ("static", 0.2)):
        found = np.mean([getattr(draw, name)[0] for draw in draws])
        assert found == pytest.approx(share, abs=0.05)
    assert all(len(draw.gray) == len(draw.static) == 1 for draw in draws)


def test_correlated_noise_has_a_covariance_and_is_not_gray() -> None:
    stage = {"correlated_probability": 0.2, "gray_probability": 0.5}
    kinds = {"gaussian": 1, "speckle": 1, "poisson": 1}
    draws = noises({"kinds": kinds} | stage, 1500)
    for draw in draws:
        assert not (draw.covariance and draw.gray[0])
        assert not (draw.covariance and draw.kind == "poisson")
        if draw.covariance:
            matrix = np.array(draw.covariance).reshape(3, 3)
            assert np.allclose(matrix, matrix.T)
            assert (eigenvalues := np.linalg.eigvalsh(matrix)).min() > -1e-9
            assert eigenvalues.max() <= 1
    rest = [draw for draw in draws if draw.kind != "poisson"]
    shares = {"correlated": 0.2, "gray": 0.4, "colour": 0.4}
    found = Counter(
        "correlated" if draw.covariance else "gray" if draw.gray[0] else "colour" for draw in rest
    )
    assert chi_square(found, shares) > LEAST_P


def test_the_static_gray_noise_of_vcisr_is_gray_noise() -> None:
    for draw in noises({"static_gray": True}, 50, independent=True):
        assert draw.static == (draw.gray if draw.kind == "gaussian" else [False])


def test_frames_of_a_clip_share_what_frames_of_a_pack_have_of_their_own() -> None:
    stages = ({"op": "noise", "kinds": {"gaussian": 1}}, {"op": "still"}, {"op": "sharpen"})
    fresh = {"min": 0.2, "max": 1, "fresh": True}
    pack = drawn({"op": "blur"}, *stages, {"op": "sharpen", "amount": fresh}, independent=True)
    blur, noise, still, _, sharpen = pack
    assert isinstance(blur, BlurDraw) and isinstance(noise, NoiseDraw)
    assert isinstance(still, StillDraw) and isinstance(sharpen, SharpenDraw)
    assert len(blur.sigma_x) == 1
    assert len(set(noise.level)) == len(set(sharpen.amount)) == len(noise.gray) == 6
    assert len(set(still.quality)) > 2
    noise, still, sharpen = drawn(*stages)
    assert isinstance(noise, NoiseDraw) and isinstance(still, StillDraw)
    assert isinstance(sharpen, SharpenDraw)
    assert len(noise.level) == len(noise.gray) == len(still.quality) == len(sharpen.amount) == 1


def test_a_pack_shares_one_kernel_and_one_size_even_if_they_walk() -> None:
    resize = {"op": "resize", "scaling": {"down": 1, "keep": 0, "walk": 0.1}}
    blur = {"op": "blur", "sigma": {"min": 1, "max": 3, "walk": 1}, "cutoff_walk": 1}
    for draws in many(blur, resize, count=20, independent=True):
        assert isinstance(draws[0], BlurDraw) and isinstance(draws[1], ResizeDraw)
        assert len(draws[0].sigma_x) == len(draws[0].cutoff) == 1
        assert len(draws[1].height) == len(draws[1].width) == 1


def test_nothing_is_dropped_from_a_pack() -> None:
    retime = {"op": "retime", "freeze_probability": 1}
    slow = CODEC | {"frame_rate_ratio": 0.5}
    assert [draw.op for draw in drawn(retime, slow, independent=True)] == ["codec"]
    assert [draw.op for draw in drawn(retime, slow)] == ["retime", "retime", "codec", "retime"]


def test_frozen_frames_show_the_last_one_that_came() -> None:
    shares = []
    for (draw,) in many({"op": "retime", "freeze_probability": 0.3}, frames=40):
        assert isinstance(draw, RetimeDraw) and draw.frames[0] == 0
        last = 0
        for frame, shown in enumerate(draw.frames):
            last = frame if shown == frame else last
            assert shown == last
        shares.append(np.mean([s != f for f, s in enumerate(draw.frames)][1:]))
    assert np.mean(shares) == pytest.approx(0.3, abs=0.02)
    assert drawn({"op": "retime", "freeze_probability": 1})[0] == RetimeDraw(frames=[0] * 6)


def test_qualities_are_whole_numbers_but_for_the_differentiable_jpeg() -> None:
    quality = {"min": 30, "max": 95}
    for codec in ("jpeg", "webp", "avif", "diffjpeg"):
        draws = [d for (d,) in many({"op": "still", "codec": codec, "quality": quality})]
        found = [d.quality[0] for d in draws if isinstance(d, StillDraw)]
        assert all(30 <= value <= 95 for value in found)
        assert all(value == int(value) for value in found) == (codec != "diffjpeg")


def test_the_rest_of_a_stage_is_drawn_once() -> None:
    stages = (
        {"op": "denoise", "strength": {"min": 1, "max": 6}},
        {"op": "sharpen", "sigma": {"min": 1, "max": 3}, "threshold": [0, 10]},
        {"op": "still", "effort": {"min": 0, "max": 6, "step": 1}, "codec": "webp"},
    )
    strengths, sigmas, thresholds, efforts = set(), set(), set(), set()
    for denoise, sharpen, still in many(*stages, count=100):
        assert isinstance(denoise, DenoiseDraw) and isinstance(sharpen, SharpenDraw)
        assert isinstance(still, StillDraw)
        strengths.add(denoise.strength)
        sigmas.add(sharpen.sigma)
        thresholds.add(sharpen.threshold)
        efforts.add(still.effort)
    assert len(strengths) == len(sigmas) == 100
    assert thresholds == {0, 10} and efforts == set(range(7))


def test_random_resizes_keep_a_least_side_of_16_pixels() -> None:
    shrink = {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 0.05}}
    assert drawn(shrink) == [ResizeDraw(height=[16], width=[16], kernel=kernel_of(shrink))]


def kernel_of(stage: dict[str, Any]) -> Any:
    (draw,) = drawn(stage)
    assert isinstance(draw, ResizeDraw)
    return draw.kernel


def test_a_resize_is_of_the_current_or_of_the_lr_size() -> None:
    for relative_to, size in (("current", (48, 64)), ("lr", (16, 16))):
        half = {"down": 1, "keep": 0, "down_factor": 0.5}
        (draw,) = drawn({"op": "resize", "relative_to": relative_to, "scaling": half})
        assert isinstance(draw, ResizeDraw) and (draw.height, draw.width) == ([size[0]], [size[1]])


def test_nominal_resizes_cut_off_and_tell_the_factor() -> None:
    scaling = {"down": 1, "keep": 0, "down_factor": 0.7}
    stage = {"op": "resize", "kernels": ["torch_bicubic"], "scaling": scaling}
    assert drawn(stage | {"nominal": True}) == [
        ResizeDraw(height=[67], width=[89], kernel="torch_bicubic", factor=[0.7])
    ]
    assert drawn(stage) == [ResizeDraw(height=[67], width=[90], kernel="torch_bicubic")]
    # interpolate(size=...) of Real-ESRGAN's second resize: cut off, but true to the sizes.
    (draw,) = drawn(stage | {"nominal": True, "relative_to": "lr", "scaling": {}})
    assert isinstance(draw, ResizeDraw) and draw.factor == []
    (draw,) = drawn(stage | {"nominal": True, "kernels": ["area"]})
    assert isinstance(draw, ResizeDraw) and (draw.width, draw.factor) == ([90], [])


def test_the_gaussian_kernel_divides_however_small_the_picture() -> None:
    scaling = {"down": 1, "keep": 0, "down_factor": 0.125}
    stage = {"op": "resize", "kernels": ["gaussian"], "sigma": 2, "scaling": scaling}
    assert drawn(stage) == [ResizeDraw(height=[12], width=[16], kernel="gaussian", sigma=2)]


def test_sizes_walk_and_a_codec_brings_them_to_the_first() -> None:
    scaling = {"down": 1, "keep": 0, "down_factor": {"min": 0.3, "max": 0.9}, "walk": 0.1}
    resize, to_one, *coded = drawn(
        {"op": "resize", "scaling": scaling}, CODEC | {"size_ratio": {}}, DOWN, frames=12
    )
    assert isinstance(resize, ResizeDraw) and isinstance(to_one, ResizeDraw)
    assert len(set(resize.height)) > 3
    assert (to_one.height, to_one.width) == ([resize.height[0]], [resize.width[0]])
    assert isinstance(coded[-1], ResizeDraw) and coded[-1].height == [24]


def test_orders_of_a_shuffle_are_equally_frequent() -> None:
    ops = ("blur", "noise", "still", "sharpen")
    stages = many({"op": "shuffle", "groups": [[{"op": op}] for op in ops]}, count=1200)
    found = Counter("".join(stage.op[:2] for stage in chain) for chain in stages)
    assert len(found) == 24
    assert chi_square(found, dict.fromkeys(found, 1)) > LEAST_P


def test_groups_that_keep_their_order_do_and_others_stand_anywhere() -> None:
    ops = ("blur", "noise", "still", "sharpen")
    groups = [[{"op": op}] for op in ops]
    stage = {"op": "shuffle", "groups": groups, "keep_order": [2, 0]}
    found = Counter("".join(s.op[:2] for s in chain) for chain in many(stage, count=1200))
    assert all(order.index("st") < order.index("bl") for order in found)
    assert len(found) == 12
    assert chi_square(found, dict.fromkeys(found, 1)) > LEAST_P


def test_the_stages_of_a_group_stay_together_and_are_drawn_in_place() -> None:
    groups = [[DOWN, {"op": "blur"}], [{"op": "resize", "scaling": {}}, CODEC]]
    for chain in many({"op": "shuffle", "groups": groups}, count=50):
        order = "".join(stage.op[0] for stage in chain)
        assert order in ("rbrc", "rcrb")
        sizes = [stage.height for stage in chain if isinstance(stage, ResizeDraw)]
        # After the downscale, a resize and a codec see the LR size.
        assert sizes == ([[24], [24]] if order == "rbrc" else [[96], [24]])


def test_branches_are_drawn_by_weight() -> None:
    branches = [
        {"weight": 3, "stages": [{"op": "blur"}, {"op": "still"}]},
        {"weight": 1, "stages": []},
        {"weight": 0, "stages": [{"op": "noise"}]},
    ]
    chains = many({"op": "choice", "branches": branches, "probability": 0.5}, count=800)
    found = Counter(tuple(stage.op for stage in chain) for chain in chains)
    assert chi_square(found, {("blur", "still"): 0.375, (): 0.625}) > LEAST_P


# Chains of any kind.

RATE = {
    **{name: "crf" for name in ("h264", "hevc", "vp9", "av1")},
    **{name: "qscale" for name in ("mpeg4", "mpeg2video", "mpeg1video", "h263p", "vp8", "mjpeg")},
}
CODECS = st.builds(
    lambda codecs, **fields: {
        "op": "codec",
        "encoders": [{"codec": codec, RATE[codec]: 20} for codec in codecs],
        **fields,
    },
    codecs=st.lists(st.sampled_from(sorted(RATE)), min_size=1, max_size=3),
    frame_rate_ratio=st.sampled_from([1, 1, 0.5, [0.3, 1]]),
    grid_shift=st.sampled_from([0, 7, {"min": 0, "max": 15, "step": 1}]),
    width_ratio=st.sampled_from([{}, {"up": 1, "up_factor": {"min": 1, "max": 1.4}}]),
    size_ratio=st.sampled_from([{}, {"down": 1, "keep": 0, "down_factor": [0.31, 0.77]}]),
    probability=st.sampled_from([1, 1, 0.5]),
)
RESIZES = st.builds(
    lambda scaling, **fields: {"op": "resize", "scaling": scaling, **fields},
    scaling=st.sampled_from(
        [
            {"up": 1, "down": 1, "down_factor": {"min": 0.1, "max": 1}},
            {"up": 1, "down": 2, "walk": 0.05},
            {"down": 1, "keep": 0, "down_factor": 0.5},
        ]
    ),
    relative_to=st.sampled_from(["current", "lr"]),
    nominal=st.booleans(),
    kernels=st.sampled_from([["area"], ["torch_bilinear", "torch_area"], ["matlab_bicubic"]]),
    probability=st.sampled_from([1, 0.5]),
)
SIMPLE = st.sampled_from(
    [{"op": op} for op in ("blur", "noise", "still", "sharpen", "denoise", "retime")]
    + [{"op": "blur", "sigma": {"min": 1, "max": 2, "walk": 0.1}}]
)


def chains(stages: Any) -> Any:
    """Lists of stages, some in shuffles and choices."""
    return st.recursive(
        st.lists(stages, max_size=3),
        lambda inner: st.builds(
            lambda groups, is_shuffle, rest: [
                {"op": "shuffle", "groups": groups}
                if is_shuffle
                else {"op": "choice", "branches": [{"stages": group} for group in groups]},
                *rest,
            ],
            groups=st.lists(inner, min_size=1, max_size=3),
            is_shuffle=st.booleans(),
            rest=inner,
        ),
        max_leaves=4,
    )


SIZED, UNSIZED = chains(SIMPLE | CODECS), chains(SIMPLE | CODECS | RESIZES)


@settings(max_examples=300, deadline=None)
@given(
    shared=UNSIZED,
    before=UNSIZED,
    after=SIZED,
    last=st.sampled_from([[], [CODEC]]),
    rows=st.integers(1, 30),
    columns=st.integers(1, 30),
    num_frames=st.integers(1, 9),
    independent=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_chain_that_a_recipe_may_have_works_out(
    shared: list[Any],
    before: list[Any],
    after: list[Any],
    last: list[Any],
    rows: int,
    columns: int,
    num_frames: int,
    independent: bool,
    seed: int,
) -> None:
    own = [*before, {"op": "shuffle", "groups": [[DOWN, *after], [{"op": "still"}]]}, *last]
    fields = {"name": "t", "shared": shared, "streams": [{"name": "s", "stages": own}]}
    try:
        recipe = Recipe.model_validate(fields)
    except ValueError as error:
        assert "after the last codec" in str(error) or "the last codec may" in str(error)
        return
    size = (8 * rows, 8 * columns)
    rng = generator("chain", seed)
    first = ChainDrawer(size, 4, num_frames, independent=independent)
    scene = first.draw(recipe.shared, rng)
    second = ChainDrawer(size, 4, num_frames, independent=independent)
    second.follow(scene)
    stages = second.draw(recipe.streams[0].stages, rng)
    split_at_last_codec(stages)
    replayed = replay([*scene, *stages], size, num_frames)
    assert replayed.sizes == [(2 * rows, 2 * columns)] * num_frames
    if any(isinstance(stage, CodecDraw) for stage in stages):
        assert replayed.coded_frames[-1] == num_frames
