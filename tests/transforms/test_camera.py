import hashlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.draw import SceneDraw, View
from schemas.plan import PlannedSample, Span
from schemas.recipe import CameraSettings, Recipe
from schemas.sample import SampleKind
from tests.pictures import texture
from transforms.camera import (
    MAX_ANGLE,
    Rectangle,
    bounds,
    camera_flow,
    draw_views,
    resample_lines,
    seen,
    view_frame,
)
from transforms.draw import draw_scene, patch_grid

RESTLESS = CameraSettings(
    pan=[3.0, 6.0, 40.0], zoom=[0.96, 0.99, 1.0, 1.04], turn=[-0.03, 0.004], jitter=[0.0, 2.0]
)


def smooth(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: waves of 15 pixels and more, which every sampling keeps."""
    return np.rint(smooth_at(*np.indices((height, width)))).astype(np.uint8)


def smooth_at(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    waves = [np.sin(0.31 * x + 0.24 * y), np.cos(0.29 * y - 0.2 * x), np.sin(0.13 * x - 0.33 * y)]
    return 128 + 90 * np.stack(waves, axis=-1)


def whole_pixels(top: int, left: int, height: int, width: int) -> View:
    return View(y=top + (height - 1) / 2, x=left + (width - 1) / 2, zoom=1, angle=0)


def positions(view: View, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) in the picture of each pixel of a window, by the definition of a view."""
    v, u = np.indices((height, width)) - np.array([height - 1, width - 1])[:, None, None] / 2
    cos, sin = math.cos(view.angle) / view.zoom, math.sin(view.angle) / view.zoom
    return view.y + sin * u + cos * v, view.x + cos * u - sin * v


def corners(view: View, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the corner pixels of a window."""
    v, u = (height - 1) / 2 * np.array([-1, -1, 1, 1]), (width - 1) / 2 * np.array([-1, 1, -1, 1])
    cos, sin = math.cos(view.angle) / view.zoom, math.sin(view.angle) / view.zoom
    return view.y + sin * u + cos * v, view.x + cos * u - sin * v


def drawn(
    camera: CameraSettings,
    picture: tuple[int, int],
    patch: tuple[int, int],
    frames: int = 16,
    seed: int = 0,
    corner: tuple[int, int] | None = None,
) -> list[View]:
    middle = ((picture[0] - patch[0]) // 2, (picture[1] - patch[1]) // 2)
    rng = np.random.default_rng(seed)
    return draw_views(camera, rng, picture, patch, frames, corner or middle)


# What a view shows


@pytest.mark.parametrize(("height", "width"), [(64, 48), (33, 64), (1, 1)])
def test_a_view_by_whole_pixels_is_the_pictures_own(height: int, width: int) -> None:
    picture = texture(90, 100, seed=1)
    picture[::3, ::2] = np.random.default_rng(0).integers(0, 256, picture[::3, ::2].shape)
    for top, left in [(0, 0), (90 - height, 100 - width), (7, 11), (0, 100 - width)]:
        frame = view_frame(picture, whole_pixels(top, left, height, width), height, width)
        assert frame.dtype == np.uint8 and frame.flags.c_contiguous
        assert np.array_equal(frame, picture[top : top + height, left : left + width])


@pytest.mark.parametrize("zoom", [1.0, 0.93, 0.6])
@pytest.mark.parametrize("angle", [0.0, 0.01, -0.15, 0.5, MAX_ANGLE])
def test_a_view_shows_what_lies_at_its_positions(zoom: float, angle: float) -> None:
    view = View(y=101.37, x=98.81, zoom=zoom, angle=angle)
    frame = view_frame(smooth(200, 200), view, 48, 64)
    expected = smooth_at(*positions(view, 48, 64))
    # Half a level of rounding in the picture, and half a level after; the rest is the kernel's.
    assert np.abs(frame - expected).max() < 2.0
    assert np.abs(frame - expected).mean() < 0.5


@pytest.mark.parametrize("zoom", [1.0, 0.97, 0.6])
def test_positions_are_not_rounded(zoom: float) -> None:
    # OpenCV rounds them to a 32nd of a pixel, off by up to 0.016; a Lanczos kernel, to which a
    # ramp is no ramp, is off by as much. Not by way of `view_frame`, which rounds levels.
    rows, columns = np.indices((40, 120))
    for part in (0.01, 0.1, 0.25, 0.4, 0.58, 0.83):
        x = np.tile(20 + part + np.arange(40) / zoom, (40, 1))
        between = resample_lines(smooth_at(rows, columns).astype(np.float32), x, zoom)
        at_place, ahead = (smooth_at(rows[:, :1], x + step) for step in (0, 0.5))
        slope = 2 * (ahead - at_place)
        shift = ((between - at_place) * slope).sum() / (slope * slope).sum()
        assert abs(shift) < 1.2e-3


def test_half_a_pixel_hardly_softens_the_picture() -> None:
    # A target that flickers between sharp and soft would be taught; cubic keeps 86 % here.
    picture = texture(120, 160, seed=3)
    sharp, between = (
        view_frame(picture, View(y=59.5, x=79.5 + shift, zoom=1, angle=0), 96, 128)
        for shift in (0.0, 0.5)
    )
    detail = [np.abs(np.diff(frame.astype(float), axis=1)).mean() for frame in (sharp, between)]
    assert detail[1] / detail[0] > 0.93


def test_what_a_smaller_picture_cannot_show_is_averaged_not_aliased() -> None:
    stripes = 128 + 100 * np.sin(np.arange(200) * 2 * np.pi * 0.42)
    picture = np.broadcast_to(stripes[None, :, None], (200, 200, 3)).astype(np.uint8)
    view = View(y=99, x=100, zoom=0.6, angle=0.05)
    assert view_frame(picture, view, 64, 64).std() < 5
    assert view_frame(picture.transpose(1, 0, 2), view, 64, 64).std() < 5


def test_nothing_but_what_is_seen_decides_a_frame() -> None:
    picture = texture(220, 240, seed=4)
    for view in drawn(RESTLESS, (220, 240), (64, 64), seed=5)[::5]:
        area = seen([view], 64, 64)
        area = Rectangle(max(0, area.top), max(0, area.left), *area[2:])
        other = 255 - picture
        inside = np.s_[area.top : area.bottom, area.left : area.right]
        other[inside] = picture[inside]
        frame = view_frame(picture, view, 64, 64)
        assert np.array_equal(frame, view_frame(other, view, 64, 64))
        moved = view.model_copy(update={"y": view.y - area.top, "x": view.x - area.left})
        assert np.array_equal(frame, view_frame(picture[inside], moved, 64, 64))


def test_beyond_its_borders_a_picture_is_mirrored() -> None:
    picture = texture(24, 30, seed=6)
    frame = view_frame(picture, whole_pixels(-5, 4, 24, 20), 24, 20)
    assert np.array_equal(frame[:5], picture[5:0:-1, 4:24])
    assert view_frame(picture[:1, :1], View(y=0.3, x=0, zoom=1, angle=0.2), 4, 6).std(
        axis=(0, 1)
    ) == (pytest.approx(0))


def test_a_view_that_turns_too_far_is_refused() -> None:
    with pytest.raises(ValueError, match=r"view\.angle = 0\.8: views turn by 0\.785"):
        view_frame(smooth(40, 40), View(y=20, x=20, zoom=1, angle=0.8), 8, 8)


# Flow


def sampled(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """I(p + flow(p)) by SciPy's spline, and NaN outside and near the border, where it is none."""
    rows, columns = np.indices(frame.shape[:2])
    places = [rows + flow[:, :, 1], columns + flow[:, :, 0]]
    planes = [
        scipy.ndimage.map_coordinates(plane.astype(float), places, order=3)
        for plane in np.moveaxis(frame, 2, 0)
    ]
    last = np.array(frame.shape[:2])[:, None, None] - 1
    distance = np.minimum(places, last - np.array(places)).min(axis=0)
    return np.where(distance[:, :, None] > 8, np.stack(planes, axis=2), np.nan)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("step", [1, -1, 3])
def test_the_flow_leads_from_one_frame_to_the_other(seed: int, step: int) -> None:
    picture = smooth(300, 320)
    views = drawn(RESTLESS, (300, 320), (96, 112), seed=seed)
    t = 7
    here, there = (view_frame(picture, views[k], 96, 112) for k in (t, t + step))
    flow = camera_flow(views, 96, 112, t, step)
    assert flow.shape == (96, 112, 2) and flow.dtype == np.float32
    error = np.abs(sampled(there, flow) - here)
    assert np.isfinite(error).mean() > 0.3
    assert np.nanmean(error) < 0.6 and np.nanmax(error) < 3
    assert np.nanmean(np.abs(sampled(there, -flow) - here)) > 10


def test_a_pan_by_whole_pixels_has_that_flow() -> None:
    views = [whole_pixels(10 + 2 * t, 30 - 3 * t, 32, 40) for t in range(4)]
    for step in (1, 2, -1):
        # The camera moves down and to the left, so the content moves up and to the right.
        expected = np.broadcast_to(np.array([3 * step, -2 * step], np.float32), (32, 40, 2))
        assert np.array_equal(camera_flow(views, 32, 40, 1, step), expected)
    picture = texture(64, 80)
    one, two = (view_frame(picture, view, 32, 40) for view in views[:2])
    assert np.array_equal(two[:-2, 3:], one[2:, :-3])


def test_there_and_back_is_no_motion() -> None:
    views = drawn(RESTLESS, (400, 400), (64, 64), seed=2)
    there, back = camera_flow(views, 64, 64, 3, 5), camera_flow(views, 64, 64, 8, -5)
    # The flow is affine, so that its values between pixels follow from those at pixels.
    rows, columns = np.indices((64, 64))
    y, x = rows + there[:, :, 1], columns + there[:, :, 0]
    gradient = [back[1, 0] - back[0, 0], back[0, 1] - back[0, 0]]
    returned = back[0, 0] + y[:, :, None] * gradient[0] + x[:, :, None] * gradient[1]
    assert np.abs(there + returned).max() < 1e-3


def test_the_flow_of_lr_is_that_of_the_pixels_under_it() -> None:
    views = drawn(RESTLESS, (300, 300), (64, 80), seed=1)
    hr, lr = (camera_flow(views, 64, 80, 2, 1, scale) for scale in (1, 4))
    means = hr.reshape(16, 4, 20, 4, 2).mean(axis=(1, 3)) / 4
    assert lr.shape == (16, 20, 2) and np.abs(lr - means).max() < 1e-5


# Paths


def speeds(views: Sequence[View]) -> list[float]:
    """Pixels of the window by which its middle moves from frame to frame."""
    pairs = itertools.pairwise(views)
    return [math.hypot(b.y - a.y, b.x - a.x) * a.zoom for a, b in pairs]


def test_every_number_is_drawn_once_a_clip() -> None:
    camera = CameraSettings(pan=5, zoom=0.985, turn=0.004, jitter=0)
    views = drawn(camera, (2000, 2000), (256, 256), frames=20, seed=3)
    assert speeds(views) == pytest.approx([5] * 19, abs=1e-4)
    zooms, angles = [v.zoom for v in views], [v.angle for v in views]
    assert zooms == pytest.approx([0.985**t for t in range(20)], abs=1e-5)
    assert np.diff(angles) == pytest.approx([0.004] * 19, abs=2e-6)
    assert sum(angles) == pytest.approx(0, abs=1e-4)
    pairs = itertools.pairwise(views)
    headings = {round(math.atan2(b.y - a.y, b.x - a.x), 3) for a, b in pairs}
    assert len(headings) == 1


def test_directions_differ_from_clip_to_clip() -> None:
    camera = CameraSettings(pan=5, zoom=1, turn=0, jitter=0)
    clips = [drawn(camera, (2000, 2000), (64, 64), 2, seed) for seed in range(300)]
    angles = [math.atan2(b.y - a.y, b.x - a.x) for a, b in clips]
    assert np.histogram(angles, 8, (-math.pi, math.pi))[0].min() > 20


def test_zooming_in_ends_at_the_pictures_own_pixels() -> None:
    camera = CameraSettings(pan=0, zoom=1.02, turn=0, jitter=0)
    zooms = [view.zoom for view in drawn(camera, (900, 900), (64, 64), 12)]
    assert zooms == sorted(zooms) and zooms[-1] == 1
    assert zooms[0] == pytest.approx(1.02**-11, abs=1e-5)


def test_jitter_is_fresh_in_every_frame() -> None:
    camera = CameraSettings(pan=0, zoom=1, turn=0, jitter=3)
    views = drawn(camera, (900, 900), (64, 64), 400)
    y, x = (np.array([getattr(view, axis) for view in views]) for axis in "yx")
    assert y.std() == pytest.approx(3, rel=0.15) and x.std() == pytest.approx(3, rel=0.15)
    for values in (y, x):
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.15
    assert abs(np.corrcoef(y, x)[0, 1]) < 0.15


def test_the_camera_passes_its_patch_in_the_middle_of_the_clip() -> None:
    camera = CameraSettings(pan=4, zoom=1, turn=0, jitter=0)
    views = drawn(camera, (900, 1200), (64, 64), 15, corner=(300, 500))
    assert (views[7].y, views[7].x) == pytest.approx((331.5, 531.5), abs=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    patch=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    spare=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    frames=st.integers(1, 40),
    seed=st.integers(0, 1000),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_paths_stay_inside_with_all_that_interpolation_takes(
    patch: tuple[int, int],
    spare: tuple[int, int],
    frames: int,
    seed: int,
    place: tuple[float, float],
) -> None:
    size = (16 * patch[0], 16 * patch[1])
    picture = (size[0] + spare[0], size[1] + spare[1])
    corner = (round(place[0] * spare[0]), round(place[1] * spare[1]))
    views = drawn(RESTLESS, picture, size, frames, seed, corner)
    assert len(views) == frames
    assert max(view.zoom for view in views) <= 1
    reach = 5 / min(view.zoom for view in views)
    for view in views:
        for values, name, axis in zip(corners(view, *size), "yx", (0, 1), strict=True):
            limit = picture[axis] - 1
            if min(values.min(), limit - values.max()) >= reach - 1e-3:  # views are rounded
                continue
            # Else this axis has no room: the picture's own rows or columns, in every frame.
            assert spare[axis] <= 10 and (view.zoom, view.angle) == (1, 0)
            assert getattr(view, name) == corner[axis] + (size[axis] - 1) / 2


def test_a_picture_of_the_patchs_size_gives_a_still() -> None:
    picture = texture(64, 80, seed=2)
    views = drawn(RESTLESS, (64, 80), (64, 80))
    assert len(set(map(View.model_dump_json, views))) == 1
    assert np.array_equal(view_frame(picture, views[0], 64, 80), picture)
    assert not camera_flow(views, 64, 80, 0, 9).any()


def test_a_narrow_picture_is_panned_along() -> None:
    views = drawn(CameraSettings(pan=3), (64, 900), (64, 64), seed=1)
    assert {view.y for view in views} == {31.5}
    assert len({view.x for view in views}) == len(views)


def test_a_picture_hardly_larger_gives_less_motion() -> None:
    camera = CameraSettings(pan=6, zoom=1.01, turn=0.005, jitter=1)
    fast = [max(speeds(drawn(camera, (256 + n, 256 + n), (256, 256), 32))) for n in (12, 60, 900)]
    assert 0 < fast[0] < fast[1] < fast[2]


def test_two_frames_or_one_are_a_path_too() -> None:
    for frames in (1, 2):
        assert len(drawn(RESTLESS, (200, 200), (64, 64), frames)) == frames


# In a sample's draw


def camera_recipe(**fields: Any) -> Recipe:
    plain = {
        "name": "test",
        "hr": {"patch_height": 64, "patch_width": 64},
        "pseudo_video": {"packing": "camera", "frames": 9},
        "shared": [{"op": "downscale"}],
        "streams": [{"name": "only"}],
    }
    return Recipe.model_validate(plain | fields)


def planned(clip: int = 0, cell: int = 0, source: str = "ab") -> PlannedSample:
    return PlannedSample(
        shard="train-000000",
        key="key",
        kind=SampleKind.CAMERA,
        split="train",
        group="",
        licence="",
        clip=clip,
        patch=cell,
        spans=[Span(source_id=source, start=0, count=9)],
        estimated_bytes=0,
    )


def scene_of(row: PlannedSample, seed: int = 0) -> SceneDraw:
    return draw_scene(camera_recipe(), seed, row, {row.spans[0].source_id: (300, 400)})


def test_a_scene_holds_its_views_and_where_they_lie() -> None:
    scene = scene_of(planned(cell=3))
    assert len(scene.views) == len(scene.origins) == 9
    for view, origin in zip(scene.views, scene.origins, strict=True):
        rows, columns = corners(view, 64, 64)
        assert (origin.source_id, origin.frame) == ("ab", 0)
        assert (origin.top, origin.left) == (math.floor(rows.min()), math.floor(columns.min()))
        assert bounds([view], 64, 64)[:2] == (origin.top, origin.left)
    assert SceneDraw.model_validate_json(scene.model_dump_json()) == scene


def test_a_camera_passes_the_cell_of_its_plan() -> None:
    cells = patch_grid(camera_recipe(), 0, "ab", 300, 400)
    inner = next(n for n, (y, x) in enumerate(cells) if 70 < y < 160 and 70 < x < 260)
    middle = scene_of(planned(cell=inner)).views[4]
    shift = (middle.y - cells[inner][0] - 31.5, middle.x - cells[inner][1] - 31.5)
    assert math.hypot(*shift) < 25  # jitter, and a path that is shifted to fit


def test_a_path_depends_on_the_seed_the_source_and_the_clip() -> None:
    scenes = [
        scene_of(planned()),
        scene_of(planned(), seed=1),
        scene_of(planned(clip=1)),
        scene_of(planned(source="cd")),
    ]
    assert len({tuple(view.zoom for view in scene.views) for scene in scenes}) == 4
    assert scene_of(planned()) == scenes[0]


def digest() -> str:
    """Of draws and pixels."""
    scene = scene_of(planned(cell=1))
    total = hashlib.sha256(scene.model_dump_json().encode())
    picture = texture(300, 400)
    for view in scene.views:
        total.update(view_frame(picture, view, 64, 64).tobytes())
    return total.hexdigest()


def test_every_cpu_draws_and_sees_the_same() -> None:
    features = " ".join(np._core._multiarray_umath.__cpu_dispatch__)  # type: ignore[attr-defined]
    masked = {"NPY_DISABLE_CPU_FEATURES": features, "OPENCV_CPU_DISABLE": "AVX2,AVX512_SKX"}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "from tests.transforms.test_camera import *; print(digest())",
        ],
        env=os.environ | masked | {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-FMA"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == digest()
