"""LPIPS and NIQE by pyiqa, which is not installed with this project.

Its licence (PolyForm Noncommercial 1.0) allows no commercial use, and it downloads the weights of
its metrics when they are first used.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from training.config import UserError

PERCEPTUAL = ("lpips", "niqe")
"""Metrics that need pyiqa."""

FrameMetric = Callable[[np.ndarray, np.ndarray], float]
"""Of a restored and a true frame, (H, W, 3) uint8 RGB each."""


def load_perceptual(names: Sequence[str], device: torch.device) -> dict[str, FrameMetric]:
    """Make the metrics asked for ready; nothing is imported where none of them needs pyiqa.

    LPIPS is version 0.1 with AlexNet, NIQE that of pyiqa's defaults.

    Raises:
        UserError: if pyiqa or the weights are not there.
    """
    asked = [name for name in names if name in PERCEPTUAL]
    if not asked:
        return {}
    try:
        import pyiqa
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise UserError(
            f"--metrics {' '.join(asked)} needs pyiqa ({error}): install it with `pip install "
            "pyiqa`, and torchvision as built for your torch, if its licence (PolyForm "
            "Noncommercial) suits you, or leave them out"
        ) from error
    try:
        return {name: _frame_metric(pyiqa, name, device) for name in asked}
    except OSError as error:  # a URLError is one
        raise UserError(
            f"pyiqa cannot get the weights of {' '.join(asked)} ({error}): put them where its "
            "documentation says, or leave these metrics out"
        ) from error


def _frame_metric(pyiqa: Any, name: str, device: torch.device) -> FrameMetric:
    metric = pyiqa.create_metric(name, device=device)

    def measure(restored: np.ndarray, target: np.ndarray) -> float:
        pictures = [restored, target] if name == "lpips" else [restored]
        tensors = [
            torch.from_numpy(np.ascontiguousarray(x)).to(device).movedim(-1, 0)[None] / 255
            for x in pictures
        ]
        with torch.inference_mode():
            return float(metric(*tensors))

    return measure
