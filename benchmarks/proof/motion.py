"""P2: how well a clean frame is its neighbour, moved by vectors of the compressed stream."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from benchmarks.proof.clips import CRFS, FLOWS, Coded, coded_clips
from training.metrics import psnr_rgb
from training.models.layers import warp


class WarpScore(NamedTuple):
    """Mean PSNR over all channels, frames and clips, dB."""

    flow: str
    crf: float
    from_previous: float
    from_next: float


def measure_motion(folder: Path, vid4: Path) -> list[WarpScore]:
    """Warp LR of Vid4 by every make of motion field, and by optical flow of the decoded frames."""
    clean = {c.clip: _tensor(c.lr) for c in coded_clips(folder, vid4, [None])}
    scores = list[WarpScore]()
    for name in [*FLOWS, "optical flow (DIS)"]:
        for crf in CRFS:
            values = defaultdict[int, list[float]](list)
            for coded in coded_clips(folder, vid4, [crf], name if name in FLOWS else "codec"):
                fields = (coded.flow.previous, coded.flow.next) if name in FLOWS else _dis(coded)
                for step, field in zip((-1, 1), fields, strict=True):
                    values[step].append(_warp_psnr(clean[coded.clip], _tensor(field), step))
            scores.append(WarpScore(name, crf, *(float(np.mean(values[s])) for s in (-1, 1))))
    return scores


def _warp_psnr(lr_TCHW: torch.Tensor, flow_T2HW: torch.Tensor, step: int) -> float:
    """Mean over the frames that have a neighbour at t + step."""
    here = slice(1, None) if step < 0 else slice(None, -1)
    there = slice(None, -1) if step < 0 else slice(1, None)
    moved = warp(lr_TCHW[there], flow_T2HW[here])
    return float(psnr_rgb(moved.double(), lr_TCHW[here].double()).mean())


def _tensor(x_THWC: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x_THWC)).movedim(-1, 1).float()


def _dis(coded: Coded) -> list[np.ndarray]:
    """Flow into the frame before and behind, (T, h, w, 2) each; 0 at the ends."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in coded.lr]
    estimate = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fields = []
    for step in (-1, 1):
        field = np.zeros_like(coded.flow.previous)
        for t in range(len(gray)):
            if 0 <= t + step < len(gray):
                field[t] = estimate.calc(gray[t], gray[t + step], field[t])
        fields.append(field)
    return fields
