"""The shipped recipes draw what their sources say, and always something that can be made."""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
import scipy.stats

from schemas.draw import (
    BlurDraw,
    CodecDraw,
    NoiseDraw,
    PadDraw,
    ResizeDraw,
    SharpenDraw,
    StageDraw,
    StillDraw,
)
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe, shipped_recipes
from tests.transforms.replay import replay
from transforms.draw_stages import ChainDrawer
from transforms.seeding import generator
from transforms.streams import split_at_last_codec

T = TypeVar("T")
Chain = list[StageDraw]

LEAST_P = 1e-4  # seeds are fixed: a test passes always or never
COUNT = 800
LARGE = (1920, 2400)  # HR; so large that rounding sizes hides no factor
FAMILIES = {
    "isotropic": 0.405,
    "anisotropic": 0.225,
    "generalized_isotropic": 0.108,
    "generalized_anisotropic": 0.027,
    "plateau_isotropic": 0.108,
    "plateau_anisotropic": 0.027,
    "sinc": 0.1,
}
ODD_SIZES = dict.fromkeys(range(7, 22, 2), 1)
RELEASED = ("vcisr-strict", "realesrgan-strict", "apisr-strict", "realbasicvsr-strict")
SECOND_ORDER = ("vcisr", "realesrgan", "apisr", "realbasicvsr", *RELEASED)


def chains_of(
    recipe: Recipe,
    seed: int,
    size: tuple[int, int],
    num_frames: int = 6,
    independent: bool = False,
) -> list[tuple[Chain, Chain]]:
    """What the streams of a sample share, and what each of them adds."""
    options = {"independent": independent}
    rng = generator("recipes", recipe.name, seed, repr((size, num_frames, independent)))
    shared = ChainDrawer(size, recipe.scale, num_frames, **options).draw(recipe.shared, rng)
    chains = []
    for stream in recipe.streams:
        drawer = ChainDrawer(size, recipe.scale, num_frames, **options)
        drawer.follow(shared)
        chains.append((shared, drawer.draw(stream.stages, rng)))
    return chains


@functools.cache
def drawn(name: str, independent: bool = False, size: tuple[int, int] = LARGE) -> list[Chain]:
    """Whole chains of the recipe's last stream."""
    recipe = load_recipe(name)
    samples = (chains_of(recipe, seed, size, 6, independent) for seed in range(COUNT))
    return [[*shared, *own] for shared, own in (streams[-1] for streams in samples)]


def of(kind: type[T], chain: Iterable[StageDraw]) -> list[T]:
    return [stage for stage in chain if isinstance(stage, kind)]


def check_shares(found: Counter[Any], shares: Mapping[Any, float]) -> None:
    assert set(found) <= set(shares)
    total = sum(found.values()) / sum(shares.values())
    counts = [found[key] for key in shares]
    expected = [share * total for share in shares.values()]
    assert scipy.stats.chisquare(counts, expected).pvalue > LEAST_P, (found, shares)


def check_uniform(found: Sequence[float], least: float, most: float) -> None:
    assert len(found) > 50
    assert min(found) >= least - 1e-9 and max(found) <= most + 1e-9
    uniform = scipy.stats.uniform(least, most - least)
    assert scipy.stats.kstest(found, uniform.cdf).pvalue > LEAST_P


def check_whole(found: Iterable[float], least: int, most: int) -> None:
    check_shares(Counter(found), dict.fromkeys(map(float, range(least, most + 1)), 1))


# All of them.


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_draw_of_a_shipped_recipe_can_be_made(name: str) -> None:
    recipe = load_recipe(name)
    unit = 2 * recipe.scale
    own = (recipe.hr.patch_height or 720, recipe.hr.patch_width or 1280)
    sizes = [own, own, (unit, unit), (8 * unit, 11 * unit), (unit, 30 * unit)]
    for seed in range(200):
        size, num_frames = sizes[seed % len(sizes)], (1, 2, 9)[seed % 3]
        lr_size = (size[0] // recipe.scale, size[1] // recipe.scale)
        for independent in (False, True):
            for shared, own_stages in chains_of(recipe, seed, size, num_frames, independent):
                _, codec, _ = split_at_last_codec(own_stages)
                replayed = replay([*shared, *own_stages], size, num_frames)
                assert replayed.sizes == [lr_size] * num_frames
                assert codec is None or replayed.coded_frames[-1] == num_frames


@pytest.mark.parametrize("name", RELEASED)
def test_a_strict_recipe_differs_from_the_one_that_corrects_it(name: str) -> None:
    strict, correct = load_recipe(name), load_recipe(name.removesuffix("-strict"))
    assert strict.sha256 != correct.sha256
    assert strict.scale == correct.scale
    assert [s.name for s in strict.streams] == [s.name for s in correct.streams]


# Real-ESRGAN's chain, which five others extend.


def first_and_second(name: str, kind: type[T]) -> list[list[T]]:
    """The first stages of a kind, and the second ones, of chains that have both."""
    chains = [of(kind, chain) for chain in drawn(name)]
    return [[c[0] for c in chains], [c[1] for c in chains if len(c) > 1]]


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_kernels_have_the_families_and_sizes_of_real_esrgan(name: str) -> None:
    # The second blur may be absent, and the sinc filter of the ending stand in its place.
    for chain in drawn(name):
        assert 1 <= len(of(BlurDraw, chain)) <= 3
    firsts = [of(BlurDraw, chain)[0] for chain in drawn(name)]
    check_shares(Counter(blur.kernel for blur in firsts), FAMILIES)
    check_shares(Counter(blur.size for blur in firsts), ODD_SIZES)
    sigmas = [blur.sigma_x[0] for blur in firsts if blur.kernel != "sinc"]
    check_uniform(sigmas, 0.2, 3)
    thetas = [blur.theta[0] for blur in firsts if blur.kernel.endswith("anisotropic")]
    check_uniform(thetas, -3.1416, 3.1416)
    seconds = [of(BlurDraw, chain)[1:2] for chain in drawn(name)]
    sigmas = [blur.sigma_x[0] for blurs in seconds for blur in blurs if blur.kernel != "sinc"]
    check_uniform(sigmas, 0.2, 1.5)
    assert len(sigmas) / COUNT == pytest.approx(0.8 * 0.9, abs=0.06)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_noise_has_the_kinds_and_levels_of_real_esrgan(name: str) -> None:
    weaker = 16 if name == "realbasicvsr-strict" else 1
    noises = first_and_second(name, NoiseDraw)
    for draws, sigma, scale in zip(noises, (30, 25), (3, 2.5), strict=True):
        assert len(draws) == COUNT
        check_shares(Counter(draw.kind for draw in draws), {"gaussian": 1, "poisson": 1})
        check_uniform([d.level[0] for d in draws if d.kind == "gaussian"], 1, sigma)
        poisson = [d.level[0] * weaker for d in draws if d.kind == "poisson"]
        check_uniform(poisson, 0.05, scale)
        check_shares(Counter(d.gray[0] for d in draws), {True: 0.4, False: 0.6})


@pytest.mark.parametrize("name", ["vcisr", "realesrgan", "realbasicvsr", *RELEASED[:2]])
def test_the_first_jpeg_has_the_qualities_of_real_esrgan(name: str) -> None:
    stills = [of(StillDraw, chain)[0] for chain in drawn(name)]
    is_strict = name.endswith("strict")
    assert {still.codec for still in stills} == {"diffjpeg" if is_strict else "jpeg"}
    if is_strict or name == "realbasicvsr":  # mmagic rounds a real number
        check_uniform([still.quality[0] for still in stills], 29.5, 95.5)
    else:
        check_whole([still.quality[0] for still in stills], 30, 95)


WAYS = {
    "first": ((0.2, 0.7, 0.1), 0.15, 1.5),
    "second": ((0.3, 0.4, 0.3), 0.3, 1.2),
    "apisr first": ((0.2, 0.7, 0.1), 0.1, 1.2),
    "apisr second": ((0.2, 0.7, 0.1), 0.15, 1.2),
}


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_resizes_go_each_way_as_often_and_as_far_as_published(name: str) -> None:
    is_strict = name.endswith("strict")
    is_of_current = name in ("vcisr-strict", "realbasicvsr-strict")
    for index, which in enumerate(("first", "second")):
        shares, least, most = WAYS[f"apisr {which}" if name.startswith("apisr") else which]
        ways: Counter[str] = Counter()
        ups: list[float] = []
        downs: list[float] = []
        kernels: Counter[str] = Counter()
        for chain in drawn(name):
            resizes = random_resizes(chain)
            width = resizes[index].width[0]
            before = LARGE[1] // 4 if index else LARGE[1]
            if index and is_of_current:
                before = resizes[0].width[0]
            ratio = width / before
            # What is cut off or rounded away is less than a pixel.
            way = "up" if width > before else "down" if width < before - 1 else "keep"
            ways[way] += 1
            (ups if way == "up" else downs if way == "down" else []).append(ratio)
            kernels[resizes[index].kernel] += 1
        check_shares(ways, dict(zip(("up", "down", "keep"), shares, strict=True)))
        check_roughly_uniform(ups, 1, most)
        check_roughly_uniform(downs, least, 1)
        prefix = "torch_" if is_strict and not name.startswith("realbasicvsr") else ""
        check_shares(kernels, {prefix + k: 1 for k in ("area", "bilinear", "bicubic")})


def random_resizes(chain: Chain) -> list[ResizeDraw]:
    """The two resizes with a random factor: those around codecs are others."""
    before = chain[:last] if (last := index_of_downscale(chain)) else chain
    resizes = [r for i, r in enumerate(of(ResizeDraw, before)) if r.kernel != "matlab_bicubic"]
    assert len(resizes) == 2
    return resizes


def index_of_downscale(chain: Chain) -> int:
    lr_size = (LARGE[0] // 4, LARGE[1] // 4)
    return max(
        i
        for i, s in enumerate(chain)
        if isinstance(s, ResizeDraw)
        and (s.height[0], s.width[0]) == lr_size
        and s.kernel != "matlab_bicubic"
    )


def check_roughly_uniform(found: Sequence[float], least: float, most: float) -> None:
    # Up to a thousandth is rounding, at the smallest of these sizes.
    assert min(found) > least - 0.01 and max(found) < most + 0.01
    uniform = scipy.stats.uniform(least, most - least)
    assert scipy.stats.kstest(found, uniform.cdf).statistic < 0.02 + 2 / math.sqrt(len(found))


@pytest.mark.parametrize("name", ["realesrgan", "realesrgan-strict"])
def test_real_esrgan_ends_with_a_jpeg_or_a_sinc_filter(name: str) -> None:
    endings: Counter[str] = Counter()
    for chain in drawn(name):
        end = chain[index_of_downscale(chain) - 1 :]
        endings[" ".join(stage.op for stage in end)] += 1
        sinc = of(BlurDraw, end)
        assert all(b.kernel == "sinc" and b.cutoff[0] >= math.pi / 3 - 1e-3 for b in sinc)
    shares = {
        "noise resize blur still": 0.4,
        "noise resize still": 0.1,
        "still resize blur": 0.4,
        "still resize": 0.1,
    }
    check_shares(endings, shares)


def test_the_strict_real_esrgan_shifts_pictures_and_repeats_gray_noise() -> None:
    for chain in drawn("realesrgan-strict", independent=True)[:50]:
        first, second, last = of(ResizeDraw, chain)
        assert first.width == [math.floor(LARGE[1] * first.factor[0])]
        assert second.factor == last.factor == []
        assert all(n.static == n.gray for n in of(NoiseDraw, chain) if n.kind == "gaussian")


# VCISR.


class Ending(NamedTuple):
    """The codec stage of VCISR."""

    codec: CodecDraw
    ratio: float


def vcisr_endings(name: str) -> list[Ending]:
    coded = [c for chain in drawn(name) for c in of(CodecDraw, chain)]
    return [Ending(codec, codec.width / (LARGE[1] // 4)) for codec in coded]


@pytest.mark.parametrize("name", ["vcisr", "vcisr-strict"])
def test_vcisr_replaces_the_last_jpeg_by_a_codec_in_95_percent(name: str) -> None:
    num_codecs = Counter(len(of(CodecDraw, chain)) for chain in drawn(name))
    check_shares(num_codecs, {1: 0.95, 0: 0.05})
    for chain in drawn(name):
        num_stills = len(of(StillDraw, chain))
        assert num_stills == (1 if of(CodecDraw, chain) else 2)
        if of(CodecDraw, chain):
            assert all(blur.kernel != "sinc" for blur in of(BlurDraw, chain)[2:])


@pytest.mark.parametrize("name", ["vcisr", "vcisr-strict"])
def test_vcisr_draws_codecs_as_released(name: str) -> None:
    endings = vcisr_endings(name)
    codecs = Counter(ending.codec.codec for ending in endings)
    check_shares(codecs, {"mpeg2video": 0.2, "mpeg4": 0.2, "h264": 0.4, "hevc": 0.2})
    check_whole([e.codec.rate_value for e in endings if e.codec.codec == "h264"], 20, 32)
    check_whole([e.codec.rate_value for e in endings if e.codec.codec == "hevc"], 25, 37)
    presets = Counter(e.codec.preset for e in endings if e.codec.preset)
    shares = {"slow": 0.1, "medium": 0.5, "fast": 0.25, "faster": 0.12, "superfast": 0.03}
    check_shares(presets, shares)
    assert all(bool(e.codec.preset) == (e.codec.codec in ("h264", "hevc")) for e in endings)
    others = [e for e in endings if e.codec.codec != "mpeg2video"]
    check_shares(Counter(e.codec.fps for e in others), dict.fromkeys(range(16, 31), 1))
    ways = Counter((e.ratio > 1) - (e.ratio < 1) for e in others)
    check_shares(ways, {1: 0.4, -1: 0.2, 0: 0.4})
    check_roughly_uniform([e.ratio for e in others if e.ratio > 1], 1, 1.35)
    check_roughly_uniform([e.ratio for e in others if e.ratio < 1], 0.8, 1)


def test_mpeg_quality_means_something_at_every_size_in_vcisr() -> None:
    mpeg = [e.codec for e in vcisr_endings("vcisr") if e.codec.codec.startswith("mpeg")]
    assert {codec.rate_mode for codec in mpeg} == {"qscale"}
    assert {codec.rate_value for codec in mpeg} == set(range(4, 21))
    middle = np.median([codec.rate_value for codec in mpeg])
    assert middle == pytest.approx(math.sqrt(4 * 20), abs=1)


def test_mpeg_bitrates_are_blind_to_size_in_the_strict_vcisr() -> None:
    mpeg = [e for e in vcisr_endings("vcisr-strict") if e.codec.codec.startswith("mpeg")]
    check_uniform([e.codec.rate_value for e in mpeg], 3.8e6 - 500, 5.8e6 + 500)
    small = drawn("vcisr-strict", size=(360, 360))
    rates = [c.rate_value for chain in small for c in of(CodecDraw, chain) if "mpeg" in c.codec]
    assert min(rates) >= 3.8e6
    mpeg2 = [e for e in mpeg if e.codec.codec == "mpeg2video"]
    assert {e.codec.fps for e in mpeg2} == {25} and min(e.ratio for e in mpeg2) == 1


def test_a_pack_of_vcisr_shares_kernels_and_sizes_but_not_levels() -> None:
    for chain in drawn("vcisr", independent=True)[:100]:
        for blur in of(BlurDraw, chain):
            assert len(blur.sigma_x) == len(blur.theta) == len(blur.cutoff) == 1
        assert all(len(resize.height) == 1 for resize in of(ResizeDraw, chain))
        for noise in of(NoiseDraw, chain):
            assert len(set(noise.level)) == 6 and len(noise.gray) == 6 and noise.static == [False]
        assert all(len(still.quality) == 6 for still in of(StillDraw, chain))


def test_the_strict_vcisr_has_the_bugs_of_the_release() -> None:
    recipe = load_recipe("vcisr-strict")
    assert (recipe.pseudo_video.frames, recipe.hr.sharpen) == (128, "target")
    for chain in drawn("vcisr-strict", independent=True)[:100]:
        first, second = random_resizes(chain)
        for before, resize in ((LARGE, first), ((first.height[0], first.width[0]), second)):
            (factor,) = resize.factor
            size = (resize.height[0], resize.width[0])
            assert size == tuple(math.floor(side * factor) for side in before)
        for noise in of(NoiseDraw, chain):
            assert noise.bgr
            assert noise.static == (noise.gray if noise.kind == "gaussian" else [False])
        assert all(still.codec == "diffjpeg" and still.bgr for still in of(StillDraw, chain))
        assert all(codec.color.scaler == "fast" for codec in of(CodecDraw, chain))
    chain = drawn("vcisr", independent=True)[0]
    assert not any(noise.bgr for noise in of(NoiseDraw, chain))


# BSRGAN.


def test_bsrgan_shuffles_all_but_the_two_downscales() -> None:
    firsts: Counter[str] = Counter()
    for chain in drawn("bsrgan"):
        stages = chain[:-1]
        last = chain[-1]
        assert isinstance(last, StillDraw) and last.quality[0] in range(30, 96)
        resizes = of(ResizeDraw, stages)
        assert len(resizes) in (2, 3)
        assert (resizes[-1].height, resizes[-1].width) == ([LARGE[0] // 4], [LARGE[1] // 4])
        assert len(of(BlurDraw, stages)) == 2
        assert len([n for n in of(NoiseDraw, stages) if n.kind == "gaussian"]) == 1
        if len(resizes) == 2:
            firsts[stages[0].op] += 1
    # Of seven groups, two are blurs; the first downscale stands before the second, so it comes
    # first twice as often; JPEG is there in 9 of 10, camera noise in 1 of 4.
    found = {op: firsts[op] / sum(firsts.values()) for op in ("blur", "resize")}
    assert found["blur"] == pytest.approx(found["resize"], abs=0.07)


def test_bsrgan_halves_a_quarter_of_the_pictures_first() -> None:
    halved = [chain for chain in drawn("bsrgan") if len(of(ResizeDraw, chain)) == 3]
    assert len(halved) / COUNT == pytest.approx(0.25, abs=0.05)
    kernels: Counter[str] = Counter()
    for chain in halved:
        first = chain[0]
        assert isinstance(first, ResizeDraw)
        assert (first.height, first.width) == ([LARGE[0] // 2], [LARGE[1] // 2])
        kernels[first.kernel] += 1
    check_shares(kernels, {"matlab_bicubic": 3, "bilinear": 1, "bicubic": 1, "area": 1})


def test_bsrgan_downscales_with_random_factors_or_a_gaussian() -> None:
    divisors, kernels = [], Counter[str]()
    for chain in drawn("bsrgan"):
        resizes = of(ResizeDraw, chain)
        if len(resizes) == 2:
            kernels["gaussian" if resizes[0].kernel == "gaussian" else "other"] += 1
            if resizes[0].kernel == "gaussian":
                assert resizes[0].width == [LARGE[1] // 4] and 0.1 <= resizes[0].sigma <= 2.4
            else:
                divisors.append(LARGE[1] / resizes[0].width[0])
    check_shares(kernels, {"gaussian": 0.25, "other": 0.75})
    check_roughly_uniform(divisors, 1, 8)


def test_bsrgan_blurs_and_noises_as_published() -> None:
    full = [chain for chain in drawn("bsrgan") if len(of(ResizeDraw, chain)) == 2]
    blurs = [blur for chain in full for blur in of(BlurDraw, chain)]
    check_shares(Counter(blur.kernel for blur in blurs), {"isotropic": 1, "anisotropic": 1})
    check_shares(Counter(blur.size for blur in blurs), dict.fromkeys(range(7, 26, 2), 1))
    isotropic = [b.sigma_x[0] for b in blurs if b.kernel == "isotropic"]
    check_uniform(isotropic, 0.01, 2.8)
    # Eigenvalues of the covariance are uniform up to 4 + 4.
    variances = [b.sigma_y[0] ** 2 for b in blurs if b.kernel == "anisotropic"]
    check_uniform(variances, 0, 8)
    noises = [n for chain in full for n in of(NoiseDraw, chain) if n.kind == "gaussian"]
    check_whole([noise.level[0] for noise in noises], 2, 25)
    sorts = Counter("full" if n.covariance else "gray" if n.gray[0] else "colour" for n in noises)
    check_shares(sorts, {"full": 0.2, "gray": 0.4, "colour": 0.4})
    num_jpegs = Counter(len(of(StillDraw, chain)) for chain in full)
    check_shares(num_jpegs, {2: 0.9, 1: 0.1})


def test_the_extended_bsrgan_keeps_its_order_half_of_the_time() -> None:
    in_order = 0
    for chain in drawn("bsrgan-plus"):
        assert [stage.op for stage in chain[-2:]] == ["resize", "still"]
        resizes = of(ResizeDraw, chain)
        assert len(resizes) == 3 and len(of(BlurDraw, chain)) == len(of(StillDraw, chain)) == 2
        ops = "".join(s.op[0] for s in chain if not isinstance(s, NoiseDraw))
        in_order += ops == "brsbrrs"
        noises = Counter(noise.kind for noise in of(NoiseDraw, chain))
        assert noises["gaussian"] == 2
    # Shuffled chains have that order too, if rarely.
    assert in_order / COUNT == pytest.approx(0.5, abs=0.07)


# APISR.


@pytest.mark.parametrize("name", ["apisr", "apisr-strict"])
def test_apisr_resizes_at_three_places(name: str) -> None:
    firsts: Counter[str] = Counter()
    for chain in drawn(name):
        firsts[" ".join(stage.op for stage in chain[:3])] += 1
    shares = {"resize blur noise": 1, "blur resize noise": 1, "blur noise resize": 1}
    check_shares(firsts, shares)


@pytest.mark.parametrize("name", ["apisr", "apisr-strict"])
def test_apisr_compresses_stills_and_single_frames(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.pseudo_video.frames, recipe.hr.patch_height) == (1, 0)
    firsts, lasts, qualities = Counter[str](), Counter[str](), []
    for chain in drawn(name):
        first = of(StillDraw, chain)[0]
        firsts[first.codec] += 1
        last = chain[-1]
        assert isinstance(last, StillDraw | CodecDraw)
        lasts[last.codec] += 1
        qualities += [still.quality[0] for still in of(StillDraw, chain)]
        for still in of(StillDraw, chain):
            assert still.truncate == (name == "apisr-strict" and still.codec != "jpeg")
    check_shares(firsts, {"jpeg": 0.4, "webp": 0.6})
    shares = {"jpeg": 0.06, "webp": 0.1, "avif": 0.1, "mpeg2video": 0.12, "mpeg4": 0.12}
    check_shares(lasts, shares | {"h264": 0.3, "hevc": 0.2})
    check_whole(qualities, 20, 95)
    codecs = [codec for chain in drawn(name) for codec in of(CodecDraw, chain)]
    for codec, least, most in (("h264", 23, 38), ("hevc", 28, 42)):
        check_whole([c.rate_value for c in codecs if c.codec == codec], least, most)
    check_whole([c.rate_value for c in codecs if c.codec.startswith("mpeg")], 8, 31)
    presets = Counter(codec.preset for codec in codecs if codec.preset)
    shares = {"slow": 0.05, "medium": 0.35, "fast": 0.3, "faster": 0.2, "superfast": 0.1}
    check_shares(presets, shares)


# RealBasicVSR.


STEPS = {"sigma_x": 0.02, "sigma_y": 0.02, "theta": 0.31416, "cutoff": 0.0628}


@pytest.mark.parametrize("name", ["realbasicvsr", "realbasicvsr-strict"])
def test_parameters_of_realbasicvsr_walk_along_the_clip(name: str) -> None:
    weaker = 16 if name == "realbasicvsr-strict" else 1
    for chain in drawn(name)[:100]:
        for blur in of(BlurDraw, chain):
            moving = ["cutoff"] if blur.kernel == "sinc" else ["sigma_x", "sigma_y"]
            moving += ["theta"] if blur.kernel.endswith("anisotropic") else []
            for field in moving:
                check_walk(getattr(blur, field), STEPS[field])
            if blur.kernel.startswith(("generalized", "plateau")):
                check_walk(blur.beta, 0.05 if blur.kernel.startswith("generalized") else 0.1)
        for noise in of(NoiseDraw, chain):
            check_walk(noise.level, 0.1 if noise.kind == "gaussian" else 0.005 / weaker)
        for still in of(StillDraw, chain):
            assert len(still.quality) == 6
            assert np.abs(np.diff(still.quality)).max() <= 4  # steps of 3, rounded
            assert all(30 <= quality <= 95 for quality in still.quality)
        first, second = random_resizes(chain)
        assert len(first.width) == len(second.width) == 6
        assert np.abs(np.diff(first.width)).max() <= 0.015 * LARGE[1] + 1
        before = first.width[0] if weaker > 1 else LARGE[1] // 4
        assert np.abs(np.diff(second.width)).max() <= 0.03 * before + 1


def check_walk(values: Sequence[float], step: float) -> None:
    assert len(values) == 6
    assert np.abs(np.diff(values)).max() <= step * (1 + 1e-9)


@pytest.mark.parametrize("name", ["realbasicvsr", "realbasicvsr-strict"])
def test_realbasicvsr_has_two_codecs_and_its_last_one_in_two_places(name: str) -> None:
    places: Counter[bool] = Counter()
    codecs = []
    for chain in drawn(name):
        first, second = of(CodecDraw, chain)
        codecs += [first, second]
        # Where the last codec comes first, the reference decoder downscales.
        places[index_of_downscale(chain) > chain.index(second)] += 1
    check_shares(places, {True: 1, False: 1})
    check_shares(Counter(c.codec for c in codecs), {"h264": 2, "mpeg4": 1})
    if name == "realbasicvsr-strict":
        assert {c.fps for c in codecs} == {1}
        check_uniform([c.rate_value for c in codecs], 1e4 - 500, 1e5 + 500)
        assert {c.color.scaler for c in codecs} == {"fast"}
    else:
        bits = [c.rate_value / (c.height * c.width * c.fps) for c in codecs]
        check_uniform(bits, 0.15 - 2e-3, 1.5 + 2e-3)


# CAVSR.


@pytest.mark.parametrize("name", ["cavsr", "cavsr-444", "cavsr-mv-clean"])
def test_cavsr_has_aligned_streams_at_three_rate_factors(name: str) -> None:
    recipe = load_recipe(name)
    assert [stream.name for stream in recipe.streams] == ["clean", "crf15", "crf25", "crf35"]
    streams = chains_of(recipe, 0, (256, 256))
    assert all(shared == streams[0][0] for shared, _ in streams)
    assert streams[0][0] == [ResizeDraw(height=[64], width=[64], kernel="bd")]
    assert streams[0][1] == []
    for crf, (_, (codec,)) in zip((15, 25, 35), streams[1:], strict=True):
        assert isinstance(codec, CodecDraw)
        assert (codec.codec, codec.rate_mode, codec.rate_value) == ("h264", "crf", crf)
        assert (codec.preset, codec.gop_frames, codec.scene_cut) == ("medium", 250, True)
        assert codec.pixel_format == ("yuv444p" if name == "cavsr-444" else "yuv420p")
        kept = (codec.b_frames, codec.refs, codec.b_pyramid, codec.weighted_prediction)
        assert kept == ((2, 1, False, False) if name == "cavsr-mv-clean" else (3, 0, True, True))


def test_continuous_cavsr_covers_all_rate_factors_in_order() -> None:
    recipe = load_recipe("cavsr-continuous")
    factors = []
    for seed in range(COUNT):
        streams = chains_of(recipe, seed, (256, 256))
        codecs = [codec for _, own in streams for codec in of(CodecDraw, own)]
        values = [codec.rate_value for codec in codecs]
        assert len(values) == 3 and values == sorted(values)
        factors += values
    check_uniform(factors, 9.95, 40.05)


# Streaming.


def generations(chain: Chain) -> list[CodecDraw]:
    return of(CodecDraw, chain)


def test_streaming_has_one_to_three_generations_and_ends_coded() -> None:
    found = Counter(len(generations(chain)) for chain in drawn("streaming"))
    check_shares(found, {1: 0.4 * 0.5, 2: 0.6 * 0.5 + 0.4 * 0.5, 3: 0.6 * 0.5})


def test_streaming_delivers_every_codec_with_its_share() -> None:
    last = [generations(chain)[-1] for chain in drawn("streaming")]
    shares = {"h264": 0.5, "hevc": 0.17, "vp9": 0.13, "av1": 0.12}
    check_shares(Counter(c.codec for c in last), shares | {"mpeg4": 0.04, "mpeg2video": 0.04})
    for codec, least, most in (("vp9", 25, 55), ("av1", 25, 58)):
        check_whole([c.rate_value for c in last if c.codec == codec], least, most)
    hevc = [c.rate_value for c in last if c.codec == "hevc"]
    check_uniform(hevc, 19.95, 42.05)
    lossy = [c for c in last if c.slices > 1]
    assert all(c.codec == "h264" and c.tune == "zerolatency" for c in lossy)
    assert 0 < len(lossy) < 0.05 * COUNT
    assert not any(c.lost for chain in drawn("streaming") for c in generations(chain)[:-1])


def test_streaming_is_rarely_wrong_about_colours_and_says_so() -> None:
    last = [generations(chain)[-1].color for chain in drawn("streaming")]
    for name, share in (("matrix", 0.03), ("range", 0.01), ("location", 0.05)):
        wrong = [getattr(c, f"written_{name}") != getattr(c, f"read_{name}") for c in last]
        assert np.mean(wrong) == pytest.approx(share, abs=0.02)
    earlier = [c.color for chain in drawn("streaming") for c in generations(chain)[:-1]]
    assert all(c.written_matrix == c.read_matrix for c in earlier)


def test_streaming_puts_the_block_grid_anywhere() -> None:
    shifts = Counter(pad.top for chain in drawn("streaming") for pad in of(PadDraw, chain))
    assert set(range(1, 16)) <= set(shifts)
    del shifts[0]  # no padding at all, where nothing else needs any
    check_shares(shifts, dict.fromkeys(range(1, 16), 1))


def test_streaming_edits_are_rare_and_screenshots_come_last() -> None:
    chains = drawn("streaming")
    for kind, share in (("denoise", 0.1), ("sharpen", 0.15), ("still", 0.03)):
        found = np.mean([any(stage.op == kind for stage in chain) for chain in chains])
        assert found == pytest.approx(share, abs=0.03), kind
    assert all(of(StillDraw, chain) in ([], chain[-1:]) for chain in chains)
    amounts = [s.amount[0] for chain in chains for s in of(SharpenDraw, chain)]
    check_uniform(amounts, 0.2, 1)
