"""A virtual camera over a still picture: its path, what it sees, and how that moves, exactly.

Positions are those of pixel centres: the first row of a picture lies at 0. A window of (H, W)
pixels shows around a view's centre what lies, per pixel of the window, 1 / zoom pixels of the
picture apart, turned by the view's angle. Nothing is rounded to a grid of positions, so that the
motion between two frames follows from their views alone (`camera_flow`).
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.draw import View
from schemas.recipe import CameraSettings
from transforms.draw_values import draw_number

MAX_ANGLE = math.pi / 4
"""Views turn no further to either side, radians: resampling in two passes would lose detail."""

_MIN_ZOOM = 0.5  # a clip that zooms further would be of thumbnails at one end
# The kernel is a sinc under a Kaiser window. With five lobes, motion by half a pixel hardly softens
# a picture; with this shape, waves of four pixels and more are displaced by 0.001 pixels at most
# (Lanczos: 0.014).
_LOBES, _KAISER_SHAPE = 5, 7.0
_PHASES = 2048  # of the kernel's table, between which weights are interpolated: within 1e-6
_SHRINK = 0.8  # of zoom and turn, until the path fits
_MAX_SHAKE = 1 / 4  # of the room that there is, to either side
_DECIMALS = 6  # of what is drawn; CPUs disagree on the last digit of a double, and JSON shows it


class Rectangle(NamedTuple):
    """Whole pixels of a picture; may reach beyond its borders."""

    top: int
    left: int
    bottom: int
    """first row below"""
    right: int
    """first column to the right"""


class _Axis(NamedTuple):
    """What bounds a path along one axis, pixels of the picture."""

    size: int
    """of the picture"""
    patch: int
    """of the window"""
    corner: int
    """of the patch that is passed"""


def draw_views(
    settings: CameraSettings,
    rng: np.random.Generator,
    picture_size: tuple[int, int],
    patch_size: tuple[int, int],
    num_frames: int,
    corner: tuple[int, int],
) -> list[View]:
    """Draw a camera's path over a picture, inside it with all pixels that interpolation takes.

    The camera passes a given patch in the middle of the clip, as far as the picture allows. Zoom
    never exceeds 1, so that no detail is made up. Where the picture is small, zoom and turn shrink
    until they leave half of the spare pixels to pan and jitter, which shrink to what is left; an
    axis with hardly any has no motion.

    Args:
        settings: speeds; each is drawn once.
        rng: the generator.
        picture_size: (height, width).
        patch_size: (height, width) of the window; not larger.
        num_frames: T.
        corner: (top, left) of the patch to pass; inside the picture.
    """
    pan, zoom, turn, jitter = (
        draw_number(number, rng)
        for number in (settings.pan, settings.zoom, settings.turn, settings.jitter)
    )
    heading = [float(part) for part in rng.standard_normal(2)]
    length = math.hypot(*heading)
    shake = jitter * rng.standard_normal((2, num_frames))
    zooms, angles = _fitted_lens(zoom, turn, picture_size, patch_size, num_frames)
    centres = [
        _draw_track(
            _Axis(picture_size[axis], patch_size[axis], corner[axis]),
            _clearance(zooms, angles, patch_size)[axis],
            pan * heading[axis] / length / zooms,
            shake[axis] / zooms,
        )
        for axis in (0, 1)
    ]
    rounded = np.round([*centres, zooms, angles], _DECIMALS) + 0.0  # turns -0 into 0
    return [
        View(y=float(y), x=float(x), zoom=float(zoom), angle=float(angle))
        for y, x, zoom, angle in rounded.T
    ]


def _fitted_lens(
    zoom: float,
    turn: float,
    picture_size: tuple[int, int],
    patch_size: tuple[int, int],
    num_frames: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Zoom and angle of each frame, shrunk until they leave half of the spare pixels."""
    share = 1.0
    while share > 0.01:
        zooms, angles = _lens(1 + share * (zoom - 1), share * turn, num_frames)
        sides = zip(picture_size, patch_size, _clearance(zooms, angles, patch_size), strict=True)
        if (
            zooms.min() >= _MIN_ZOOM
            and np.abs(angles).max() <= MAX_ANGLE
            and all(size - 1 - 2 * needed >= (size - patch) / 2 for size, patch, needed in sides)
        ):
            return zooms, angles
        share *= _SHRINK
    return _lens(1.0, 0.0, num_frames)


def _lens(zoom: float, turn: float, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    zooms = np.cumprod([1.0] + [zoom] * (num_frames - 1))
    return zooms / zooms.max(), turn * (np.arange(num_frames) - (num_frames - 1) / 2)


def _clearance(
    zooms: np.ndarray, angles: np.ndarray, patch_size: tuple[int, int]
) -> tuple[float, float]:
    """(rows, columns) between a border and the centre of a window that just does not see it."""
    views = [
        View(y=0, x=0, zoom=float(zoom), angle=float(angle))
        for zoom, angle in zip(zooms, angles, strict=True)
    ]
    rows, columns = zip(*(_half_extent(view, *patch_size) for view in views), strict=True)
    reach = _reach(min(zooms))
    return max(rows) + reach, max(columns) + reach


def _half_extent(view: View, height: int, width: int) -> tuple[float, float]:
    """(rows, columns) from a window's centre to the farthest centre of a pixel."""
    (xx, xy), (yx, yy) = _matrix(view)
    v, u = (height - 1) / 2, (width - 1) / 2
    return abs(yx) * u + abs(yy) * v, abs(xx) * u + abs(xy) * v


def _reach(zoom: float) -> int:
    """How far interpolation looks to either side, pixels of the picture."""
    return math.ceil(_LOBES / min(zoom, 1.0))


def _draw_track(axis: _Axis, needed: float, steps: np.ndarray, shake: np.ndarray) -> np.ndarray:
    """(T,) centres along one axis, moving by (T,) steps and shaken by (T,) pixels."""
    middle = axis.corner + (axis.patch - 1) / 2
    least, most = needed, axis.size - 1 - needed
    room = most - least
    if room <= 0:
        return np.full(len(steps), middle)
    path = np.concatenate([[0.0], np.cumsum(steps[:-1])])
    path *= min(1.0, room / max(abs(path[-1]), 1e-9))
    path += middle - path[-1] / 2
    path += max(0.0, least - path.min()) - max(0.0, path.max() - most)
    shake = shake * min(1.0, _MAX_SHAKE * room / max(np.abs(shake).max(), 1e-9))
    folded = (path + shake - least) % (2 * room)  # the camera bounces off the border
    return least + np.minimum(folded, 2 * room - folded)


def bounds(views: Sequence[View], height: int, width: int) -> Rectangle:
    """The pixels that windows show, without those that interpolation takes beside them."""
    extents = [_half_extent(view, height, width) for view in views]
    centres_extents = list(zip(views, extents, strict=True))
    return Rectangle(
        top=min(math.floor(view.y - rows) for view, (rows, _) in centres_extents),
        left=min(math.floor(view.x - columns) for view, (_, columns) in centres_extents),
        bottom=max(math.ceil(view.y + rows) for view, (rows, _) in centres_extents) + 1,
        right=max(math.ceil(view.x + columns) for view, (_, columns) in centres_extents) + 1,
    )


def seen(views: Sequence[View], height: int, width: int) -> Rectangle:
    """The pixels that decide what windows show, with those that interpolation takes."""
    reach = 2 * _reach(min(view.zoom for view in views))  # twice: along rows, then columns
    top, left, bottom, right = bounds(views, height, width)
    return Rectangle(top - reach, left - reach, bottom + reach, right + reach)


def view_frame(picture: np.ndarray, view: View, height: int, width: int) -> np.ndarray:
    """What a window shows.

    Resampled with a windowed sinc, which is widened where the window's pixels are larger than the
    picture's: along rows to a sheared picture, then along columns. A view by whole pixels, at
    zoom 1 and not turned, gives the picture's own. Beyond its borders the picture is mirrored.

    Args:
        picture: (H, W, 3) uint8.
        view: where the window is; it turns by `MAX_ANGLE` at most.
        height: rows of the window.
        width: columns of it.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: if the window turns further.
    """
    if abs(view.angle) > MAX_ANGLE:
        raise ValueError(f"{view.angle = }: views turn by {MAX_ANGLE:.3f} radians at most")
    area = seen([view], height, width)
    (xx, xy), (yx, yy) = _matrix(view)
    u, v = _offsets(width), _offsets(height)
    row = np.arange(area.top, area.bottom) - view.y
    shear = xy / yy
    x = view.x - area.left + (xx - shear * yx) * u + shear * row[:, None]
    y = view.y - area.top + yx * u[:, None] + yy * v
    sheared = resample_lines(_cut_mirrored(picture, area), x, view.zoom)
    window = resample_lines(sheared.transpose(1, 0, 2), y, view.zoom)
    rounded = np.clip(np.rint(window), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 0, 2))


def _cut_mirrored(picture: np.ndarray, area: Rectangle) -> np.ndarray:
    rows = _mirrored(np.arange(area.top, area.bottom), picture.shape[0])
    columns = _mirrored(np.arange(area.left, area.right), picture.shape[1])
    return picture[rows[:, None], columns]


def _mirrored(indices: np.ndarray, size: int) -> np.ndarray:
    period = max(1, 2 * size - 2)
    folded = indices % period
    return np.minimum(folded, period - folded) if size > 1 else folded


def resample_lines(lines: np.ndarray, positions: np.ndarray, zoom: float) -> np.ndarray:
    """Interpolate along lines with the windowed sinc.

    Args:
        lines: (N, L, 3), uint8 or float32.
        positions: (N, M) float64, along each line; what lies too close to its ends is not used.
        zoom: below 1, the kernel is widened by its inverse.

    Returns:
        (N, M, 3) float32.
    """
    kernel = _kernel_table(min(zoom, 1.0))
    taps, (count, length, channels) = len(kernel), lines.shape
    below = np.floor(positions)
    phase = (positions - below) * _PHASES
    entry = phase.astype(np.int64)
    part = (phase - entry).astype(np.float32)
    first = below.astype(np.int64) - (taps // 2 - 1)
    first = np.clip(first, 0, length - taps) + length * np.arange(count)[:, None]
    planes = [lines[:, :, channel].astype(np.float32).ravel() for channel in range(channels)]
    sums = np.zeros((channels, *positions.shape), np.float32)
    for tap in range(taps):
        weight = np.take(kernel[tap], entry, mode="clip")
        weight += part * (np.take(kernel[tap, 1:], entry, mode="clip") - weight)
        for channel, plane in enumerate(planes):
            sums[channel] += weight * np.take(plane[tap:], first, mode="clip")
    return sums.transpose(1, 2, 0)


@functools.lru_cache(maxsize=4)
def _kernel_table(stretch: float) -> np.ndarray:
    """(taps, _PHASES + 1) float32: weights of the pixels around a position, of sum 1.

    Computed in float64: where CPUs disagree on the last digit, rounding hides it.
    """
    half = math.ceil(_LOBES / stretch)
    distance = np.arange(_PHASES + 1) / _PHASES - np.arange(1 - half, half + 1)[:, None]
    x = distance * stretch
    inside = np.sqrt(np.clip(1 - (x / _LOBES) ** 2, 0, 1))
    weights = np.sinc(x) * np.i0(_KAISER_SHAPE * inside) * (np.abs(x) < _LOBES)
    return (weights / weights.sum(axis=0)).astype(np.float32)


def camera_flow(
    views: Sequence[View], height: int, width: int, t: int, step: int, scale: int = 1
) -> np.ndarray:
    """How the window's content moves between two frames, in closed form.

    Args:
        views: of every frame.
        height: rows of the HR window.
        width: columns of it.
        t: the frame.
        step: to the other frame: I_t(p) ~ I_t+step(p + flow(p)), as in `transforms.motion.Flow`.
        scale: HR size over the size at which the flow is wanted: 1 for HR, the dataset's for LR.

    Returns:
        (height / scale, width / scale, 2) float32: (x, y), pixels at that size.
    """
    here, there = views[t], views[t + step]
    (xx, xy), (yx, yy) = _matrix(here)
    u, v = _offsets(width // scale), _offsets(height // scale)[:, None]
    # From the other view's centre to where the picture is, in the picture, at that size.
    x = xx * u + xy * v + (here.x - there.x) / scale
    y = yx * u + yy * v + (here.y - there.y) / scale
    (xx, xy), (yx, yy) = _matrix(there)
    determinant = xx * yy - xy * yx
    moved_u = (yy * x - xy * y) / determinant
    moved_v = (xx * y - yx * x) / determinant
    return np.stack([moved_u - u, moved_v - v], axis=2).astype(np.float32)


def _offsets(count: int) -> np.ndarray:
    """(count,) distances of the pixels of a line from its middle."""
    return np.arange(count) - (count - 1) / 2


def _matrix(view: View) -> tuple[tuple[float, float], tuple[float, float]]:
    """((x by u, x by v), (y by u, y by v)): pixels of the picture a pixel of the window."""
    # Rounded, since CPUs disagree on the last digit; what is seen and the flow agree all the same.
    cos, sin = round(math.cos(view.angle), 9), round(math.sin(view.angle), 9)
    return (cos / view.zoom, -sin / view.zoom), (sin / view.zoom, cos / view.zoom)
