import json
import math
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.recipe_files import load_recipe
from schemas.draw import (
    BlurDraw,
    CodecDraw,
    JpegDraw,
    NoiseDraw,
    ResizeDraw,
    SceneDraw,
    StreamDraw,
)
from schemas.plan import PlannedSample, Span
from schemas.recipe import Range, Recipe
from schemas.sample import SampleKind
from transforms.draw import (
    draw_number,
    draw_scene,
    draw_stream,
    generator,
    hr_size,
    patch_grid,
    patch_size,
)

CAVSR, VCISR = load_recipe("cavsr"), load_recipe("vcisr")
SIZE = (800, 1100)


def recipe_of(**fields: Any) -> Recipe:
    return Recipe.model_validate({"name": "test", "streams": [{"name": "only"}]} | fields)


def with_stages(*stages: dict[str, Any]) -> Recipe:
    """One stream with these stages."""
    return recipe_of(streams=[{"name": "only", "stages": list(stages)}])


def clip(source: str = "ab", number: int = 0, patch: int = 0, frames: int = 5) -> PlannedSample:
    row = planned(SampleKind.CLIP, [Span(source_id=source, start=32 * number, count=frames)])
    return row.model_copy(update={"key": f"{source}-{number}", "clip": number, "patch": patch})


def pack(key: str = "pack", frames: int = 5) -> PlannedSample:
    spans = [
        Span(source_id="ab", start=1, count=frames - 1),
        Span(source_id="cd", start=0, count=1),
    ]
    return planned(SampleKind.PSEUDO_VIDEO, spans).model_copy(update={"key": key})


def planned(kind: SampleKind, spans: list[Span]) -> PlannedSample:
    return PlannedSample(
        shard="train-000000",
        key="key",
        kind=kind,
        split="train",
        group="",
        licence="",
        clip=0,
        patch=0,
        spans=spans,
        estimated_bytes=0,
    )


def scene_of(recipe: Recipe, row: PlannedSample, seed: int = 0) -> SceneDraw:
    return draw_scene(recipe, seed, row, {span.source_id: SIZE for span in row.spans})


def stream_of(recipe: Recipe, row: PlannedSample, stream: int = 0, seed: int = 0) -> StreamDraw:
    return draw_stream(recipe, seed, row, scene_of(recipe, row, seed), stream)


def draws_of(recipe: Recipe, count: int) -> list[StreamDraw]:
    """The draws of many clips."""
    return [stream_of(recipe, clip(number=number, frames=2)) for number in range(count)]


def test_the_same_sample_has_the_same_draw() -> None:
    for row in (clip(), pack()):
        assert scene_of(VCISR, row) == scene_of(VCISR, row)
        assert stream_of(VCISR, row) == stream_of(VCISR, row)


def test_the_draw_does_not_depend_on_the_process() -> None:
    code = (
        "from tests.transforms.test_draw import *\n"
        "print([scene_of(VCISR, row).model_dump_json() for row in (clip(), pack())]"
        " + [stream_of(VCISR, row).model_dump_json() for row in (clip(), pack())])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    scenes = [scene_of(VCISR, row).model_dump_json() for row in (clip(), pack())]
    streams = [stream_of(VCISR, row).model_dump_json() for row in (clip(), pack())]
    assert printed == {f"{scenes + streams}\n"}


def test_a_generator_depends_on_each_part_and_their_order() -> None:
    parts: list[tuple[int | str, ...]] = [
        ("scene", 0, "ab", 1),
        ("scene", 1, "ab", 0),
        ("scene", 0, "ab", "1"),
        ("scene", 0, "ab"),
        ("scene", 0, "ab1"),
        ("scene", 0, "夜", 1),
        ("scene", 2**70, "ab", 1),
        ("grid", 0, "ab", 1),
    ]
    numbers = {generator(*part).integers(2**62) for part in parts}
    assert len(numbers) == len(parts)


def test_streams_differ_and_the_scene_is_shared() -> None:
    twice = VCISR.streams[0].model_copy(update={"name": "other"})
    recipe = VCISR.model_copy(update={"streams": [VCISR.streams[0], twice]})
    first, second = (stream_of(recipe, clip(), stream) for stream in (0, 1))
    assert first.stages != second.stages
    # A stream's draw does not depend on how many there are, and the scene on none.
    assert first == stream_of(VCISR, clip())
    assert scene_of(recipe, clip()) == scene_of(VCISR, clip())


def test_another_seed_clip_source_or_pack_is_another_draw() -> None:
    noisy = VCISR.model_copy(update={"shared": VCISR.streams[0].stages[:4]})
    rows = [clip(), clip(number=1), clip("cd"), pack(), pack("other")]
    draws = [scene_of(noisy, row).stages for row in rows] + [scene_of(noisy, clip(), 1).stages]
    streams = [stream_of(VCISR, row) for row in rows] + [stream_of(VCISR, clip(), seed=1)]
    for different in (draws, streams):
        assert all(one != other for k, one in enumerate(different) for other in different[:k])


def test_patches_of_one_clip_lie_apart_in_the_same_grid() -> None:
    corners = set()
    for patch in range(4):
        scene = scene_of(CAVSR, clip(patch=patch))
        assert len({(o.top, o.left) for o in scene.origins}) == 1
        corners.add((scene.origins[0].top, scene.origins[0].left))
    assert len(corners) == 4
    assert corners <= set(patch_grid(CAVSR, 0, "ab", *SIZE))


def test_a_clip_has_consecutive_frames_of_its_span() -> None:
    scene = scene_of(CAVSR, clip(number=2, frames=7))
    assert [(o.source_id, o.frame) for o in scene.origins] == [("ab", 64 + t) for t in range(7)]


def test_a_pack_has_the_cells_of_its_spans_in_order() -> None:
    scene = scene_of(VCISR, pack(frames=4))
    cells = patch_grid(VCISR, 0, "ab", *SIZE)[1:4] + patch_grid(VCISR, 0, "cd", *SIZE)[:1]
    found = [(o.source_id, o.frame, (o.top, o.left)) for o in scene.origins]
    expected = [
        (source, 0, cell) for source, cell in zip(["ab", "ab", "ab", "cd"], cells, strict=True)
    ]
    assert found == expected


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    seed=st.integers(0, 2**40),
)
def test_grid_cells_lie_inside_the_picture_and_apart(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    patch = (16 * rows, 16 * columns)
    recipe = recipe_of(
        hr={"patch_height": patch[0], "patch_width": patch[1]},
        shared=[{"op": "downscale"}],
    )
    cells = patch_grid(recipe, seed, "ab", height, width)
    assert len(cells) == (height // patch[0]) * (width // patch[1])
    covered = np.zeros((height, width), int)
    for top, left in cells:
        assert 0 <= top <= height - patch[0] and 0 <= left <= width - patch[1]
        covered[top : top + patch[0], left : left + patch[1]] += 1
    assert covered.max(initial=0) <= 1


def test_the_grid_moves_with_the_source_the_seed_and_the_clip_over_all_offsets() -> None:
    recipe = recipe_of(hr={"patch_height": 64, "patch_width": 64}, shared=[{"op": "downscale"}])
    for parts in (
        [(0, str(n), 0) for n in range(300)],
        [(n, "ab", 0) for n in range(300)],
        [(0, "ab", n) for n in range(300)],
    ):
        corners = [patch_grid(recipe, s, i, 64 + 7, 64 + 7, start=t)[0] for s, i, t in parts]
        assert {top for top, _ in corners} == {left for _, left in corners} == set(range(8))


def test_whole_frames_are_cut_to_an_even_lr_size() -> None:
    recipe = recipe_of(hr={"patch_height": 0, "patch_width": 0}, shared=[{"op": "downscale"}])
    assert patch_size(recipe, 85, 103) == (80, 96)
    assert patch_size(recipe, 7, 103) == (0, 96)
    assert patch_grid(recipe, 0, "ab", 7, 103) == []
    (corner,) = patch_grid(recipe, 0, "ab", 85, 103)
    assert corner[0] <= 5 and corner[1] <= 7
    scene = draw_scene(recipe, 0, clip(), {"ab": (85, 103)})
    assert (scene.height, scene.width) == (80, 96)
    assert scene.stages == [ResizeDraw(height=20, width=24, kernel="matlab_bicubic")]


def test_a_picture_smaller_than_the_patch_has_no_cells() -> None:
    assert patch_size(CAVSR, 255, 1000) == (0, 0)
    assert patch_grid(CAVSR, 0, "ab", 255, 1000) == []
    assert patch_grid(CAVSR, 0, "ab", 256, 256) == [(0, 0)]


def test_pre_downscale_shrinks_the_source() -> None:
    recipe = CAVSR.model_copy(update={"hr": CAVSR.hr.model_copy(update={"pre_downscale": 1.5})})
    assert hr_size(recipe, 720, 1281) == (480, 854)
    assert hr_size(CAVSR, 721, 1281) == (721, 1281)


NOISE = {"op": "noise", "gaussian_probability": 1}
DOWN = {"op": "downscale"}


def test_the_frames_of_a_clip_share_every_value() -> None:
    stages = with_stages(NOISE, {"op": "jpeg"}, DOWN)
    noise, jpeg, _ = stream_of(stages, clip(frames=6)).stages
    assert isinstance(noise, NoiseDraw) and isinstance(jpeg, JpegDraw)
    assert [len(noise.level), len(noise.gray), len(jpeg.quality)] == [6, 6, 6]
    assert len(set(noise.level)) == len(set(noise.gray)) == len(set(jpeg.quality)) == 1


def test_the_frames_of_a_pack_have_values_of_their_own() -> None:
    stages = with_stages(NOISE, {"op": "jpeg"}, DOWN)
    noise, jpeg, _ = stream_of(stages, pack(frames=6)).stages
    assert isinstance(noise, NoiseDraw) and isinstance(jpeg, JpegDraw)
    assert len(set(noise.level)) == 6
    assert len(set(jpeg.quality)) > 2
    gray = stream_of(stages, pack("long", 30)).stages[0]
    assert isinstance(gray, NoiseDraw) and set(gray.gray) == {True, False}


def test_a_single_frame_is_a_clip_and_a_pack() -> None:
    one = planned(SampleKind.PSEUDO_VIDEO, [Span(source_id="ab", start=0, count=1)])
    for row in (clip(frames=1), one):
        assert len(scene_of(VCISR, row).origins) == 1
        assert len([s for s in stream_of(VCISR, row).stages if isinstance(s, NoiseDraw)]) == 2


def test_draws_survive_json() -> None:
    for recipe in (CAVSR, VCISR):
        for row in (clip(), pack()):
            scene = scene_of(recipe, row)
            assert SceneDraw.model_validate_json(scene.model_dump_json()) == scene
            for stream in range(len(recipe.streams)):
                draw = stream_of(recipe, row, stream)
                assert StreamDraw.model_validate_json(draw.model_dump_json()) == draw
                assert json.loads(draw.model_dump_json())["stages"] is not None


def in_range(value: float, least: float, most: float) -> bool:
    return least <= value <= most


def test_values_of_the_vcisr_recipe_stay_in_their_ranges() -> None:
    encoders = {encoder.codec: encoder for encoder in VCISR.streams[0].stages[-1].encoders}  # type: ignore[union-attr]
    for draw in draws_of(VCISR, 400):
        ops = [stage.op for stage in draw.stages]
        assert ops in (
            ["blur", "resize", "noise", "jpeg", "blur", "resize", "noise", "resize", "codec"],
            ["blur", "resize", "noise", "jpeg", "resize", "noise", "resize", "codec"],
        )
        blurs = [stage for stage in draw.stages if isinstance(stage, BlurDraw)]
        for blur, most in zip(blurs, (3, 1.5), strict=False):
            assert blur.size in range(7, 22, 2)
            if blur.kernel == "sinc":
                assert in_range(blur.cutoff, math.pi / (3 if blur.size < 13 else 5), math.pi)
                continue
            assert in_range(blur.sigma_x, 0.2, most) and in_range(blur.sigma_y, 0.2, most)
            assert in_range(blur.theta, -math.pi, math.pi) and blur.cutoff == 0
            is_isotropic = "anisotropic" not in blur.kernel
            assert not is_isotropic or (blur.sigma_x, blur.theta) == (blur.sigma_y, 0)
            least, largest = {"g": (0.5, 4), "p": (1, 2)}.get(blur.kernel[0], (1, 1))
            assert in_range(blur.beta, least, largest)
        noises = [stage for stage in draw.stages if isinstance(stage, NoiseDraw)]
        for noise, sigma, scale in zip(noises, (30, 25), (3, 2.5), strict=True):
            limits = (1, sigma) if noise.kind == "gaussian" else (0.05, scale)
            assert all(in_range(level, *limits) for level in noise.level)
            assert in_range(noise.seed, 0, 2**53 - 1)  # exact in any JSON reader
        (jpeg,) = (stage for stage in draw.stages if isinstance(stage, JpegDraw))
        assert all(in_range(quality, 30, 95) for quality in jpeg.quality)
        first, second, last = (s for s in draw.stages if isinstance(s, ResizeDraw))
        assert in_range(first.height, 0.15 * 360, 1.5 * 360)
        assert in_range(second.height, 0.3 * 90, 1.2 * 90)
        assert (last.height, last.width) == (90, 90)
        codec = draw.stages[-1]
        assert isinstance(codec, CodecDraw)
        encoder = encoders[codec.codec]
        assert codec.height == 90 and codec.width % 2 == 0
        assert in_range(codec.width, 0.8 * 90 - 1, 1.35 * 90 + 1)
        assert codec.fps == 25 if codec.codec == "mpeg2video" else in_range(codec.fps, 16, 30)
        assert codec.rate_mode == encoder.rate[0]
        assert (codec.preset in encoder.presets) == bool(encoder.presets)
        if codec.rate_mode == "bitrate":
            bits = codec.rate_value / (codec.height * codec.width * codec.fps)
            assert in_range(bits, 0.29, 2.51) and codec.rate_value % 1000 == 0
        else:
            assert isinstance(number := encoder.crf, Range)
            assert in_range(codec.rate_value, number.min, number.max)
            assert codec.rate_value == int(codec.rate_value)


def test_weighted_choices_come_about_as_often_as_they_should() -> None:
    draws = draws_of(VCISR, 1000)
    codecs, kernels, presets = Counter[str](), Counter[str](), Counter[str]()
    num_blurs = 0
    for draw in draws:
        codec = draw.stages[-1]
        assert isinstance(codec, CodecDraw)
        codecs[codec.codec] += 1
        presets[codec.preset] += 1
        blurs = [stage for stage in draw.stages if isinstance(stage, BlurDraw)]
        num_blurs += len(blurs)
        kernels.update(blur.kernel for blur in blurs)
    for name, share in (("mpeg2video", 0.2), ("mpeg4", 0.2), ("h264", 0.4), ("hevc", 0.2)):
        assert codecs[name] / 1000 == pytest.approx(share, abs=0.05)
    assert presets["medium"] / 1000 == pytest.approx(0.6 * 0.5, abs=0.05)
    assert num_blurs / 1000 == pytest.approx(1.8, abs=0.05)
    for name, share in (("isotropic", 0.405), ("anisotropic", 0.225), ("sinc", 0.1)):
        assert kernels[name] / num_blurs == pytest.approx(share, abs=0.04)


def test_a_weight_of_0_is_never_drawn() -> None:
    encoders = [
        {"codec": "mpeg4", "qscale": 3, "weight": 0},
        {"codec": "h264", "crf": 20, "weight": 1e-9},
        {"codec": "hevc", "crf": 20, "weight": 0},
    ]
    recipe = with_stages(
        {"op": "blur", "probability": 0}, DOWN, {"op": "codec", "encoders": encoders}
    )
    for draw in draws_of(recipe, 50):
        assert [stage.op for stage in draw.stages] == ["resize", "codec"]
        assert isinstance(draw.stages[-1], CodecDraw) and draw.stages[-1].codec == "h264"


def codec_draws(count: int = 60, **encoder: Any) -> list[CodecDraw]:
    recipe = with_stages(
        DOWN,
        {
            "op": "codec",
            "encoders": [encoder],
            "fps": {"min": 10, "max": 60},
            "width_ratio": {"up": 1, "keep": 0, "up_factor": {"min": 1, "max": 1.4}},
        },
    )
    stages = [draw.stages[-1] for draw in draws_of(recipe, count)]
    assert all(isinstance(stage, CodecDraw) for stage in stages)
    return [stage for stage in stages if isinstance(stage, CodecDraw)]


def test_rate_factors_are_drawn_in_tenths() -> None:
    values = {d.rate_value for d in codec_draws(codec="h264", crf={"min": 15, "max": 35})}
    assert len(values) > 40
    assert all(value == round(value, 1) for value in values)
    assert {d.rate_mode for d in codec_draws(5, codec="hevc", crf=20)} == {"crf"}


def test_quantisers_are_whole_numbers() -> None:
    values = {d.rate_value for d in codec_draws(codec="mpeg4", qscale={"min": 2, "max": 9})}
    assert values == set(range(2, 10))


def test_a_bitrate_follows_the_size_of_the_picture_that_is_encoded() -> None:
    for draw in codec_draws(codec="mpeg4", bits_per_pixel=0.5):
        assert draw.rate_value == round(0.5 * draw.height * draw.width * draw.fps, -3)
    assert {d.rate_value for d in codec_draws(5, codec="mpeg4", bits_per_pixel=1e-3)} == {1000}


def test_widths_are_even_and_the_rate_of_mpeg2_is_25() -> None:
    draws = codec_draws(codec="mpeg2video", qscale=3)
    assert {draw.fps for draw in draws} == {25}
    assert len({draw.width for draw in draws}) > 5
    assert all(draw.width % 2 == 0 and 64 <= draw.width <= 90 for draw in draws)
    assert len({draw.fps for draw in codec_draws(codec="mpeg4", qscale=3)}) > 20


def test_the_default_preset_is_medium_where_there_are_presets() -> None:
    assert {d.preset for d in codec_draws(3, codec="h264", crf=20)} == {"medium"}
    assert {d.preset for d in codec_draws(3, codec="mpeg4", qscale=3)} == {""}


def test_beta_is_as_often_below_1_as_above() -> None:
    stage = {"op": "blur", "kernels": {"generalized_isotropic": 1}}
    betas = [
        stage.beta
        for draw in draws_of(with_stages(stage, DOWN), 400)
        for stage in draw.stages
        if isinstance(stage, BlurDraw)
    ]
    assert np.mean(np.array(betas) < 1) == pytest.approx(0.5, abs=0.1)
    assert min(betas) < 0.6 and max(betas) > 3.5


def test_random_resizes_keep_a_least_side_of_16_pixels() -> None:
    shrink = {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 0.01}}
    (draw,) = draws_of(with_stages(shrink, DOWN), 1)
    assert isinstance(draw.stages[0], ResizeDraw) and isinstance(draw.stages[1], ResizeDraw)
    assert (draw.stages[0].height, draw.stages[0].width) == (16, 16)
    assert (draw.stages[1].height, draw.stages[1].width) == (64, 64)


def test_a_resize_after_the_shared_ones_goes_on_from_their_size() -> None:
    half = {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 0.5}}
    relative = {"op": "resize", "relative_to": "lr", "scaling": {}}
    recipe = recipe_of(shared=[half], streams=[{"name": "only", "stages": [half, relative, DOWN]}])
    scene, draw = scene_of(recipe, clip()), stream_of(recipe, clip())
    sizes = [(s.height, s.width) for s in (*scene.stages, *draw.stages) if s.op == "resize"]
    assert sizes == [(128, 128), (64, 64), (64, 64), (64, 64)]


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
    rng = generator("ends")
    tenths = {round(draw_number(Range(min=0, max=0.3, step=0.1), rng), 6) for _ in range(200)}
    assert tenths == {0, 0.1, 0.2, 0.3}
    odd = {draw_number(Range(min=7, max=21, step=2), rng) for _ in range(300)}
    assert odd == set(range(7, 22, 2))
    assert {draw_number([1, 5, 5, 9], rng) for _ in range(100)} == {1, 5, 9}
    assert draw_number(3.5, rng) == 3.5
    assert draw_number(Range(min=2, max=2), rng) == 2
