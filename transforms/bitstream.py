"""What a bitstream says about itself: container, frame types, quantisers."""

import io
from collections.abc import Container, Sequence
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from schemas.record import UNKNOWN
from schemas.sample import Frame, FrameType
from transforms.codec import QP_PER_BIT, CodecError, Packet, side_data_of

MACROBLOCK = 16
"""Side of the blocks of a quantiser map, pixels of the coded picture."""


# The file's times are those of the records: the muxer would move negative ones to 0.
_MUX_OPTIONS = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}


def mux_nut(packets: Sequence[Packet], codec: str, fps: int, height: int, width: int) -> bytes:
    """Put packets into a NUT file, which keeps the bytes of each as they are."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut", options=_MUX_OPTIONS) as container:
        stream = container.add_mux_stream(codec, rate=fps, width=width, height=height)
        for packet, dts in zip(packets, decoding_times(packets), strict=True):
            muxed = av.Packet(packet.data)
            muxed.pts, muxed.dts = packet.pts, dts
            muxed.is_keyframe = packet.key_frame
            muxed.time_base = Fraction(1, fps)
            muxed.stream = stream
            container.mux(muxed)
    return buffer.getvalue()


def decoding_times(packets: Sequence[Packet]) -> list[int]:
    """When each packet is decoded, in frames: in coding order, as late as every pts allows.

    Encoders' own values are of no use: libx265 leaves them uninitialised on clips of a frame or
    two.
    """
    delay = max(index - packet.pts for index, packet in enumerate(packets))
    return [index - delay for index in range(len(packets))]


def packet_positions(nut: bytes, packets: Sequence[Packet], fps: int) -> list[int]:
    """Where the bytes of each packet lie in the file, as its demuxer finds them.

    Raises:
        CodecError: if the file does not hold exactly these packets at these times.
    """
    positions: list[int] = []
    with av.open(io.BytesIO(nut), "r", format="nut") as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
        for packet, expected in zip(found, packets, strict=True):
            position = nut.find(expected.data, packet.pos)
            if bytes(packet) != expected.data or position < 0:
                raise CodecError("container_changed_bytes", f"packet {len(positions)}")
            # The file's clock has 90 000 ticks a second, which not every frame rate divides.
            if packet.pts is None or round(packet.pts * packet.time_base * fps) != expected.pts:
                raise CodecError("container_changed_times", f"packet {len(positions)}")
            positions.append(position)
    return positions


def frame_records(
    packets: Sequence[Packet],
    positions: Sequence[int],
    frames: Sequence[av.VideoFrame],
    damaged: Container[int] = (),
) -> list[Frame]:
    """Join packets (coding order) and decoded frames (presentation order) on their time.

    Returns:
        One record a frame, in presentation order.
    """
    times = decoding_times(packets)
    coding_index = {packet.pts: index for index, packet in enumerate(packets)}
    in_order = [coding_index[display_index] for display_index in range(len(frames))]
    return [
        _frame_record(
            index, times[index], packets[index], positions[index], frame, damaged=index in damaged
        )
        for index, frame in zip(in_order, frames, strict=True)
    ]


def _frame_record(
    coding_index: int,
    dts: int,
    packet: Packet,
    position: int,
    frame: av.VideoFrame,
    *,
    damaged: bool,
) -> Frame:
    unknown = float(UNKNOWN)
    # Where slices are missing, a decoder exports zeros or quantisers of frames before.
    qp = None if damaged else quantiser_map(frame)
    frame_qp = frame_quantiser(frame)
    told_qp = unknown if damaged else packet.encoder_qp
    qp_mean = told_qp if frame_qp is None else frame_qp
    return Frame(
        display_index=packet.pts,
        coding_index=coding_index,
        frame_type=FrameType(PictureType(frame.pict_type).name),
        key_frame=packet.key_frame,
        damaged=damaged,
        qp_mean=qp_mean if qp is None else float(qp.mean()),
        qp_min=unknown if qp is None else float(qp.min()),
        qp_max=unknown if qp is None else float(qp.max()),
        packet_position=position,
        packet_bytes=len(packet.data),
        pts=packet.pts,
        dts=dts,
    )


def frame_quantiser(frame: av.VideoFrame) -> float | None:
    """The quantiser of a whole frame, where the decoder tells of no blocks.

    Args:
        frame: decoded with side data.

    Returns:
        The quantiser index (0-255) of VP9; None for other codecs.
    """
    side_data = side_data_of(frame, Type.VIDEO_ENC_PARAMS)
    if side_data is None or side_data.nb_blocks or side_data.codec_type.name != "VP9":
        return None
    return float(side_data.qp)


def quantiser_map(frame: av.VideoFrame) -> np.ndarray | None:
    """The quantiser of every macroblock, as the decoder read it.

    Args:
        frame: decoded with side data.

    Returns:
        (ceil(h/16), ceil(w/16)) float32 in the codec's own scale (QP up to 51 of H.264, quantiser
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
    if side_data.codec_type.name == "H264":
        # The decoder counts from the finest quantiser of the depth.
        qp -= QP_PER_BIT * (frame.format.components[0].bits - 8)
    return qp.reshape(-(-frame.height // MACROBLOCK), -(-frame.width // MACROBLOCK))
