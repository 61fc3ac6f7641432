"""Encoding and decoding in memory, with every setting that decides bytes pinned.

FFmpeg's and the encoders' defaults depend on the CPU, on the core count or on what lay in
memory; the pins below take that away. An option that nobody took is an error, never a label.
"""

import dataclasses
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from schemas.draw import Codec, CodecDraw
from schemas.record import UNKNOWN

# Slices and frame threads change the bytes with the core count; SIMD paths of x264 differ in
# rounding unless told not to, and on AVX-512 read uninitialised memory; x265's info SEI names
# the CPU; the MPEG encoders' fast DCT differs between C and SIMD.
_X265_PINS = "log-level=none:pools=none:frame-threads=1"
_MPEG_PINS = {"flags": "+bitexact", "dct": "int", "idct": "simple"}

ENCODERS: dict[Codec, str] = {
    "h264": "libx264",
    "hevc": "libx265",
    "mpeg4": "mpeg4",
    "mpeg2video": "mpeg2video",
}
"""FFmpeg's encoder for each coded format."""

MPEG_CODECS: frozenset[str] = frozenset({"mpeg4", "mpeg2video"})

LOSSLESS_CODEC, LOSSLESS_ENCODER = "h264", "libx264rgb"
_LOSSLESS_OPTIONS = {"preset": "veryfast", "qp": "0", "x264-params": "cpu-independent=1"}
_LOSSLESS_GOP_FRAMES = 250

_BT709, _RGB_MATRIX, _LIMITED = 1, 0, 1
_MIN_SIDE: dict[Codec, int] = {"hevc": 96}
_DEFAULT_MIN_SIDE = 16
_LAMBDA_PER_QP = 118  # FFmpeg's FF_QP2LAMBDA: the unit of a packet's quality statistics


class CodecError(Exception):
    """An encoder or decoder failed, or did not do what was asked of it.

    Attributes:
        reason: short code to count by.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class CodedFrame(NamedTuple):
    """What a decoder needs of one frame."""

    data: bytes
    pts: int
    """presentation time in frames: the display index"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packet:
    """One coded frame as the encoder returned it."""

    data: bytes
    pts: int
    """presentation time in frames: the display index"""
    key_frame: bool
    encoder_qp: float
    """mean quantiser by the encoder's own statistics, -1 where it keeps none"""


def coded_size(codec: Codec, height: int, width: int) -> tuple[int, int]:
    """The picture size that holds (height, width) and that the encoder takes.

    x264 and x265 want even sides in 4:2:0. x265 reads and writes beyond its buffers on
    pictures of a single 64x64 block or a narrow column of them (it aborts at 48x48 and varies
    from run to run at 64x64), so it gets two blocks each way.
    """
    least = _MIN_SIDE.get(codec, _DEFAULT_MIN_SIDE)
    return max(height + height % 2, least), max(width + width % 2, least)


def pad_to(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Extend (T, h, w, 3) frames at the bottom and right by repeating the border."""
    _, h, w, _ = frames.shape
    return np.pad(frames, ((0, 0), (0, height - h), (0, width - w), (0, 0)), mode="edge")


def encode(
    frames: Sequence[av.VideoFrame], draw: CodecDraw, *, tell_settings: bool = False
) -> list[Packet]:
    """Encode a clip as drawn.

    Args:
        frames: YUV frames of `draw.pixel_format` and a size that `coded_size` returns.
        draw: the settings.
        tell_settings: let x265 write its settings, and the CPU's name, into the stream.

    Returns:
        The packets, in coding order.

    Raises:
        CodecError: if the encoder fails or does not take a setting.
    """
    context = _new_encoder(ENCODERS[draw.codec], frames[0], draw.fps)
    context.color_range = _LIMITED
    context.colorspace = _BT709
    context.color_primaries = context.color_trc = _BT709
    context.gop_size = draw.gop_frames
    context.max_b_frames = draw.b_frames
    if draw.rate_mode == "bitrate":
        context.bit_rate = int(draw.rate_value)
    return _run_encoder(context, encoder_options(draw, tell_settings=tell_settings), frames)


def encode_lossless(frames: np.ndarray, fps: int) -> list[Packet]:
    """Encode (T, h, w, 3) uint8 RGB frames exactly, as lossless H.264 in RGB.

    Raises:
        CodecError: if the encoder fails.
    """
    rgb = [av.VideoFrame.from_ndarray(frame, "rgb24") for frame in frames]
    context = _new_encoder(LOSSLESS_ENCODER, rgb[0], fps)
    context.colorspace = _RGB_MATRIX
    context.gop_size = _LOSSLESS_GOP_FRAMES
    context.max_b_frames = 0  # with the preset's single reference: vectors of distance 1 only
    return _run_encoder(context, dict(_LOSSLESS_OPTIONS), rgb)


def encoder_options(draw: CodecDraw, *, tell_settings: bool = False) -> dict[str, str]:
    """The private options of the drawn encoder, pins included."""
    value = f"{draw.rate_value:g}"
    if draw.codec in MPEG_CODECS:
        return {**_MPEG_PINS, **_mpeg_rate(draw)}
    options = {"preset": draw.preset}
    if draw.rate_mode == "crf":
        options["crf"] = value
    if draw.codec == "h264":
        options["x264-params"] = "cpu-independent=1"
        if draw.rate_mode == "qscale":
            options["qp"] = value
        return options
    qp = f":qp={value}" if draw.rate_mode == "qscale" else ""
    return {**options, "x265-params": f"{_X265_PINS}:info={int(tell_settings)}{qp}"}


def _mpeg_rate(draw: CodecDraw) -> dict[str, str]:
    if draw.rate_mode == "qscale":
        # A quantiser as such is ignored here (PyAV has no frame.quality); bounds are not.
        return {"qmin": f"{draw.rate_value:g}", "qmax": f"{draw.rate_value:g}"}
    # The tolerance is 4 Mbit by default, whatever the size: a small clip would use it up and
    # come out the same at every bitrate. It must exceed one frame's share.
    tolerance = draw.rate_value * max(0.1, 1.5 / draw.fps)
    return {"bt": str(round(tolerance))}


def _new_encoder(name: str, first: av.VideoFrame, fps: int) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = first.width, first.height
    context.pix_fmt = first.format.name
    context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
    context.thread_count = 1  # before open: slices and lookahead follow the thread count
    return context


def _run_encoder(
    context: av.VideoCodecContext, options: dict[str, str], frames: Sequence[av.VideoFrame]
) -> list[Packet]:
    context.options = options
    try:
        context.open()
        if context.options:
            raise CodecError("setting_not_taken", f"{context.name}: {context.options}")
        packets = []
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, context.time_base
            frame.pict_type = PictureType.NONE  # a decoded frame would force its own type again
            packets += context.encode(frame)
        packets += context.encode(None)
    except av.FFmpegError as error:
        raise CodecError("encoder_failed", f"{context.name}: {error}") from error
    return [_packet(packet) for packet in packets]


def _packet(packet: "av.Packet[Any]") -> Packet:
    if packet.pts is None:
        raise CodecError("encoder_failed", "a packet has no time stamp")
    return Packet(
        data=bytes(packet),
        pts=packet.pts,
        key_frame=packet.is_keyframe,
        encoder_qp=_encoder_qp(packet),
    )


def _encoder_qp(packet: "av.Packet[Any]") -> float:
    if not packet.has_sidedata("quality_stats"):
        return float(UNKNOWN)
    (quality,) = struct.unpack_from("<I", bytes(packet.get_sidedata("quality_stats")))
    return float(quality / _LAMBDA_PER_QP)


def decode(
    packets: Iterable[CodedFrame | Packet],
    codec: str,
    *,
    side_data: bool = False,
    skip_until: int = 0,
) -> Iterable[av.VideoFrame]:
    """Decode packets to frames in presentation order, lazily.

    Args:
        packets: in coding order, starting at a key frame.
        codec: FFmpeg's name of the coded format.
        side_data: also export motion vectors and quantisers.
        skip_until: leave out frames with a smaller pts.

    Raises:
        CodecError: if the decoder fails or drops the time stamps.
    """
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    if side_data:
        context.options = {"flags2": "+export_mvs", "export_side_data": "+venc_params"}
    try:
        for packet in [*map(_padded_packet, packets), None]:
            for frame in context.decode(packet):
                if frame.pts is None:
                    raise CodecError("decoder_failed", f"{codec}: a frame without time stamp")
                if frame.pts >= skip_until:
                    yield frame
    except av.FFmpegError as error:
        raise CodecError("decoder_failed", f"{codec}: {error}") from error


def side_data_of(frame: av.VideoFrame, kind: Type) -> Any:
    """A frame's side data of one kind; None where it has none."""
    container: Any = frame.side_data
    return container.get(kind)


def _padded_packet(coded: CodedFrame | Packet) -> "av.Packet[Any]":
    # av.Packet(data) wraps memory without the zero padding that decoders read into.
    packet = av.Packet(len(coded.data))
    packet.update(coded.data)
    packet.pts = coded.pts
    return packet


def decode_with_side_data(
    packets: Sequence[CodedFrame | Packet], codec: str
) -> list[av.VideoFrame]:
    """Decode a whole stream with motion vectors and quantisers on every frame that has them.

    The MPEG decoders hand out their last frame without either when they are flushed, but not
    when another packet follows; so the first one, a key frame, is fed once more.

    Raises:
        CodecError: if the decoder fails or the number of frames is not that of the packets.
    """
    fed = list(packets)
    if codec in MPEG_CODECS:
        fed.append(CodedFrame(packets[0].data, len(packets)))
    frames = [f for f in decode(fed, codec, side_data=True) if (f.pts or 0) < len(packets)]
    if [frame.pts for frame in frames] != list(range(len(packets))):
        raise CodecError(
            "frames_lost", f"{codec}: {len(packets)} packets gave {len(frames)} frames"
        )
    return frames
