"""Which frames and pixels of a clip count, and which SSIM: numbers of two protocols never mix."""

import dataclasses
from collections.abc import Callable

import numpy as np
from torch import Tensor

from training.config import UserError
from training.metrics import comisr_ssim_rgb, comisr_ssim_y, ssim_rgb, ssim_y

_COMISR_UNIT = 32
_COMISR_MARGIN = 16
_SSIM_WINDOW = 11


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a restored clip is compared with its ground truth."""

    name: str
    """as it is asked for"""
    dropped_frames: int
    """left out at either end of a clip"""
    kept_side: Callable[[int], int]
    """how many of so many rows or columns count, in the middle"""
    ssim_y: Callable[[Tensor, Tensor], Tensor]
    """structural similarity of luma"""
    ssim_rgb: Callable[[Tensor, Tensor], Tensor]
    """structural similarity of RGB"""

    def cut(self, clip: np.ndarray) -> np.ndarray:
        """What counts of a (T, H, W, ...) array."""
        frames = slice(self.dropped_frames, len(clip) - self.dropped_frames)
        rows, columns = self._spans(*clip.shape[1:3])
        return clip[frames, rows, columns]

    def cut_picture(self, picture: np.ndarray) -> np.ndarray:
        """What counts of an (H, W, ...) array."""
        return picture[self._spans(*picture.shape[:2])]

    def check(self, frames: int, height: int, width: int) -> None:
        """Refuse clips of which nothing would be left.

        Raises:
            UserError: if the clip is too short or too small.
        """
        if frames <= 2 * self.dropped_frames:
            raise UserError(
                f"{frames} frames, of which protocol {self.name} leaves out "
                f"{self.dropped_frames} at either end: take it out, or choose another protocol"
            )
        if min(self.kept_side(height), self.kept_side(width)) < _SSIM_WINDOW:
            raise UserError(
                f"{width}x{height} is too small for protocol {self.name}: take it out, or choose "
                "another protocol"
            )

    def _spans(self, height: int, width: int) -> tuple[slice, slice]:
        return self._span(height), self._span(width)

    def _span(self, side: int) -> slice:
        kept = self.kept_side(side)
        first = (side - kept) // 2
        return slice(first, first + kept)


def _multiple_within_margin(side: int) -> int:
    return max(0, (side - _COMISR_MARGIN) // _COMISR_UNIT * _COMISR_UNIT)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="cavsr",
            dropped_frames=0,
            kept_side=lambda side: side,
            ssim_y=ssim_y,
            ssim_rgb=ssim_rgb,
        ),
        # COMISR's release, inference_and_eval.py and metrics.py, which follow TecoGAN's.
        Protocol(
            name="comisr",
            dropped_frames=2,
            kept_side=_multiple_within_margin,
            ssim_y=comisr_ssim_y,
            ssim_rgb=comisr_ssim_rgb,
        ),
    )
}
"""cavsr: all frames, no border left out, 11x11 Gaussian SSIM, as in the tables of CAVSR and FTVSR.
comisr: 2 frames left out at either end, the middle whose sides are multiples of 32 and at least 16
pixels smaller than the picture, 7x7 uniform SSIM."""
