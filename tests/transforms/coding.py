"""Encoding tiny clips, here or in another process, and measuring what became of them."""

import ctypes
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from schemas.draw import CodecDraw, ColorDraw
from schemas.encoders import ENCODERS
from tests.pictures import moving_clip
from transforms import codec
from transforms.codec import decode, decode_with_side_data, encode
from transforms.color import rgb_to_yuv, yuv_to_rgb
from transforms.packet_loss import lose_slices

CODECS = tuple(ENCODERS)
needs_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="masks are of x86"
)


def draw_for(name: str, **changes: object) -> CodecDraw:
    """A draw of high quality, BT.709 limited range for every codec, with what changes.

    Of the B frames that are asked for a codec gets as many as it has.
    """
    traits = ENCODERS[name]  # type: ignore[index]
    has_crf = "crf" in traits.rate_modes
    is_mpeg = name in codec.MPEG_CODECS
    draw = CodecDraw(
        codec=name,  # type: ignore[arg-type]
        rate_mode="crf" if has_crf else "qscale",
        rate_value=12 if has_crf else max(2, traits.qscale[0]),
        preset=traits.default_preset,
        gop_frames=min(12 if is_mpeg else 250, traits.max_gop_frames),
        b_frames=2,
        pixel_format="yuv420p",
        fps=25,
        height=96,
        width=96,
    )
    draw = draw.model_copy(update=changes)
    return draw.model_copy(update={"b_frames": min(draw.b_frames, traits.max_b_frames)})


def code(frames: np.ndarray, draw: CodecDraw) -> list[codec.Packet]:
    return encode(rgb_to_yuv(frames, draw.pixel_format, draw.color), draw)


def decoded_rgb(
    packets: list[codec.Packet], name: str, draw: CodecDraw | None = None
) -> np.ndarray:
    return yuv_to_rgb(list(decode(packets, name)), draw.color if draw else None)


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def digest(packets: list[codec.Packet], draw: CodecDraw) -> str:
    """Of the bytes and of the pixels that they decode to."""
    decoded = yuv_to_rgb(decode_with_side_data(packets, draw.codec), draw.color)
    data = b"".join(packet.data for packet in packets)
    return hashlib.sha256(data + decoded.tobytes()).hexdigest()


# What a CPU has: what FFmpeg, x264, x265, SVT-AV1 and libvpx may use, each by its own name.
# libvpx reads the environment when it is loaded.
CPUS: Mapping[str, Mapping[str, Any]] = {
    "all": {},
    "avx2": {"x264-params": "AVX2", "x265-params": "AVX2", "svtav1-params": "avx2"},
    "sse2": {
        "ffmpeg": 0x1B,
        "x264-params": "SSE2",
        "x265-params": "SSE2",
        "svtav1-params": "sse2",
        "vpx": "0x7",
    },
    "c": {
        "ffmpeg": 0,
        "x264-params": "0",
        "x265-params": "0",
        "svtav1-params": "c",
        "vpx": "0",
    },
}


def digests_elsewhere(
    jobs: list[tuple[CodecDraw, tuple[int, int], int]],
    *,
    frames: int = 6,
    cpu: str = "all",
    pinned: bool = True,
    environment: Mapping[str, str] | None = None,
) -> list[set[str]]:
    """Encode in a process of its own.

    Args:
        jobs: draw, (height, width) and how many times.
        frames: of each clip.
        cpu: what the process believes the CPU to have, a key of `CPUS`.
        pinned: as always; if not, x264's and the MPEG encoders' own defaults.
        environment: variables to add.

    Returns:
        The distinct digests of each job.
    """
    asked = {
        "what": "encodes",
        "cpu": cpu,
        "pinned": pinned,
        "frames": frames,
        "jobs": [[draw.model_dump(), size, times] for draw, size, times in jobs],
    }
    return [set(found) for found in _elsewhere(asked, environment or {})]


def losses_elsewhere(
    jobs: list[tuple[CodecDraw, tuple[int, int]]], *, frames: int, cpu: str
) -> list[str]:
    """Encode, lose slices and decode in a process of its own.

    Returns:
        The SHA-256 of each job's decoded RGB.
    """
    asked = {
        "what": "losses",
        "cpu": cpu,
        "pinned": True,
        "frames": frames,
        "jobs": [[draw.model_dump(), size, 1] for draw, size in jobs],
    }
    return [found for (found,) in _elsewhere(asked, {})]


def colours_elsewhere(
    jobs: Sequence[tuple[str, ColorDraw]], frames: np.ndarray, cpu: str
) -> list[str]:
    """Convert to YUV and back in a process of its own.

    Returns:
        The SHA-256 of each job's RGB.
    """
    asked = {
        "what": "colours",
        "cpu": cpu,
        "frames": frames.tolist(),
        "jobs": [[pixel_format, color.model_dump()] for pixel_format, color in jobs],
    }
    return [found for (found,) in _elsewhere(asked, {})]


def _elsewhere(asked: Mapping[str, Any], environment: Mapping[str, str]) -> list[list[str]]:
    cpu = CPUS[asked["cpu"]]
    caps = {"VPX_SIMD_CAPS": cpu["vpx"]} if "vpx" in cpu else {}
    done = subprocess.run(
        [sys.executable, "-m", "tests.transforms.coding"],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **caps, **environment},
    )
    return list(json.loads(done.stdout))


def _answers(asked: dict[str, Any]) -> Iterator[list[str]]:
    cpu = CPUS[asked["cpu"]]
    if "ffmpeg" in cpu:
        libraries = Path(av.__file__).parent.parent / "av.libs"
        (library,) = libraries.glob("libavutil*")
        ctypes.CDLL(str(library)).av_force_cpu_flags(cpu["ffmpeg"])
    return _colours(asked) if asked["what"] == "colours" else _digests(asked, cpu)


def _colours(asked: dict[str, Any]) -> Iterator[list[str]]:
    frames = np.array(asked["frames"], np.uint8)
    for pixel_format, fields in asked["jobs"]:
        color = ColorDraw.model_validate(fields)
        rgb = yuv_to_rgb(rgb_to_yuv(frames, pixel_format, color), color)
        yield [hashlib.sha256(rgb.tobytes()).hexdigest()]


def _digests(asked: dict[str, Any], cpu: Mapping[str, Any]) -> Iterator[list[str]]:
    options = codec.encoder_options

    def masked(draw: CodecDraw, *, tell_settings: bool = False) -> dict[str, str]:
        taken = options(draw, tell_settings=tell_settings)
        if not asked["pinned"]:
            taken = {k: v for k, v in taken.items() if k not in ("flags", "dct", "idct")}
            taken |= {"x264-params": "b-adapt=1"} if "x264-params" in taken else {}
        return {k: f"{v}:asm={cpu[k]}" if k in cpu else v for k, v in taken.items()}

    codec.encoder_options = masked
    for fields, (height, width), times in asked["jobs"]:
        draw = CodecDraw.model_validate(fields)
        clip = moving_clip(asked["frames"], height, width)
        if asked["what"] == "losses":
            damaged = lose_slices(code(clip, draw), draw.codec, draw.lost)
            decoded = decoded_rgb(damaged, draw.codec, draw)
            yield [hashlib.sha256(decoded.tobytes()).hexdigest()]
        else:
            yield sorted({digest(code(clip, draw), draw) for _ in range(times)})


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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(_answers(json.load(sys.stdin)))))
