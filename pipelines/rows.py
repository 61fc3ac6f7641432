"""The tables' rows of a sample, derived from its record: one derivation for writer and verifier."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.plan import PlannedSample
from schemas.sample import (
    FrameRow,
    Member,
    Sample,
    SampleRow,
    StreamFields,
    StreamRow,
    lr_member,
)


class SampleRows(NamedTuple):
    """What the tables of a shard hold of one sample."""

    sample: SampleRow
    streams: list[StreamRow]
    frames: list[FrameRow]
    """of all streams, in order"""


def rows_of(
    sample: Sample, planned: PlannedSample, index: int, members: Sequence[Member]
) -> SampleRows:
    """The rows of a sample that was made.

    Args:
        sample: its record.
        planned: its row of the plan.
        index: its 0-based position among the shard's samples.
        members: where its members lie in the tar.

    Raises:
        KeyError: if a stream has no member.
    """
    offsets = {member.name: member.offset for member in members}
    row = SampleRow(
        **sample.model_dump(include=set(SampleRow.model_fields) - {"members"}),
        shard=planned.shard,
        index_in_shard=index,
        source_ids=source_ids(planned),
        members=list(members),
    )
    streams = [
        StreamRow(**stream.model_dump(include=set(StreamFields.model_fields)), key=sample.key)
        for stream in sample.streams
    ]
    frames = [
        FrameRow(
            **frame.model_dump(),
            key=sample.key,
            stream=stream.stream,
            shard=planned.shard,
            tar_offset=offsets[lr_member(stream.stream)] + frame.packet_position,
        )
        for stream in sample.streams
        for frame in stream.frames
    ]
    return SampleRows(row, streams, frames)


def source_ids(planned: PlannedSample) -> list[str]:
    """The sources of a sample, each once, in the order of first use."""
    return list(dict.fromkeys(span.source_id for span in planned.spans))
