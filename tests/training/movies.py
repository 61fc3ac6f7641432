"""Tiny videos with everything that a restored one has to keep."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.pictures import moving_clip
from transforms.color import rgb_to_yuv

RATE = 25
TIME_BASE = Fraction(1, 12800)
TICK = 512
"""Ticks of `TIME_BASE` between frames."""
B_FRAMES = {"x264-params": "bframes=3:b-adapt=0:keyint=10:scenecut=0"}


def write_movie(
    path: Path,
    num_frames: int = 20,
    height: int = 48,
    width: int = 64,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    tags: dict[str, int] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    audio: str = "",
    time_base: Fraction = TIME_BASE,
    pixel_format: str = "yuv420p",
) -> Path:
    """Encode a clip that moves by (1, 2) pixels a frame; `pts` are ticks."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            codec, rate=RATE, options=B_FRAMES if options is None else options
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = time_base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        sound: Any = container.add_stream(audio, rate=48000) if audio else None
        pts = pts or [round(index / (RATE * time_base)) for index in range(num_frames)]
        clip = moving_clip(num_frames, height, width)
        for time, frame in zip(pts, rgb_to_yuv(clip, pixel_format), strict=True):
            frame.pts, frame.time_base = time, time_base
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for samples in tone(num_frames / RATE, sound.codec_context.frame_size or 1024):
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return path


def tone(seconds: float, frame_size: int) -> list[av.AudioFrame]:
    """A sine of 380 Hz."""
    frames = []
    for start in range(0, int(seconds * 48000), frame_size):
        wave = np.sin(np.arange(start, start + frame_size) / 20).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        frames.append(frame)
    return frames


def read_pictures(path: Path) -> list[av.VideoFrame]:
    """All frames of the first video stream."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times(path: Path) -> list[float]:
    """When each frame is shown, seconds."""
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[bytes, float, float]]:
    """(bytes, presentation time, duration) of all packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        base = float(stream.time_base or 0)
        return [
            (bytes(packet), (packet.pts or 0) * base, (packet.duration or 0) * base)
            for packet in container.demux(stream)
            if packet.size
        ]
