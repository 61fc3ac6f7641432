"""Encoding tiny clips, and measuring what became of them."""

import numpy as np

from schemas.draw import CodecDraw
from transforms import codec
from transforms.codec import decode, encode
from transforms.color import rgb_to_yuv, yuv_to_rgb

CODECS = ("h264", "hevc", "mpeg4", "mpeg2video")


def draw_for(name: str, **changes: object) -> CodecDraw:
    is_mpeg = name in codec.MPEG_CODECS
    draw = CodecDraw(
        codec=name,  # type: ignore[arg-type]
        rate_mode="qscale" if is_mpeg else "crf",
        rate_value=2 if is_mpeg else 12,
        preset="" if is_mpeg else "medium",
        gop_frames=12 if is_mpeg else 250,
        b_frames=2,
        pixel_format="yuv420p",
        fps=25,
        height=96,
        width=96,
    )
    return draw.model_copy(update=changes)


def code(frames: np.ndarray, draw: CodecDraw) -> list[codec.Packet]:
    return encode(rgb_to_yuv(frames, draw.pixel_format), draw)


def decoded_rgb(packets: list[codec.Packet], name: str) -> np.ndarray:
    return yuv_to_rgb(list(decode(packets, name)))


def coloured_waves(height: int, width: int, phase: float) -> np.ndarray:
    """Smooth colour waves: all their energy is far below the chroma grid's limit."""
    x = np.arange(width)
    waves = [128 + 70 * np.sin(2 * np.pi * x / 32 + phase + 2.1 * c) for c in range(3)]
    return np.broadcast_to(np.rint(np.stack(waves, -1)), (height, width, 3)).astype(np.uint8)


def _horizontal_shift(before: np.ndarray, after: np.ndarray) -> float:
    """Least-squares shift in pixels: after ~ before - shift * gradient."""
    inner = np.s_[8:-8, 16:-16]
    gradient = np.gradient(before.astype(float), axis=1)[inner]
    difference = (after - before)[inner]
    difference -= difference.mean()
    return float(-(gradient * difference).sum() / (gradient**2).sum())


def mean_shift(before: np.ndarray, after: np.ndarray) -> list[float]:
    """Horizontal shift of each channel, pixels, over all frames of (T, H, W, 3) clips."""
    return [
        float(
            np.mean(
                [
                    _horizontal_shift(a[:, :, channel], b[:, :, channel])
                    for a, b in zip(before, after, strict=True)
                ]
            )
        )
        for channel in range(3)
    ]
