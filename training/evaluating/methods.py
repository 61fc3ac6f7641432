"""What restores clips: cubic interpolation, and networks."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from training.checkpoint import WEIGHTS_NAME, load_model
from training.config import UserError
from training.evaluating.degradation import SCALE, CodedClip
from training.inference import Clip, TileOptions, restore_clip

CUBIC = "cubic"
"""The baseline: OpenCV's, a = -0.75, not antialiased."""

Restore = Callable[[CodedClip], np.ndarray]
"""From an LR clip to (T, SCALE * h, SCALE * w, 3) uint8 RGB."""


def cubic(coded: CodedClip) -> np.ndarray:
    """Each frame interpolated by OpenCV's INTER_CUBIC, (T, SCALE * h, SCALE * w, 3) uint8."""
    _, height, width, _ = coded.lr.shape
    size = (SCALE * width, SCALE * height)
    return np.stack([cv2.resize(x, size, interpolation=cv2.INTER_CUBIC) for x in coded.lr])


def network(run: Path, device: torch.device, *, tiled: bool) -> Restore:
    """A trained network, which gets the pixels, the frame types and the motion of a whole clip.

    Args:
        run: its folder.
        device: where to run it.
        tiled: show it tiles and windows instead, which takes less memory.

    Raises:
        UserError: if there is no run, or it is of another scale.
    """
    model = load_model(run).to(device)
    if model.config.scale != SCALE:
        raise UserError(
            f"--weights {run} enlarges {model.config.scale} times: the protocol is one for {SCALE}"
        )
    return lambda coded: _restored(model, coded, device, tiled=tiled)


def _restored(
    model: nn.Module, coded: CodedClip, device: torch.device, *, tiled: bool
) -> np.ndarray:
    clip = Clip(lr=coded.lr, frame_type=coded.frame_type, flow=coded.flow)
    try:
        return restore_clip(model, clip, device, TileOptions() if tiled else _no_tiles(clip))
    except torch.OutOfMemoryError as error:
        cure = "take fewer --frames" if tiled else "give --tiled"
        raise UserError(f"the GPU has too little memory for a clip: {cure}") from error


def _no_tiles(clip: Clip) -> TileOptions:
    frames, height, width, _ = clip.lr.shape
    side = -(-max(height, width) // 8) * 8
    return TileOptions(tile=side, overlap=0, frames=frames, overlap_frames=0)


def method_names(runs: Sequence[Path]) -> list[str]:
    """What to call runs: their folders' names, or whole paths where those are not unique."""
    names = [run.resolve().name for run in runs]
    unique = len({*names, CUBIC}) == len(names) + 1
    return names if unique else [str(run.absolute()) for run in runs]


def weights_sha256(run: Path) -> str:
    """Identifies a run's weights."""
    return hashlib.sha256((run / WEIGHTS_NAME).read_bytes()).hexdigest()
