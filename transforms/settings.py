"""What encoders took of what was asked of them, read back from what they wrote."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from schemas.draw import Codec, CodecDraw, RateMode
from schemas.encoders import ENCODERS
from transforms.bitstream import frame_quantiser, quantiser_map
from transforms.codec import (
    MPEG_CODECS,
    CodecError,
    coded_size,
    decode_with_side_data,
    encode,
    side_data_of,
    x264_quantiser,
)
from transforms.color import rgb_to_yuv

_SEI_UUID_BYTES = 16
_KBIT = 1000
# x264 and x265 tell their settings; other encoders leave only what a decoder sees.
_TELLING = frozenset({"h264", "hevc"})
# libvpx's quantiser steps in the bitstream's, but for its last two: 249 and 255.
_VP9_INDEX_PER_STEP = 4
_VP9_LAST_INDICES = {62: 249, 63: 255}


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
    comes from a tiny encode with the same options. Other formats carry no settings, but a
    constant quantiser shows in every block or frame of the MPEG codecs and of VP9. Of every
    codec the distance of key frames and the runs of B frames are counted.

    Args:
        draw: what was asked for; None for a losslessly stored stream.
        frames: the decoded stream, with side data.

    Raises:
        CodecError: if they differ.
    """
    if draw is None:
        build, told = _told(encoder_message(frames[0]))
        gop_frames, b_frames = int(told["keyint"]), int(told["bframes"])
        return StreamSettings(build, "bitstream", "lossless", 0, gop_frames, b_frames)
    _check_frame_types(draw, frames)
    asked = (draw.rate_mode, draw.rate_value, draw.gop_frames, draw.b_frames)
    if draw.codec not in _TELLING:
        _check_quantisers(draw, frames)
        return StreamSettings(encoder_build(draw.codec), "draw", *asked)
    is_stored = draw.codec == "h264"
    build, told = _told(encoder_message(frames[0]) if is_stored else _tiny_encode(_key(draw)))
    _check_told(draw, told)
    return StreamSettings(build, "bitstream" if is_stored else "draw", *asked)


def encoder_build(codec: Codec) -> str:
    """The build of a codec's encoder in this process."""
    if codec in _TELLING:
        settings = _TINY_DRAW.model_copy(update={"codec": codec})
        return _told(_tiny_encode(_key(settings)))[0]
    if codec in MPEG_CODECS:
        return libavcodec_build()
    # libvpx and SVT-AV1 tell nothing; they come with PyAV.
    return f"{ENCODERS[codec].encoder} of PyAV {av.__version__}, {libavcodec_build()}"


def libavcodec_build() -> str:
    """The build of FFmpeg's own encoders."""
    return "libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))


# --- What x264 and x265 tell --------------------------------------------------------------------


def encoder_message(frame: av.VideoFrame) -> tuple[str, dict[str, str]] | None:
    """Build and settings that x264 and x265 leave in a user data SEI of the first frame.

    Returns:
        (build, settings by name with underscores, switches being 0 or 1), or None where there is
        no such message.
    """
    message = side_data_of(frame, Type.SEI_UNREGISTERED)
    if message is None:
        return None
    text = bytes(message)[_SEI_UUID_BYTES:].decode("latin1").rstrip("\0")
    build, _, options = text.partition(" - H.26")
    settings = {"bframes": "0", "slices": "1"}  # what x264 leaves out
    for word in options.partition("options: ")[2].split():
        name, has_value, value = word.partition("=")
        name = name.replace("-", "_")
        if not has_value:
            name, value = name.removeprefix("no_"), "0" if name.startswith("no_") else "1"
        settings[name] = value
    return build, settings


def _told(message: tuple[str, dict[str, str]] | None) -> tuple[str, dict[str, str]]:
    if message is None:
        raise CodecError("setting_not_taken", "the encoder does not tell its settings")
    return message


# The encoders' names of a rate control and of its value, and the value's unit.
_RATE_CONTROLS: dict[RateMode, tuple[str, str, int]] = {
    "crf": ("crf", "crf", 1),
    "qscale": ("cqp", "qp", 1),
    "bitrate": ("abr", "bitrate", _KBIT),
}
# What x264's profiles leave out; others leave nothing out that a draw could ask for.
_PROFILE_LIMITS: dict[str, dict[str, float]] = {
    "baseline": {"cabac": 0, "8x8dct": 0, "weightp": 0},
    "main": {"8x8dct": 0},
}


def _check_told(draw: CodecDraw, told: Mapping[str, str]) -> None:
    for name, wanted in _expected(draw).items():
        found = told.get(name, "0")
        if found != wanted if isinstance(wanted, str) else float(found) != wanted:
            raise CodecError(
                "setting_not_taken", f"{draw.codec}: asked for {name} {wanted}, took {found}"
            )


def _expected(draw: CodecDraw) -> dict[str, float | str]:
    """What the message must say, 0 standing for what it leaves out."""
    control, value, unit = _RATE_CONTROLS[draw.rate_mode]
    if draw.rate_mode == "bitrate" and draw.max_bitrate == draw.rate_value:
        control = "cbr"  # an average that is its own cap
    expected: dict[str, float | str] = {
        "rc": control,
        value: draw.rate_value / unit,
        "keyint": draw.gop_frames,
        "bframes": draw.b_frames,
        "slices": draw.slices,
        "vbv_maxrate": draw.max_bitrate / _KBIT,
        "vbv_bufsize": draw.buffer_bits / _KBIT,
    }
    if draw.codec == "h264" and draw.rate_mode == "qscale":
        expected[value] = x264_quantiser(draw)
    if draw.refs:
        expected["ref"] = draw.refs
    if not draw.b_pyramid:
        expected["b_pyramid"] = 0
    if not draw.weighted_prediction:
        expected["weightp"] = 0
    if not draw.scene_cut:
        expected["scenecut"] = 0
    return expected | _PROFILE_LIMITS.get(draw.profile if draw.codec == "h264" else "", {})


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


def _key(draw: CodecDraw) -> str:
    """What the encoder is told, as something that can be looked up."""
    height, width = coded_size(draw.codec, draw.pixel_format, 1, 1)
    update = {"lost": [], "height": height, "width": width, "color": _TINY_DRAW.color}
    return draw.model_copy(update=update).model_dump_json()


@functools.lru_cache(maxsize=256)
def _tiny_encode(key: str) -> tuple[str, dict[str, str]] | None:
    """What the encoder tells of itself when it encodes a gray frame with these settings."""
    draw = CodecDraw.model_validate_json(key)
    gray = np.full((1, draw.height, draw.width, 3), 128, np.uint8)
    packets = encode(rgb_to_yuv(gray, draw.pixel_format), draw, tell_settings=True)
    return encoder_message(decode_with_side_data(packets, draw.codec)[0])


# --- What a decoder sees ------------------------------------------------------------------------


def _check_frame_types(draw: CodecDraw, frames: Sequence[av.VideoFrame]) -> None:
    keys = [index for index, frame in enumerate(frames) if frame.key_frame]
    distances = np.diff(keys)
    # The MPEG encoders count in coding order, where B frames follow the key frame they precede.
    slack = draw.b_frames if draw.codec in MPEG_CODECS else 0
    longest = max([*distances, len(frames) - keys[-1]], default=0) if keys else len(frames)
    if not keys or keys[0] != 0 or longest > draw.gop_frames + slack:
        raise CodecError(
            "setting_not_taken", f"{draw.codec}: GOP {draw.gop_frames}, key frames at {keys}"
        )
    if not draw.scene_cut and not slack and any(distances != draw.gop_frames):
        raise CodecError("setting_not_taken", f"{draw.codec}: scene_cut, key frames at {keys}")
    types = "".join(PictureType(frame.pict_type).name for frame in frames)
    run = max(map(len, re.findall("B*", types)))
    if run > draw.b_frames:
        raise CodecError(
            "setting_not_taken", f"{draw.codec}: {draw.b_frames} B frames, got {types}"
        )


def _check_quantisers(draw: CodecDraw, frames: Sequence[av.VideoFrame]) -> None:
    """Check that a constant quantiser is one, where the decoder shows it.

    Blocks that were concealed have no quantiser, so damaged streams are not looked at.
    """
    if draw.rate_mode != "qscale" or draw.lost:
        return
    step = int(draw.rate_value)
    for index, frame in enumerate(frames):
        blocks, whole = quantiser_map(frame), frame_quantiser(frame)
        is_off = blocks is not None and (blocks != step).any()
        if is_off or (whole is not None and whole != vp9_index(step)):
            raise CodecError("setting_not_taken", f"frame {index} is not at q {draw.rate_value:g}")


def vp9_index(step: int) -> int:
    """The quantiser index of VP9 that one of libvpx's 64 quantisers stands for."""
    return _VP9_LAST_INDICES.get(step, step * _VP9_INDEX_PER_STEP)
