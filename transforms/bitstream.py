"""What a bitstream says about itself: container, frame types, quantisers, settings."""

import functools
import io
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from schemas.draw import Codec, CodecDraw, RateMode
from schemas.record import UNKNOWN
from schemas.sample import Frame, FrameType
from transforms.codec import (
    MPEG_CODECS,
    CodecError,
    Packet,
    coded_size,
    decode_with_side_data,
    encode,
    side_data_of,
)
from transforms.color import rgb_to_yuv

MACROBLOCK = 16
"""Side of the blocks of a quantiser map, pixels of the coded picture."""
_SEI_UUID_BYTES = 16


def mux_nut(packets: Sequence[Packet], codec: str, fps: int, height: int, width: int) -> bytes:
    """Put packets into a NUT file, which keeps the bytes of each as they are."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut", options={"fflags": "+bitexact"}) as container:
        stream = container.add_mux_stream(codec, rate=fps, width=width, height=height)
        for packet in packets:
            muxed = av.Packet(packet.data)
            muxed.pts, muxed.dts = packet.pts, packet.dts
            muxed.is_keyframe = packet.key_frame
            muxed.time_base = Fraction(1, fps)
            muxed.stream = stream
            container.mux(muxed)
    return buffer.getvalue()


def packet_positions(nut: bytes, packets: Sequence[Packet]) -> list[int]:
    """Where the bytes of each packet lie in the file, as its demuxer finds them.

    Raises:
        CodecError: if the file does not hold exactly these packets.
    """
    positions: list[int] = []
    with av.open(io.BytesIO(nut), "r", format="nut") as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
        for packet, expected in zip(found, packets, strict=True):
            position = nut.find(expected.data, packet.pos)
            if bytes(packet) != expected.data or position < 0:
                raise CodecError("container_changed_bytes", f"packet {len(positions)}")
            positions.append(position)
    return positions


def frame_records(
    packets: Sequence[Packet], positions: Sequence[int], frames: Sequence[av.VideoFrame]
) -> list[Frame]:
    """Join packets (coding order) and decoded frames (presentation order) on their time.

    Returns:
        One record a frame, in presentation order.
    """
    coding_index = {packet.pts: index for index, packet in enumerate(packets)}
    return [
        _frame_record(display_index, coding_index[display_index], packets, positions, frame)
        for display_index, frame in enumerate(frames)
    ]


def _frame_record(
    display_index: int,
    coding_index: int,
    packets: Sequence[Packet],
    positions: Sequence[int],
    frame: av.VideoFrame,
) -> Frame:
    packet = packets[coding_index]
    qp = quantiser_map(frame)
    unknown = float(UNKNOWN)
    return Frame(
        display_index=display_index,
        coding_index=coding_index,
        frame_type=FrameType(PictureType(frame.pict_type).name),
        key_frame=packet.key_frame,
        qp_mean=packet.encoder_qp if qp is None else float(qp.mean()),
        qp_min=unknown if qp is None else float(qp.min()),
        qp_max=unknown if qp is None else float(qp.max()),
        packet_position=positions[coding_index],
        packet_bytes=len(packet.data),
        pts=packet.pts,
        dts=packet.dts,
    )


def quantiser_map(frame: av.VideoFrame) -> np.ndarray | None:
    """The quantiser of every macroblock, as the decoder read it.

    Args:
        frame: decoded with side data.

    Returns:
        (ceil(h/16), ceil(w/16)) float32 in the codec's own scale (QP 0-51 of H.264, quantiser
        scale 1-31 of the MPEG codecs), or None where the codec does not tell.
    """
    side_data = side_data_of(frame, Type.VIDEO_ENC_PARAMS)
    if side_data is None or not side_data.nb_blocks:
        return None
    raw = np.frombuffer(side_data, np.uint8)
    start, count, size = side_data.blocks_offset, side_data.nb_blocks, side_data.block_size
    blocks = raw[start : start + count * size].reshape(count, size)
    delta = np.ascontiguousarray(blocks[:, 16:20]).view("<i4")[:, 0]  # after int32 x, y, w, h
    qp = (side_data.qp + delta).astype(np.float32)
    if side_data.codec_type.name == "MPEG2":
        qp /= 2  # FFmpeg exports twice the quantiser scale of the MPEG codecs
    return qp.reshape(-(-frame.height // MACROBLOCK), -(-frame.width // MACROBLOCK))


def encoder_settings(frame: av.VideoFrame) -> tuple[str, dict[str, str]] | None:
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
    build = re.split(r" - (?:H\.26|Copy)| \(build|:\[", text)[0].removesuffix(" - ")
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
