"""Coding a clip: encode it, or store it losslessly, and read everything back from the bitstream."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import av
import numpy as np

from schemas.draw import (
    CodecDraw,
    DenoiseDraw,
    PostStep,
    RetimeDraw,
    StageDraw,
    StreamDraw,
)
from schemas.encoders import ENCODERS
from schemas.record import UNKNOWN
from schemas.sample import Frame, Generation, LrKind, Stream
from transforms.bitstream import frame_records, mux_nut, packet_positions
from transforms.codec import (
    LOSSLESS_CODEC,
    LOSSLESS_ENCODER,
    CodecError,
    Packet,
    decode_with_side_data,
    encode,
    encode_lossless,
)
from transforms.color import rgb_to_yuv, yuv_to_rgb
from transforms.decode import apply_post_steps
from transforms.motion import extract_blocks
from transforms.packet_loss import lose_slices
from transforms.settings import stream_settings

_LOSSLESS_FPS = 25  # a container's tick, no more
_MATRIX_NAMES = {0: "rgb", 1: "bt709", 5: "bt601", 6: "bt601"}  # ITU-T H.273
_RANGE_NAMES = {1: "tv", 2: "pc"}  # FFmpeg's AVColorRange


class MadeStream(NamedTuple):
    """A stream ready to be stored."""

    stream: Stream
    nut: bytes
    """the `lr<k>.nut` member"""
    blocks: np.ndarray
    """motion vectors, (N,) of MOTION_DTYPE"""
    decoded: np.ndarray
    """(T, h, w, 3) uint8 RGB, as the reference decoder returns them"""


class _Coded(NamedTuple):
    packets: list[Packet]
    """as they arrive"""
    frames: list[av.VideoFrame]
    """decoded with side data, in presentation order"""
    fields: dict[str, Any]
    """of `CodingFields`"""


def split_at_last_codec(
    stages: Sequence[StageDraw],
) -> tuple[Sequence[StageDraw], CodecDraw | None, list[PostStep]]:
    """Stages before the codec whose bitstream is stored, that codec, and the steps after it.

    Raises:
        ValueError: if a step after the codec mixes frames, which the reference decoder cannot.
    """
    last = max((i for i, s in enumerate(stages) if isinstance(s, CodecDraw)), default=None)
    if last is None:
        return stages, None, []
    codec, after = stages[last], list[PostStep]()
    assert isinstance(codec, CodecDraw)
    for stage in stages[last + 1 :]:
        if isinstance(stage, CodecDraw | DenoiseDraw | RetimeDraw):
            raise ValueError(f"{stage.op} comes after the last codec")
        after.append(stage)
    return stages[:last], codec, after


def make_stream(
    lr: np.ndarray,
    draw: StreamDraw,
    index: int,
    name: str,
    *,
    earlier: Sequence[Generation] = (),
    shared: Sequence[StageDraw] = (),
) -> MadeStream:
    """Make one stream.

    Args:
        lr: (T, h, w, 3) uint8 RGB, what goes into the codec.
        draw: of its stages the last codec and what comes after it count; without a codec the frames
            are stored losslessly.
        index: number of the stream.
        name: the recipe's name for it.
        earlier: the codecs that the frames went through before.
        shared: the stages before the draw's own.

    Raises:
        CodecError: if the encoder fails, does not take a setting or loses frames.
    """
    _, codec, post_steps = split_at_last_codec(draw.stages)
    coded = _store(lr) if codec is None else _compress(lr, codec)
    coding = coded.fields
    nut = mux_nut(
        coded.packets,
        coding["codec"],
        int(coding["fps"]),
        coding["coded_height"],
        coding["coded_width"],
    )
    positions = packet_positions(nut, coded.packets, int(coding["fps"]))
    records = _records(coded, positions, codec)
    blocks = extract_blocks(
        coded.frames, records, coding["codec"], anchors_only=refers_to_anchors_only(codec)
    )
    damaged = [record.display_index for record in records if record.damaged]
    blocks = blocks[~np.isin(blocks["frame"], damaged)]  # the decoder makes some up for gaps
    rgb = yuv_to_rgb(coded.frames) if codec is None else yuv_to_rgb(coded.frames, codec.color)
    decoded = apply_post_steps(rgb, post_steps)
    if codec is None and not np.array_equal(decoded, lr):
        raise CodecError("not_lossless", "the stored frames differ from the LR frames")
    stream = Stream(
        **coding,
        stream=index,
        name=name,
        lr_kind=LrKind.LOSSLESS if codec is None else LrKind.CODEC,
        earlier=list(earlier),
        qp_from=qp_from(records[0]),
        motion_blocks=len(blocks),
        decoded_sha256=hashlib.sha256(decoded.tobytes()).hexdigest(),
        read_matrix="" if codec is None else codec.color.read_matrix,
        read_range="" if codec is None else codec.color.read_range,
        read_location="" if codec is None else codec.color.read_location,
        read_scaler="" if codec is None else codec.color.scaler,
        draw=draw.model_dump_json(),
        draw_id=draw.draw_id(shared),
        post_steps=post_steps,
        frames=records,
    )
    return MadeStream(stream, nut, blocks, decoded)


def transcode(frames: np.ndarray, draw: CodecDraw) -> tuple[np.ndarray, Generation]:
    """One generation whose bitstream is not kept.

    Args:
        frames: (T, h, w, 3) uint8 RGB of the size that the draw says.
        draw: the settings.

    Returns:
        The decoded frames, like `frames`, and what the bitstream said.

    Raises:
        CodecError: if the encoder fails, does not take a setting or loses frames.
    """
    coded = _compress(frames, draw)
    records = _records(coded, [0] * len(coded.packets), draw)
    qps = [record.qp_mean for record in records if not record.damaged]
    generation = Generation(
        **coded.fields,
        frame_types="".join(record.frame_type for record in records),
        qp_mean=float(np.mean(qps)) if min(qps) >= 0 else float(UNKNOWN),
    )
    return yuv_to_rgb(coded.frames, draw.color), generation


def _records(coded: _Coded, positions: Sequence[int], draw: CodecDraw | None) -> list[Frame]:
    damaged = {lost.packet for lost in draw.lost} if draw else set()
    return frame_records(coded.packets, positions, coded.frames, damaged)


def refers_to_anchors_only(draw: CodecDraw | None) -> bool:
    """Whether every block refers to the nearest I or P frame, so that there is no choice."""
    if draw is None or draw.codec != "h264":
        return True  # the lossless setting has one reference, the MPEG codecs know no more
    return draw.refs == 1 and not draw.b_pyramid and not draw.weighted_prediction


def _store(lr: np.ndarray) -> _Coded:
    packets = encode_lossless(lr, _LOSSLESS_FPS)
    frames = decode_with_side_data(packets, LOSSLESS_CODEC)
    names = {"codec": LOSSLESS_CODEC, "encoder": LOSSLESS_ENCODER, "fps": _LOSSLESS_FPS}
    return _Coded(packets, frames, {**names, **_coding_fields(None, packets, frames)})


def _compress(frames: np.ndarray, draw: CodecDraw) -> _Coded:
    packets = encode(rgb_to_yuv(frames, draw.pixel_format, draw.color), draw)
    packets = lose_slices(packets, draw.codec, draw.lost)
    decoded = decode_with_side_data(packets, draw.codec)
    encoder = ENCODERS[draw.codec].encoder
    names = {"codec": draw.codec, "encoder": encoder, "fps": draw.fps}
    return _Coded(packets, decoded, {**names, **_coding_fields(draw, packets, decoded)})


def _coding_fields(
    draw: CodecDraw | None, packets: Sequence[Packet], frames: Sequence[av.VideoFrame]
) -> dict[str, Any]:
    settings = stream_settings(draw, frames)
    first = frames[0]
    matrix, color_range = color_tags(first)
    return {
        "encoder_build": settings.encoder_build,
        "settings_from": settings.settings_from,
        "rate_mode": settings.rate_mode,
        "rate_value": settings.rate_value,
        "preset": "" if draw is None else draw.preset,
        "gop_frames": settings.gop_frames,
        "b_frames": settings.b_frames,
        "pixel_format": first.format.name,
        "color_matrix": matrix,
        "color_range": color_range,
        "coded_height": first.height,
        "coded_width": first.width,
        "stream_bytes": sum(len(packet.data) for packet in packets),
        "lost_slices": 0 if draw is None else len(draw.lost),
    }


def color_tags(frame: av.VideoFrame) -> tuple[str, str]:
    """(matrix, range) that the bitstream of a decoded frame is tagged with."""
    matrix = _MATRIX_NAMES.get(frame.colorspace, "unspecified")
    return matrix, _RANGE_NAMES.get(frame.color_range, "unspecified")


def qp_from(first: Frame) -> Literal["decoder", "encoder", "none"]:
    """Who told the quantisers of a stream, by the record of its first frame."""
    if first.qp_max >= 0:
        return "decoder"
    return "encoder" if first.qp_mean >= 0 else "none"
