"""Tiny media, made where a test needs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from transforms.color import TIME_BASE, rgb_to_yuv


def gradient(num_frames: int, height: int, width: int, start: int = 0) -> np.ndarray:
    """(T, H, W, 3) uint8: a smooth pattern that moves by two pixels a frame; no two are alike."""
    t, y, x = np.ogrid[start : start + num_frames, :height, :width]
    bands = [np.sin((x + 2 * t) / 9), np.cos((y - t) / 7), np.sin((x + y + t) / 11)]
    planes = [band + np.zeros((num_frames, height, width)) for band in bands]
    return np.rint(127 + 100 * np.stack(planes, axis=3)).astype(np.uint8)


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    gop_frames: int = 8,
    pts: Sequence[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Encode (T, H, W, 3) uint8 frames; `tags` are colour properties."""
    # A video's content must not depend on the suffix, so tests may rename what this writes.
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = gop_frames
        stream.codec_context.time_base = TIME_BASE
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(rgb_to_yuv(frames, pixel_format)):
            frame.pts = pts[index] if pts else index
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
