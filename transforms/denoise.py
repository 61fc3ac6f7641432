"""FFmpeg's hqdn3d denoiser, which is not in builds of FFmpeg without GPL parts such as PyAV's.

Written anew for arrays, with results equal to FFmpeg's to the bit: recursive low passes, first
along rows, then down columns, then from frame to frame. Each moves a value towards its neighbour
the more, the less they differ. All is in integers.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import av
import numpy as np

from schemas.draw import DenoiseDraw
from transforms.color import rgb_to_yuv, yuv_to_rgb

_FORMAT = "yuv444p"  # hqdn3d takes no RGB
_FRACTION_BITS = 8  # values are 8-bit levels with 8 bits after the point
_BIN_BITS = 4  # differences within 1/16 of a level are treated alike
_LARGEST = 252.0  # strength, levels
_CHROMA_SHARE, _TEMPORAL_SHARE = 3 / 4, 6 / 4  # of the spatial luma strength, FFmpeg's defaults


def denoise(frames: Sequence[np.ndarray], draw: DenoiseDraw) -> list[np.ndarray]:
    """Denoise a clip, over space and time, at full chroma resolution.

    Args:
        frames: (H, W, 3) uint8 RGB each, all of one size; at least one.
        draw: the strength.

    Returns:
        As many frames, alike.
    """
    planes = np.stack([frame.to_ndarray() for frame in rgb_to_yuv(np.stack(frames), _FORMAT)])
    luma, chroma = draw.strength, draw.strength * _CHROMA_SHARE
    denoised = np.empty_like(planes)
    for plane, spatial in enumerate((luma, chroma, chroma)):  # one by one, to save memory
        one = np.s_[:, plane : plane + 1]
        denoised[one] = _hqdn3d(planes[one], spatial, spatial * _TEMPORAL_SHARE)
    yuv = [av.VideoFrame.from_ndarray(np.ascontiguousarray(p), _FORMAT) for p in denoised]
    return list(yuv_to_rgb(yuv))


def _hqdn3d(planes: np.ndarray, spatial: float, temporal: float) -> np.ndarray:
    """Denoise (T, planes, H, W) uint8 with strengths in levels."""
    source = (planes.astype(np.int32) << _FRACTION_BITS) + ((1 << _FRACTION_BITS) - 1 >> 1)
    pulls = _pulls(spatial)
    across = _low_pass(source, 3, pulls)
    across[:, :, 0, 0] += pulls[len(pulls) // 2]  # FFmpeg lets the corner be its own predecessor
    down = _low_pass(across, 2, pulls)
    # FFmpeg lets the first frame's predecessor be itself, before it was denoised.
    clip = np.concatenate([source[:1], down])
    return (_low_pass(clip, 0, _pulls(temporal))[1:] >> _FRACTION_BITS).astype(np.uint8)


def _low_pass(values: np.ndarray, axis: int, pulls: np.ndarray) -> np.ndarray:
    """Along an axis, move each entry but the first towards its denoised predecessor."""
    slices = np.array(np.moveaxis(values, axis, 0), order="C")
    zero = len(pulls) // 2
    for previous, current in itertools.pairwise(slices):
        bins = (previous - current) >> (_FRACTION_BITS - _BIN_BITS)
        np.add(current, np.take(pulls, bins + zero), out=current)
    return np.moveaxis(slices, 0, axis)


@functools.lru_cache(maxsize=16)
def _pulls(strength: float) -> np.ndarray:
    """int32: how far a value moves towards its predecessor, by their difference in bins.

    A difference of d levels, the mean of its bin, is reduced to d * (1 - |d| / 255) ^ g, with
    g such that a difference of `strength` levels moves by a quarter of itself.
    """
    exponent = math.log(0.25) / math.log(1 - min(strength, _LARGEST) / 255 - 1e-5)
    half = 256 << _BIN_BITS
    # A bin holds 16 whole numbers, 0 to 15: their mean is 15/32 of the way to the next bin.
    differences = (np.arange(-half, half) + 15 / 32) / (1 << _BIN_BITS)
    pulls = np.maximum(0, 1 - np.abs(differences) / 255) ** exponent * 256 * differences
    return np.rint(pulls).astype(np.int32)
