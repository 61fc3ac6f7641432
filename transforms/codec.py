"""Encoding and decoding in memory, with every setting that decides bytes pinned.

FFmpeg's and the encoders' defaults depend on the CPU, on the core count or on what lay in
memory; the pins below take that away. An option that nobody took is an error, never a label.
"""

import dataclasses
import os
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from schemas.draw import Codec, CodecDraw
from schemas.encoders import ENCODERS, EncoderTraits, OptionalSetting
from schemas.record import UNKNOWN
from transforms.headers import VP8_INDICES, header_quantiser

# SVT-AV1 prints its settings to standard error unless this says errors only.
os.environ.setdefault("SVT_LOG", "1")

# Slices and frame threads change the bytes with the core count; SIMD paths of x264 differ in
# rounding unless told not to, and on AVX-512 read uninitialised memory; x265's info SEI names
# the CPU; the MPEG encoders' fast DCT differs between C and SIMD.
_X264_PINS = "cpu-independent=1"
_X265_PINS = "log-level=none:pools=none:frame-threads=1"
_SVT_PINS = "lp=1"
_MPEG_PINS = {"flags": "+bitexact", "dct": "int", "idct": "simple"}
_VPX_PINS = {"deadline": "good"}  # a time limit would depend on the machine

MPEG_CODECS: frozenset[str] = frozenset({"mpeg4", "mpeg2video", "mpeg1video", "h263p", "mjpeg"})
"""The codecs of FFmpeg's own encoders."""
_MPEG_DECODERS_SHORT_OF_DATA = frozenset({"mpeg4", "mpeg2video", "mpeg1video"})
# Whose statistics are the quantiser of the frame that is shown. Those of x264 and libvpx repeat
# the rate factor, those of the MPEG encoders are an estimate made before.
_ENCODERS_THAT_TELL_QP = frozenset({"hevc", "av1"})

LOSSLESS_CODEC: Codec = "h264"
LOSSLESS_ENCODER = "libx264rgb"
_LOSSLESS_OPTIONS = {"preset": "veryfast", "qp": "0", "x264-params": _X264_PINS}
_LOSSLESS_GOP_FRAMES = 250

_RGB_MATRIX = 0
QP_PER_BIT = 6
"""So much finer is the finest quantiser of H.264 with each bit of depth; QP 0 is that of 8."""
_NO_SCENE_CUT = 1_000_000_000  # a score that no change of scene reaches
_LAMBDA_PER_QP = 118  # FFmpeg's FF_QP2LAMBDA: the unit of a packet's quality statistics
# ITU-T H.273: matrix, primaries and transfer that go by one name.
_TAGS = {"bt709": 1, "bt601": 6}
_RANGE_TAGS = {"tv": 1, "pc": 2}  # FFmpeg's AVColorRange


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SafeSizes:
    """The picture sizes that an encoder takes without harm."""

    least: int
    """rows and columns"""
    multiple: int = 1
    """of both sides, whatever the chroma"""


# Found by trial in child processes (tests/transforms/test_codec_determinism.py). x265 reads and
# writes beyond its buffers on pictures of a single 64x64 block or a narrow column of them (it
# aborts at 48x48 and varies from run to run at 64x64), so it gets two blocks each way. H.263
# codes sides in units of 4. SVT-AV1's rate control refuses pictures of less than a block of 64.
_SAFE_SIZES: dict[Codec, _SafeSizes] = {
    "h264": _SafeSizes(least=16),
    "hevc": _SafeSizes(least=96),
    "mpeg4": _SafeSizes(least=16),
    "mpeg2video": _SafeSizes(least=16),
    "mpeg1video": _SafeSizes(least=16),
    "h263p": _SafeSizes(least=16, multiple=4),
    "vp8": _SafeSizes(least=16),
    "vp9": _SafeSizes(least=16),
    "av1": _SafeSizes(least=64),
    "mjpeg": _SafeSizes(least=16),
}


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
    """mean quantiser by the encoder's own statistics or the frame's header, -1 where neither has
    one"""


def coded_size(codec: Codec, pixel_format: str, height: int, width: int) -> tuple[int, int]:
    """The smallest picture size that holds (height, width) and that the encoder takes.

    Sides along which chroma is subsampled are even: some encoders refuse odd ones, others code
    half a chroma sample.
    """
    safe = _SAFE_SIZES[codec]
    rows = max(safe.multiple, 2 if pixel_format.startswith("yuv420") else 1)
    columns = max(safe.multiple, 1 if pixel_format.startswith("yuv444") else 2)
    return _at_least(height, safe.least, rows), _at_least(width, safe.least, columns)


def _at_least(side: int, least: int, multiple: int) -> int:
    return max(-(-side // multiple) * multiple, least)


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
        draw: the settings; `lost` plays no part here.
        tell_settings: let x265 write its settings, and the CPU's name, into the stream.

    Returns:
        The packets, in coding order, one a frame.

    Raises:
        CodecError: if the encoder fails or does not take a setting.
    """
    refuse_untaken(draw)
    context = _new_encoder(ENCODERS[draw.codec].encoder, frames[0], draw.fps)
    context.color_range = _RANGE_TAGS[draw.color.read_range]
    tag = _TAGS[draw.color.read_matrix]
    context.colorspace = context.color_primaries = context.color_trc = tag
    context.gop_size = draw.gop_frames
    context.max_b_frames = draw.b_frames
    if draw.rate_mode == "bitrate":
        context.bit_rate = int(draw.rate_value)
    options = encoder_options(draw, tell_settings=tell_settings)
    packets = _run_encoder(context, draw.codec, options, frames)
    if sorted(packet.pts for packet in packets) != list(range(len(frames))):
        raise CodecError("frames_lost", f"{draw.codec}: {len(frames)} frames, {len(packets)} out")
    _check_headers(draw, packets)
    return packets


def _check_headers(draw: CodecDraw, packets: Sequence[Packet]) -> None:
    """Check a constant quantiser where the headers tell it; `transforms.settings` does the rest."""
    if draw.rate_mode != "qscale" or draw.codec not in ("vp8", "mjpeg"):
        return
    step = int(draw.rate_value)
    wanted = VP8_INDICES[step] if draw.codec == "vp8" else step
    found = sorted({packet.encoder_qp for packet in packets})
    if found != [wanted]:
        raise CodecError("setting_not_taken", f"{draw.codec}: q {wanted}, headers tell {found}")


def refuse_untaken(draw: CodecDraw) -> None:
    """Check a draw against what its encoder takes (`schemas.encoders`).

    Raises:
        CodecError: if the encoder would ignore or change settings; it names them.
    """
    traits = ENCODERS[draw.codec]
    refused = [what for what, is_taken in _taken(draw, traits).items() if not is_taken]
    optional = [name for name in _asked_optional(draw) if name not in traits.takes]
    if refused or optional:
        raise CodecError("setting_not_taken", f"{draw.codec}: {', '.join([*refused, *optional])}")


def _taken(draw: CodecDraw, traits: EncoderTraits) -> dict[str, bool]:
    value = draw.rate_value
    is_whole = value == int(value)
    rate = {
        "crf": traits.crf[0] <= value <= traits.crf[1] and (is_whole or not traits.whole_crf),
        "qscale": traits.qscale[0] <= value <= traits.qscale[1] and is_whole,
        "bitrate": value > 0 and value % traits.bitrate_step == 0,
    }
    has_cap = bool(draw.max_bitrate or draw.buffer_bits)
    return {
        f"{draw.rate_mode} {value:g}": draw.rate_mode in traits.rate_modes and rate[draw.rate_mode],
        f"preset {draw.preset!r}": draw.preset in (traits.presets or ("",)),
        f"tune {draw.tune!r}": draw.tune in ("", *traits.tunes),
        f"profile {draw.profile!r} of {draw.pixel_format}": not draw.profile
        or draw.pixel_format in traits.profiles.get(draw.profile, ()),
        f"{draw.gop_frames} frames a GOP": 1 <= draw.gop_frames <= traits.max_gop_frames,
        f"{draw.b_frames} B frames": 0 <= draw.b_frames <= traits.max_b_frames,
        f"B frames tuned for {draw.tune}": draw.b_frames == 0
        or draw.tune not in traits.tunes_without_b_frames,
        f"{draw.pixel_format}": draw.pixel_format in traits.pixel_formats,
        f"{draw.fps} frames a second": not traits.frame_rates or draw.fps in traits.frame_rates,
        "vbv": not has_cap
        or (
            draw.rate_mode in traits.vbv_rate_modes
            and min(draw.max_bitrate, draw.buffer_bits) > 0
            and not (draw.max_bitrate % traits.bitrate_step)
            and not (draw.buffer_bits % traits.bitrate_step)
        ),
    }


def _asked_optional(draw: CodecDraw) -> list[OptionalSetting]:
    asked: dict[OptionalSetting, bool] = {
        "refs": draw.refs != 0,
        "b_pyramid": not draw.b_pyramid,
        "weighted_prediction": not draw.weighted_prediction,
        "slices": draw.slices != 1,
        "scene_cut": not draw.scene_cut,
        "lost": bool(draw.lost),
    }
    return [name for name, is_asked in asked.items() if is_asked]


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
    return _run_encoder(context, LOSSLESS_CODEC, dict(_LOSSLESS_OPTIONS), rgb)


def encoder_options(draw: CodecDraw, *, tell_settings: bool = False) -> dict[str, str]:
    """The options of the drawn encoder, pins included; bitrate, GOP and B frames are apart."""
    options = {"preset": draw.preset, "tune": draw.tune, "profile": draw.profile}
    options = {name: value for name, value in options.items() if value}
    if draw.max_bitrate:
        options |= {"maxrate": str(draw.max_bitrate), "bufsize": str(draw.buffer_bits)}
    if draw.refs:
        options["refs"] = str(draw.refs)
    value = f"{draw.rate_value:g}"
    match draw.codec:
        case "h264":
            return options | _x264_options(draw, value)
        case "hevc":
            return options | _x265_options(draw, value, tell_settings=tell_settings)
        case "vp8" | "vp9":
            return _vpx_options(draw, value)
        case "av1":
            rate = {"crf": value} if draw.rate_mode == "crf" else {}
            return options | rate | {"svtav1-params": _SVT_PINS}
        case _:
            return options | _mpeg_options(draw, value)


def _x264_options(draw: CodecDraw, value: str) -> dict[str, str]:
    options = {"x264-params": _X264_PINS}
    if draw.rate_mode == "crf":
        options["crf"] = value
    if draw.rate_mode == "qscale":
        options["qp"] = f"{x264_quantiser(draw):g}"
    if not draw.scene_cut:
        options["sc_threshold"] = "0"
    if not draw.b_pyramid:
        options["b-pyramid"] = "none"
    if not draw.weighted_prediction:
        options["weightp"] = "0"
    if draw.slices > 1:
        options["slices"] = str(draw.slices)
    return options


def x264_quantiser(draw: CodecDraw) -> float:
    """A constant quantiser as x264 counts: from the finest of the depth. Rate factors are not."""
    bits = 10 if draw.pixel_format.endswith("10le") else 8
    return draw.rate_value + QP_PER_BIT * (bits - 8)


def _x265_options(draw: CodecDraw, value: str, *, tell_settings: bool) -> dict[str, str]:
    parameters = [_X265_PINS, f"info={int(tell_settings)}"]
    if draw.rate_mode == "qscale":
        parameters.append(f"qp={value}")
    if not draw.scene_cut:
        parameters.append("scenecut=0")
    if not draw.b_pyramid:
        parameters.append("b-pyramid=0")
    if not draw.weighted_prediction:
        parameters.append("weightp=0")
    rate = {"crf": value} if draw.rate_mode == "crf" else {}
    return {**rate, "x265-params": ":".join(parameters)}


def _vpx_options(draw: CodecDraw, value: str) -> dict[str, str]:
    options = {**_VPX_PINS, "cpu-used": draw.preset}
    if draw.tune:
        options["tune"] = draw.tune
    if draw.rate_mode == "crf":
        options["crf"] = value
    if draw.rate_mode == "qscale":
        options |= {"crf": value, "qmin": value, "qmax": value}
    if not draw.scene_cut:
        # No other switch: where both ends are the same there is nothing left to decide.
        options["keyint_min"] = str(draw.gop_frames)
    return options


def _mpeg_options(draw: CodecDraw, value: str) -> dict[str, str]:
    options = dict(_MPEG_PINS)
    if not draw.scene_cut:
        options["sc_threshold"] = str(_NO_SCENE_CUT)
    if draw.codec == "mjpeg" and draw.color.read_range == "tv":
        options["strict"] = "unofficial"  # JFIF has no limited range; FFmpeg's comment has
    if draw.rate_mode == "qscale":
        # A quantiser as such is ignored here (PyAV has no frame.quality); bounds are not.
        return {**options, "qmin": value, "qmax": value}
    # The tolerance is 4 Mbit by default, whatever the size: a small clip would use it up and
    # come out the same at every bitrate. It must exceed one frame's share.
    tolerance = draw.rate_value * max(0.1, 1.5 / draw.fps)
    return {**options, "bt": str(round(tolerance))}


def _new_encoder(name: str, first: av.VideoFrame, fps: int) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = first.width, first.height
    context.pix_fmt = first.format.name
    context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
    context.thread_count = 1  # before open: slices and lookahead follow the thread count
    return context


def _run_encoder(
    context: av.VideoCodecContext,
    codec: Codec,
    options: dict[str, str],
    frames: Sequence[av.VideoFrame],
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
    except MemoryError:  # FFmpeg's is also an FFmpegError
        raise
    except av.FFmpegError as error:
        raise CodecError("encoder_failed", f"{context.name}: {error}") from error
    return [_packet(packet, codec) for packet in packets]


def _packet(packet: "av.Packet[Any]", codec: Codec) -> Packet:
    if packet.pts is None:
        raise CodecError("encoder_failed", "a packet has no time stamp")
    data = bytes(packet)
    tells_qp = codec in _ENCODERS_THAT_TELL_QP
    return Packet(
        data=data,
        pts=packet.pts,
        key_frame=packet.is_keyframe,
        encoder_qp=_encoder_qp(packet) if tells_qp else header_quantiser(data, codec),
    )


def _encoder_qp(packet: "av.Packet[Any]") -> float:
    if not packet.has_sidedata("quality_stats"):
        return float(UNKNOWN)
    (quality,) = struct.unpack_from("<I", bytes(packet.get_sidedata("quality_stats")))
    return float(quality / _LAMBDA_PER_QP)


_B_FRAME_CODECS = frozenset(codec for codec, traits in ENCODERS.items() if traits.max_b_frames)
_DECODERS: dict[str, str] = {codec: traits.decoder for codec, traits in ENCODERS.items()}


def decode(
    packets: Iterable[CodedFrame | Packet],
    codec: str,
    *,
    side_data: bool = False,
    window: range | None = None,
) -> Iterable[av.VideoFrame]:
    """Decode packets to frames in presentation order, lazily.

    Args:
        packets: in coding order, starting at a key frame.
        codec: name of the coded format, as a draw has it.
        side_data: also export motion vectors and quantisers.
        window: leave out frames with another pts; B frames among them to which no other frame
            refers are not decoded.

    Raises:
        CodecError: if the decoder fails or drops the time stamps.
    """
    context = av.CodecContext.create(_DECODERS[codec], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    # What lost slices damaged is shown, as players do. The vectors are also what MPEG-2's gaps
    # are filled by, so its frames would differ from those that were decoded without.
    options = {"flags": "+output_corrupt"}
    if side_data or codec == "mpeg2video":
        options["flags2"] = "+export_mvs"
    if side_data:
        options["export_side_data"] = "+venc_params"
    context.options = options
    try:
        for packet in [*map(_padded_packet, packets), None]:
            if packet is not None and window is not None and codec in _B_FRAME_CODECS:
                context.skip_frame = "DEFAULT" if packet.pts in window else "NONREF"
            for frame in context.decode(packet):
                if frame.pts is None:
                    raise CodecError("decoder_failed", f"{codec}: a frame without time stamp")
                if window is None or frame.pts in window:
                    yield frame
    except MemoryError:
        raise
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
    if codec in _MPEG_DECODERS_SHORT_OF_DATA:
        fed.append(CodedFrame(packets[0].data, len(packets)))
    frames = [f for f in decode(fed, codec, side_data=True) if (f.pts or 0) < len(packets)]
    if [frame.pts for frame in frames] != list(range(len(packets))):
        raise CodecError(
            "frames_lost", f"{codec}: {len(packets)} packets gave {len(frames)} frames"
        )
    return frames
