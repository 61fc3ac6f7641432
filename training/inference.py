"""Restoring clips of any size and length: tiles in space, windows in time.

Tiles and windows overlap. What a network puts out near a cut, where it misses neighbours, is left
out; what is kept lies side by side. So nothing is blended, and no pixel is an average of two.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.config import UserError
from training.metrics import to_8_bits
from transforms.motion import Flow

_TILE_STEP = 8  # pixels: tiles begin where a network that works at 1/8 of the size has a cell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """What a network is given of a clip.

    Raises:
        ValueError: if the arrays do not fit together.
    """

    lr: np.ndarray
    """(T, h, w, 3) uint8 RGB"""
    frame_type: np.ndarray | None = None
    """(T,) int64 `FrameType.code`, -1 where it is unknown; None where none is known"""
    flow: Flow | None = None
    """(T, h, w, 2) motion to the frames before and after; None where none is known"""

    def __post_init__(self) -> None:
        if self.lr.ndim != 4 or self.lr.shape[3] != 3 or self.lr.dtype != np.uint8:
            found = f"{self.lr.dtype} of shape {self.lr.shape}"
            raise ValueError(f"lr is {found}: expected uint8 of (T, h, w, 3)")
        if not self.lr.size:
            raise ValueError(f"{self.lr.shape = }: expected at least 1 pixel")
        if self.frame_type is not None and self.frame_type.shape != self.lr.shape[:1]:
            raise ValueError(f"{self.frame_type.shape = }: expected {self.lr.shape[:1]}")
        if self.flow is not None and self.flow.previous.shape != (*self.lr.shape[:3], 2):
            raise ValueError(f"{self.flow.previous.shape = }: expected {(*self.lr.shape[:3], 2)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileOptions:
    """How much a network is given at once.

    Raises:
        UserError: if overlaps leave nothing of a tile or window, or tiles are no multiple of 8.
    """

    tile: int = 192
    """side of a tile, LR pixels"""
    overlap: int = 16
    """LR pixels that are left out along each cut between tiles"""
    frames: int = 24
    """frames of a window"""
    overlap_frames: int = 4
    """frames that are left out at each cut between windows"""

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.overlap_frames < 0:
            raise UserError("an overlap is negative: 0 is the least")
        if self.tile % _TILE_STEP or self.overlap % _TILE_STEP:
            raise UserError(
                f"a tile of {self.tile} pixels with an overlap of {self.overlap}: both must be "
                f"multiples of {_TILE_STEP}"
            )
        if self.tile <= 2 * self.overlap:
            raise UserError(
                f"a tile of {self.tile} pixels is all overlap: give more than {2 * self.overlap}"
            )
        if self.frames <= 2 * self.overlap_frames:
            raise UserError(
                f"a window of {self.frames} frames is all overlap: give more than "
                f"{2 * self.overlap_frames}"
            )


class Span(NamedTuple):
    """A piece of a line that is worked on, and the part of it that is kept."""

    start: int
    """first of what is seen"""
    stop: int
    """end of what is seen"""
    kept_start: int
    """first of what is kept"""
    kept_stop: int
    """end of what is kept"""

    @property
    def seen(self) -> slice:
        """What is worked on, in the line."""
        return slice(self.start, self.stop)

    @property
    def kept(self) -> slice:
        """What is kept, in the line."""
        return slice(self.kept_start, self.kept_stop)

    @property
    def inner(self) -> slice:
        """What is kept, in the piece."""
        return slice(self.kept_start - self.start, self.kept_stop - self.start)


def span(start: int, total: int, size: int, overlap: int) -> Span:
    """The piece of a line that begins at `start`.

    Args:
        start: 0, or `size - 2 * overlap` more than that of the piece before.
        total: length of the line, or anything beyond the piece where it goes on.
        size: longest piece.
        overlap: how much of a piece is left out at each cut; less than half of `size`.
    """
    stop = min(start + size, total)
    kept_start = start + overlap if start else 0
    return Span(start, stop, kept_start, stop if stop == total else stop - overlap)


def spans(total: int, size: int, overlap: int) -> Iterator[Span]:
    """Cut a line of length `total`, at least 1, into pieces whose kept parts follow each other."""
    for start in itertools.count(0, size - 2 * overlap):
        piece = span(start, total, size, overlap)
        yield piece
        if piece.stop == total:
            return


def scaled(part: slice, scale: int) -> slice:
    """The part of HR over a part of LR."""
    return slice(part.start * scale, part.stop * scale)


def restore_clip(
    model: nn.Module,
    clip: Clip,
    device: torch.device,
    options: TileOptions | None = None,
    done: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Restore a clip tile by tile and window by window, in bfloat16 where the device is a GPU.

    A clip that fits into one tile and window gives exactly what the network puts out for all of it,
    rounded to 8 bits.

    Memory, besides the weights: on the device, what the network takes for `options.frames` frames
    of `options.tile` x `options.tile` pixels, whatever the clip's size and length. In main memory,
    the clip as it is given (3 bytes a pixel, 17 more with motion) and the result (3 scale² bytes an
    LR pixel), both of all frames: hand over a long video in windows of `options.frames` frames.

    Args:
        model: in evaluation mode and on the device; `model.config.scale` is its scale.
        clip: what to restore.
        device: where to compute.
        options: tiles and windows; None for the defaults.
        done: is told after each tile which part of the clip it was, as a share of 1.

    Returns:
        (T, scale * h, scale * w, 3) uint8 RGB.
    """
    options = options or TileOptions()
    scale = scale_of(model)
    frames, height, width, _ = clip.lr.shape
    restored = np.empty((frames, height * scale, width * scale, 3), np.uint8)
    for time, rows, columns in _pieces(frames, height, width, options):
        part_TCHW = _restore_piece(model, clip, (time.seen, rows.seen, columns.seen), device)
        inner = part_TCHW[time.inner, :, scaled(rows.inner, scale), scaled(columns.inner, scale)]
        there = (scaled(rows.kept, scale), scaled(columns.kept, scale))
        # Frame by frame, since rounding takes four times the memory of what is rounded.
        for frame, picture_CHW in zip(restored[time.kept], inner, strict=True):
            rounded = to_8_bits(picture_CHW).to(torch.uint8)
            frame[there] = rounded.permute(1, 2, 0).cpu().numpy()
        if done is not None:
            kept = clip.lr[time.kept, rows.kept, columns.kept]
            done(kept.size / clip.lr.size)
    return restored


def scale_of(model: nn.Module) -> int:
    """HR size divided by LR size."""
    config: object = model.config
    scale = getattr(config, "scale", None)
    assert isinstance(scale, int)
    return scale


def _pieces(
    frames: int, height: int, width: int, options: TileOptions
) -> Iterator[tuple[Span, Span, Span]]:
    for time in spans(frames, options.frames, options.overlap_frames):
        for rows in spans(height, options.tile, options.overlap):
            for columns in spans(width, options.tile, options.overlap):
                yield time, rows, columns


def _restore_piece(
    model: nn.Module, clip: Clip, part: tuple[slice, slice, slice], device: torch.device
) -> Tensor:
    """What the network puts out for one tile of one window, (T, 3, scale * h, scale * w)."""
    lr_BTCHW = _channels_first(clip.lr[part], device).float() / 255
    frame_type_BT = flow_previous_BT2HW = flow_next_BT2HW = None
    if clip.frame_type is not None:
        frame_type_BT = torch.tensor(clip.frame_type[part[0]], device=device)[None]
    if clip.flow is not None:
        flow_previous_BT2HW = _channels_first(clip.flow.previous[part], device)
        flow_next_BT2HW = _channels_first(clip.flow.next[part], device)
    is_gpu = device.type == "cuda"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=is_gpu):
        restored: Tensor = model(lr_BTCHW, frame_type_BT, flow_previous_BT2HW, flow_next_BT2HW)
        return restored[0]


def _channels_first(x_THWC: np.ndarray, device: torch.device) -> Tensor:
    x = torch.from_numpy(np.array(x_THWC)).to(device)  # a copy: the clip may not be writable
    return x.movedim(-1, -3).contiguous()[None]
