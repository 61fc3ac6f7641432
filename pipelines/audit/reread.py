"""A stored stream read again, as it was read when it was made.

No encoder takes part, so the outcome is the same whatever encoder is installed.
"""

from collections.abc import Iterator

import numpy as np

from pipelines.audit.fields import differing_fields
from schemas.draw import CodecDraw
from schemas.record import UNKNOWN
from schemas.sample import Frame, Stream
from transforms.bitstream import frame_records
from transforms.codec import Packet, decode_with_side_data
from transforms.motion import extract_blocks, write_blocks
from transforms.streams import refers_to_anchors_only


def read_again(stream: Stream, codec: CodecDraw | None, nut: bytes) -> tuple[list[Frame], bytes]:
    """The records of a stream's frames and its `mv<k>.npy` member, of its packets.

    What encoders alone told (key frames, quantisers of some codecs) is taken from the record.

    Args:
        stream: its record.
        codec: as the codec was drawn; None where the stream is stored losslessly.
        nut: its `lr<k>.nut` member.

    Raises:
        CodecError: if the packets do not decode.
    """
    stored = sorted(stream.frames, key=lambda frame: frame.coding_index)
    packets = [_packet(frame, stream.qp_from, nut) for frame in stored]
    frames = decode_with_side_data(packets, stream.codec)
    damaged = {lost.packet for lost in codec.lost} if codec else set()
    records = frame_records(packets, [frame.packet_position for frame in stored], frames, damaged)
    blocks = extract_blocks(
        frames, records, stream.codec, anchors_only=refers_to_anchors_only(codec)
    )
    gaps = [record.display_index for record in records if record.damaged]
    return records, write_blocks(blocks[~np.isin(blocks["frame"], gaps)])


def _packet(frame: Frame, qp_from: str, nut: bytes) -> Packet:
    return Packet(
        data=nut[frame.packet_position : frame.packet_position + frame.packet_bytes],
        pts=frame.display_index,
        key_frame=frame.key_frame,
        encoder_qp=frame.qp_mean if qp_from == "encoder" else UNKNOWN,
    )


def record_differences(stored: list[Frame], found: list[Frame]) -> Iterator[str]:
    """What differs between frames' records, such as 3.frame_type: I / P."""
    both = ([frame.model_dump(mode="json") for frame in frames] for frames in (stored, found))
    yield from map(str, differing_fields(*both))
