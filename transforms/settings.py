"""What encoders took of what was asked of them, read back from what they wrote."""

import functools
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type

from schemas.draw import Codec, CodecDraw, RateMode
from transforms.bitstream import quantiser_map
from transforms.codec import (
    MPEG_CODECS,
    CodecError,
    coded_size,
    decode_with_side_data,
    encode,
    side_data_of,
)
from transforms.color import rgb_to_yuv

_SEI_UUID_BYTES = 16


class StreamSettings(NamedTuple):
    """What an encoder took, in the fields of a stream's record."""

    encoder_build: str
    settings_from: Literal["bitstream", "draw"]
    rate_mode: RateMode | Literal["lossless"]
    rate_value: float
    gop_frames: int
    b_frames: int


def stream_settings(draw: CodecDraw | None, frames: Sequence[av.VideoFrame]) -> StreamSettings:
    """Read back what the encoder took, and compare it with what was drawn.

    H.264 is read from the stored stream. x265's message names the CPU and is not stored; it
    comes from a tiny encode with the same options. The MPEG formats carry no settings, but a
    constant quantiser shows in every macroblock.

    Args:
        draw: what was asked for; None for a losslessly stored stream.
        frames: the decoded stream, with side data.

    Raises:
        CodecError: if they differ.
    """
    if draw is not None and draw.codec in MPEG_CODECS:
        _check_quantisers(draw, frames)
        return StreamSettings(libavcodec_build(), "draw", *_asked(draw))
    told = _tiny_encode(draw) if draw and draw.codec == "hevc" else encoder_message(frames[0])
    if told is None:
        raise CodecError("setting_not_taken", "the encoder does not tell its settings")
    build, (mode, value, gop_frames, b_frames) = told[0], _parse_settings(told[1])
    if draw is None:
        return StreamSettings(build, "bitstream", "lossless", 0, gop_frames, b_frames)
    found = (mode, value, gop_frames, b_frames)
    if found != _asked(draw):
        raise CodecError(
            "setting_not_taken", f"{draw.codec}: asked for {_asked(draw)}, took {found}"
        )
    return StreamSettings(build, "draw" if draw.codec == "hevc" else "bitstream", *found)


def _asked(draw: CodecDraw) -> tuple[RateMode, float, int, int]:
    return draw.rate_mode, draw.rate_value, draw.gop_frames, draw.b_frames


def libavcodec_build() -> str:
    """The build of FFmpeg's own encoders."""
    return "libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))


def encoder_message(frame: av.VideoFrame) -> tuple[str, dict[str, str]] | None:
    """Build and settings that x264 and x265 leave in a user data SEI of the first frame.

    Returns:
        (build, settings by name), or None where there is no such message.
    """
    message = side_data_of(frame, Type.SEI_UNREGISTERED)
    if message is None:
        return None
    text = bytes(message)[_SEI_UUID_BYTES:].decode("latin1").rstrip("\0")
    build = text.split(" - H.26")[0]
    return build, dict(re.findall(r"([\w-]+)=(\S+)", text))


def encoder_build(codec: Codec) -> str:
    """The build of a codec's encoder in this process."""
    if codec in MPEG_CODECS:
        return libavcodec_build()
    told = _tiny_encode(_TINY_DRAW.model_copy(update={"codec": codec}))
    return told[0] if told else "unknown"


_TINY_DRAW = CodecDraw(
    codec="h264",
    rate_mode="crf",
    rate_value=23,
    preset="ultrafast",
    gop_frames=1,
    b_frames=0,
    pixel_format="yuv420p",
    fps=25,
    height=16,
    width=16,
)


@functools.lru_cache(maxsize=256)
def _tiny_encode(draw: CodecDraw) -> tuple[str, dict[str, str]] | None:
    """What the encoder tells of itself when it encodes a gray frame with these settings."""
    height, width = coded_size(draw.codec, 1, 1)
    gray = np.full((1, height, width, 3), 128, np.uint8)
    packets = encode(rgb_to_yuv(gray, draw.pixel_format), draw, tell_settings=True)
    return encoder_message(decode_with_side_data(packets, draw.codec)[0])


# The encoders' names of a rate control and of its value, and the value's unit.
_RATE_CONTROLS: dict[str, tuple[RateMode, str, int]] = {
    "crf": ("crf", "crf", 1),
    "cqp": ("qscale", "qp", 1),
    "abr": ("bitrate", "bitrate", 1000),
}


def _parse_settings(settings: dict[str, str]) -> tuple[RateMode, float, int, int]:
    mode, name, unit = _RATE_CONTROLS[settings["rc"]]
    value = float(settings[name]) * unit
    return mode, value, int(settings["keyint"]), int(settings.get("bframes", 0))


def _check_quantisers(draw: CodecDraw, frames: Sequence[av.VideoFrame]) -> None:
    if draw.rate_mode != "qscale":
        return
    for index, frame in enumerate(frames):
        found = quantiser_map(frame)
        if found is None or not (found == draw.rate_value).all():
            raise CodecError("setting_not_taken", f"frame {index} is not at q {draw.rate_value:g}")
