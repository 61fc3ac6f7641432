"""All values of one restored clip, frame by frame."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.evaluating.perceptual import FrameMetric
from training.evaluating.protocol import Protocol
from training.evaluating.temporal import (
    farneback_flows,
    flow_errors,
    motions,
    warping_errors,
)
from training.metrics import psnr_rgb, psnr_y

Channels = Literal["y", "rgb"]


class Metric(NamedTuple):
    """How a metric is told."""

    title: str
    """with its unit"""
    digits: int
    """behind the point"""
    factor: float = 1
    """from the stored value to the one in tables"""
    lower_is_better: bool = True
    """False for fidelity"""
    has_truth: bool = False
    """the ground truth, too, has a value that is not that of equality"""


METRICS = {
    "psnr_y": Metric("PSNR of Y, dB", 2, lower_is_better=False),
    "ssim_y": Metric("SSIM of Y", 3, lower_is_better=False),
    "psnr_rgb": Metric("PSNR of RGB, dB", 2, lower_is_better=False),
    "ssim_rgb": Metric("SSIM of RGB", 3, lower_is_better=False),
    "tof": Metric("tOF, pixels", 3),
    "warp": Metric("warping error, mean square × 10³", 3, factor=1000, has_truth=True),
    "lpips": Metric("LPIPS (AlexNet, pyiqa)", 3),
    "niqe": Metric("NIQE (pyiqa)", 2, has_truth=True),
}
"""By their names in results.json."""


def value_names(metrics: Sequence[str], channels: Sequence[Channels]) -> list[str]:
    """The keys of `METRICS` that metrics such as psnr and tof stand for."""
    names = [
        name
        for metric in metrics
        for name in (
            [f"{metric}_{c}" for c in channels] if metric in ("psnr", "ssim") else [metric]
        )
    ]
    return [name for name in METRICS if name in names]


class Meter:
    """Measures restorations of one clip.

    Args:
        hr: (T, H, W, 3) uint8 RGB, the ground truth.
        names: what to measure, of `METRICS`.
        protocol: which frames and pixels count, and which SSIM.
        perceptual: the metrics of pyiqa that are among the names.
    """

    def __init__(
        self,
        hr: np.ndarray,
        names: Sequence[str],
        protocol: Protocol,
        perceptual: Mapping[str, FrameMetric],
    ) -> None:
        self._names, self._protocol, self._perceptual = names, protocol, perceptual
        self._hr = hr
        self._target = protocol.cut(hr)
        self._pictures = _picture_metrics(protocol)
        self._flows = self._whole_flows(hr) if "tof" in names else []
        self._motions = list(motions(self._target)) if "warp" in names else []

    def __call__(self, restored: np.ndarray) -> dict[str, list[float]]:
        """Measure a restoration, (T, H, W, 3) uint8 RGB.

        Returns:
            By name, a value for each frame that counts, or for each two consecutive ones.
        """
        return self._measure(restored, self._names)

    def truth(self) -> dict[str, list[float]]:
        """The ground truth's own values, of metrics that compare nothing with it."""
        return self._measure(self._hr, [name for name in self._names if METRICS[name].has_truth])

    def _measure(self, restored: np.ndarray, names: Sequence[str]) -> dict[str, list[float]]:
        clip = self._protocol.cut(restored)
        pairs = list(zip(clip, self._target, strict=True))
        values = dict[str, list[float]]()
        for name in names:
            if name == "tof":
                values[name] = flow_errors(self._whole_flows(restored), self._flows)
            elif name == "warp":
                values[name] = warping_errors(clip, self._motions)
            elif name in self._perceptual:
                measured = (self._perceptual[name](x, target) for x, target in pairs)
                # Of pictures without any texture there is no NIQE.
                values[name] = [value for value in measured if math.isfinite(value)]
            else:
                picture_metric = self._pictures[name]
                values[name] = [
                    float(picture_metric(_tensor(x), _tensor(target))) for x, target in pairs
                ]
        return values

    def _whole_flows(self, clip: np.ndarray) -> list[np.ndarray]:
        """Flows between the frames that count, computed on whole pictures, then cut."""
        dropped = self._protocol.dropped_frames
        frames = clip[dropped : len(clip) - dropped]
        return [self._protocol.cut_picture(flow) for flow in farneback_flows(frames)]


def _picture_metrics(protocol: Protocol) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "psnr_y": psnr_y,
        "psnr_rgb": psnr_rgb,
        "ssim_y": protocol.ssim_y,
        "ssim_rgb": protocol.ssim_rgb,
    }


def _tensor(picture: np.ndarray) -> Tensor:
    """(1, 3, H, W) float64 in [0, 255]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)[None].double()
