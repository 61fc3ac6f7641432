"""One LR stream: encode or store the LR frames, then read everything back from the bitstream."""

import hashlib
from typing import Literal, NamedTuple

import numpy as np

from schemas.draw import CodecDraw, StreamDraw
from schemas.sample import Frame, LrKind, PostStep, Stream
from transforms.bitstream import (
    frame_records,
    mux_nut,
    packet_positions,
)
from transforms.codec import (
    ENCODERS,
    LOSSLESS_CODEC,
    LOSSLESS_ENCODER,
    MPEG_CODECS,
    CodecError,
    Packet,
    coded_size,
    decode_with_side_data,
    encode,
    encode_lossless,
    pad_to,
)
from transforms.color import rgb_to_yuv, yuv_to_rgb
from transforms.decode import apply_post_steps
from transforms.motion import extract_blocks
from transforms.resize import resize_uint8
from transforms.settings import stream_settings

_LOSSLESS_FPS = 25  # a container's tick, no more
_MATRIX_NAMES = {0: "rgb", 1: "bt709"}  # ITU-T H.273 matrix coefficients
_RANGE_NAMES = {1: "tv", 2: "pc"}  # FFmpeg's AVColorRange


class MadeStream(NamedTuple):
    """A stream ready to be stored."""

    stream: Stream
    nut: bytes
    """the `lr<k>.nut` member"""
    blocks: np.ndarray
    """motion vectors, (N,) of MOTION_DTYPE"""


class _Coded(NamedTuple):
    codec: str
    encoder: str
    fps: int
    packets: list[Packet]
    anchors_only: bool
    """every block refers to the nearest I or P frame"""
    post_steps: list[PostStep]


def make_stream(lr: np.ndarray, draw: StreamDraw, index: int, name: str) -> MadeStream:
    """Make one stream.

    Args:
        lr: (T, h, w, 3) uint8 RGB, what goes into the codec.
        draw: its last stage is the codec; without one the frames are stored losslessly.
        index: number of the stream.
        name: the recipe's name for it.

    Raises:
        CodecError: if the encoder fails, does not take a setting or loses frames.
    """
    codec_draw = _codec_of(draw)
    coded = _store(lr) if codec_draw is None else _compress(lr, codec_draw)
    frames = decode_with_side_data(coded.packets, coded.codec)
    height, width = frames[0].height, frames[0].width
    nut = mux_nut(coded.packets, coded.codec, coded.fps, height, width)
    positions = packet_positions(nut, coded.packets, coded.fps)
    records = frame_records(coded.packets, positions, frames)
    blocks = extract_blocks(frames, records, coded.codec, anchors_only=coded.anchors_only)
    decoded = apply_post_steps(yuv_to_rgb(frames), coded.post_steps)
    if codec_draw is None and not np.array_equal(decoded, lr):
        raise CodecError("not_lossless", "the stored frames differ from the LR frames")
    settings = stream_settings(codec_draw, frames)
    stream = Stream(
        stream=index,
        name=name,
        lr_kind=LrKind.LOSSLESS if codec_draw is None else LrKind.CODEC,
        codec=coded.codec,
        encoder=coded.encoder,
        encoder_build=settings.encoder_build,
        settings_from=settings.settings_from,
        rate_mode=settings.rate_mode,
        rate_value=settings.rate_value,
        preset="" if codec_draw is None else codec_draw.preset,
        gop_frames=settings.gop_frames,
        b_frames=settings.b_frames,
        pixel_format=frames[0].format.name,
        color_matrix=_MATRIX_NAMES.get(frames[0].colorspace, "unspecified"),
        color_range=_RANGE_NAMES.get(frames[0].color_range, "unspecified"),
        fps=coded.fps,
        coded_height=height,
        coded_width=width,
        stream_bytes=sum(len(packet.data) for packet in coded.packets),
        qp_from=_qp_from(records[0]),
        motion_blocks=len(blocks),
        decoded_sha256=hashlib.sha256(decoded.tobytes()).hexdigest(),
        post_steps=coded.post_steps,
        draw=draw.model_dump_json(),
        frames=records,
    )
    return MadeStream(stream, nut, blocks)


def _codec_of(draw: StreamDraw) -> CodecDraw | None:
    last = draw.stages[-1] if draw.stages else None
    return last if isinstance(last, CodecDraw) else None


def _store(lr: np.ndarray) -> _Coded:
    packets = encode_lossless(lr, _LOSSLESS_FPS)
    return _Coded(LOSSLESS_CODEC, LOSSLESS_ENCODER, _LOSSLESS_FPS, packets, True, [])


def _compress(lr: np.ndarray, draw: CodecDraw) -> _Coded:
    _, lr_height, lr_width, _ = lr.shape
    if (draw.height, draw.width) != (lr_height, lr_width):
        lr = np.stack([resize_uint8(frame, draw.height, draw.width) for frame in lr])
    size = coded_size(draw.codec, draw.height, draw.width)
    packets = encode(rgb_to_yuv(pad_to(lr, *size), draw.pixel_format), draw)
    return _Coded(
        draw.codec,
        ENCODERS[draw.codec],
        draw.fps,
        packets,
        draw.codec in MPEG_CODECS,
        _post_steps(size, (draw.height, draw.width), (lr_height, lr_width)),
    )


def _post_steps(
    coded: tuple[int, int], encoded: tuple[int, int], lr: tuple[int, int]
) -> list[PostStep]:
    steps = []
    if encoded != coded:
        steps.append(PostStep(op="crop", height=encoded[0], width=encoded[1]))
    if lr != encoded:
        steps.append(PostStep(op="resize", height=lr[0], width=lr[1]))
    return steps


def _qp_from(first: Frame) -> Literal["decoder", "encoder", "none"]:
    if first.qp_max >= 0:
        return "decoder"
    return "encoder" if first.qp_mean >= 0 else "none"
