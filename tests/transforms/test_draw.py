import os
import subprocess
import sys
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.draw import CodecDraw, NoiseDraw, ResizeDraw, SceneDraw, StreamDraw
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe, shipped_recipes
from schemas.sample import SampleKind
from transforms.draw import (
    draw_scene,
    draw_stream,
    hr_size,
    patch_grid,
    patch_size,
)
from transforms.seeding import generator

CAVSR, VCISR = load_recipe("cavsr"), load_recipe("vcisr")
SIZE = (800, 1100)
H264 = {"codec": "h264", "crf": 20}


def recipe_of(**fields: Any) -> Recipe:
    return Recipe.model_validate({"name": "test", "streams": [{"name": "only"}]} | fields)


def clip(source: str = "ab", number: int = 0, patch: int = 0, frames: int = 5) -> PlannedSample:
    row = planned(SampleKind.CLIP, [Span(source_id=source, start=32 * number, count=frames)])
    return row.model_copy(update={"key": f"{source}-{number}", "clip": number, "patch": patch})


def pack(key: str = "pack", frames: int = 5) -> PlannedSample:
    spans = [
        Span(source_id="ab", start=1, count=frames - 1),
        Span(source_id="cd", start=0, count=1),
    ]
    return planned(SampleKind.PSEUDO_VIDEO, spans).model_copy(update={"key": key, "group": key})


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
    assert scene.stages == [ResizeDraw(height=[20], width=[24], kernel="matlab_bicubic")]


def test_a_picture_smaller_than_the_patch_has_no_cells() -> None:
    assert patch_size(CAVSR, 255, 1000) == (0, 0)
    assert patch_grid(CAVSR, 0, "ab", 255, 1000) == []
    assert patch_grid(CAVSR, 0, "ab", 256, 256) == [(0, 0)]


def test_pre_downscale_shrinks_the_source() -> None:
    recipe = CAVSR.model_copy(update={"hr": CAVSR.hr.model_copy(update={"pre_downscale": 1.5})})
    assert hr_size(recipe, 720, 1281) == (480, 854)
    assert hr_size(CAVSR, 721, 1281) == (721, 1281)


def test_a_single_frame_is_a_clip_and_a_pack() -> None:
    one = planned(SampleKind.PSEUDO_VIDEO, [Span(source_id="ab", start=0, count=1)])
    for row in (clip(frames=1), one):
        assert len(scene_of(VCISR, row).origins) == 1
        assert len([s for s in stream_of(VCISR, row).stages if isinstance(s, NoiseDraw)]) == 2


def test_only_packs_have_independent_frames_and_only_intra_packs_are_coded_so() -> None:
    noisy = [{"op": "noise"}, {"op": "downscale"}, {"op": "codec", "encoders": [H264]}]
    for packing, kind, num_levels, gop_frames in (
        ("patches", SampleKind.PSEUDO_VIDEO, 5, 250),
        ("intra", SampleKind.PSEUDO_VIDEO, 5, 1),
        ("intra", SampleKind.CLIP, 1, 250),
        ("camera", SampleKind.CAMERA, 1, 250),
    ):
        recipe = recipe_of(
            pseudo_video={"packing": packing}, streams=[{"name": "only", "stages": noisy}]
        )
        row = planned(kind, [Span(source_id="ab", start=0, count=5)])
        noise, _, codec = stream_of(recipe, row).stages
        assert isinstance(noise, NoiseDraw) and isinstance(codec, CodecDraw)
        assert (len(set(noise.level)), codec.gop_frames) == (num_levels, gop_frames)
        assert codec.b_frames == (0 if gop_frames == 1 else 3)


def test_a_stream_goes_on_from_the_size_after_the_shared_stages() -> None:
    half = {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 0.5}}
    relative = {"op": "resize", "relative_to": "lr", "scaling": {}}
    down = {"op": "downscale"}
    recipe = recipe_of(shared=[half], streams=[{"name": "only", "stages": [half, relative, down]}])
    scene, draw = scene_of(recipe, clip()), stream_of(recipe, clip())
    stages = [stage for stage in (*scene.stages, *draw.stages) if isinstance(stage, ResizeDraw)]
    assert [(s.height, s.width) for s in stages] == [([n], [n]) for n in (128, 64, 64, 64)]


def test_draws_survive_json() -> None:
    for recipe in map(load_recipe, shipped_recipes()):
        for row in (clip(), pack()):
            scene = scene_of(recipe, row)
            assert SceneDraw.model_validate_json(scene.model_dump_json()) == scene
            for stream in range(len(recipe.streams)):
                draw = stream_of(recipe, row, stream)
                assert StreamDraw.model_validate_json(draw.model_dump_json()) == draw
