"""How unsteady restored clips are: tOF and the warping error, against the ground truth.

Both are of consecutive frames, so that a clip of T frames has T - 1 values. What they take of the
ground truth is computed once, for all restorations of it.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

_MEDIUM_PRESET = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM


def gray_frames(clip: np.ndarray) -> list[np.ndarray]:
    """(H, W) uint8 luma of each frame of a (T, H, W, 3) uint8 RGB clip."""
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]


def farneback_flows(clip: np.ndarray) -> Iterator[np.ndarray]:
    """Optical flow from each frame to the next, (H, W, 2) float32, as TecoGAN computes it."""
    for previous, following in pairwise(gray_frames(clip)):
        flow = np.empty((*previous.shape, 2), np.float32)
        yield cv2.calcOpticalFlowFarneback(
            previous,
            following,
            flow,
            pyr_scale=0.5,
            levels=3,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )


def flow_errors(flows: Sequence[np.ndarray], target_flows: Sequence[np.ndarray]) -> list[float]:
    """tOF (Chu et al., TecoGAN, 2020): mean distance of the flows of two clips, pixels.

    Args:
        flows: (H, W, 2) from each frame to the next, of the restored clip.
        target_flows: the same of the ground truth.
    """
    return [
        float(np.linalg.norm(flow - target, axis=-1).mean())
        for flow, target in zip(flows, target_flows, strict=True)
    ]


class Motion(NamedTuple):
    """Where the pixels of a frame were in the frame before."""

    flow: np.ndarray
    """(H, W, 2) float32, (x, y) pixels: I_t(p) ~ I_{t-1}(p + flow(p))"""
    visible: np.ndarray
    """(H, W) bool: False where they were hidden, outside, or motion has an edge"""


def motions(clip: np.ndarray) -> Iterator[Motion]:
    """Motion of each frame but the first, by OpenCV's DIS (Kroeger et al. 2016).

    Occlusions and edges of motion are those of Ruder et al. 2016, equations 5 and 6, which Lai et
    al. (ECCV 2018) leave out of the warping error.
    """
    dis = cv2.DISOpticalFlow.create(_MEDIUM_PRESET)
    for previous, current in pairwise(gray_frames(clip)):
        # A flow to begin with must be None: DIS would start from what is in it.
        backward: np.ndarray = dis.calc(current, previous, None)  # type: ignore[call-overload]
        forward: np.ndarray = dis.calc(previous, current, None)  # type: ignore[call-overload]
        yield Motion(backward, _visible(backward, forward))


def _visible(backward: np.ndarray, forward: np.ndarray) -> np.ndarray:
    there, is_inside = _warped(forward, backward)
    lengths = (backward**2).sum(-1) + (there**2).sum(-1)
    agrees = ((backward + there) ** 2).sum(-1) <= 0.01 * lengths + 0.5
    slopes = sum((np.gradient(backward[..., axis], axis=d) ** 2) for axis in (0, 1) for d in (0, 1))
    is_smooth = slopes <= 0.01 * (backward**2).sum(-1) + 0.002
    return is_inside & agrees & is_smooth


def warping_errors(clip: np.ndarray, truth: Sequence[Motion]) -> list[float]:
    """Mean square difference of each frame and the one before, moved along the true motion.

    After Lai et al. (ECCV 2018), with flows of the ground truth. The ground truth's own error is
    not 0: noise, light and wrong flow remain.

    Args:
        clip: (T, H, W, 3) uint8 RGB.
        truth: of each of its frames but the first.

    Returns:
        T - 1 values, of RGB in [0, 1]; 0 where nothing is visible in both frames.
    """
    errors = []
    for (previous, current), motion in zip(pairwise(clip), truth, strict=True):
        moved, _ = _warped(previous.astype(np.float32), motion.flow)
        difference = (current - moved)[motion.visible] / 255
        errors.append(float((difference**2).mean()) if difference.size else 0.0)
    return errors


def _warped(image: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An (H, W, C) float32 image read at p + flow(p), and (H, W) bool where that is inside."""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    is_inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), is_inside
