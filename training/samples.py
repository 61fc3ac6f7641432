"""Random access: one window of one sample, by the byte ranges of the dataset's index."""

import json
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import numpy as np
from pydantic import ValidationError

from schemas.manifest import DatasetError
from schemas.record import check_schema_version
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    Frame,
    Member,
    Sample,
    SampleKind,
    Stream,
    lr_member,
    mv_member,
)
from schemas.shard import MemberParts, ShardError, read_member
from training.aligned import AlignedWindow, CodedFrames, strength
from training.batch import Window
from training.draw import Cut, WindowDraw
from training.index import Entry
from training.shards import Shards
from transforms.codec import CodecError
from transforms.decode import decode_hr, decode_lr
from transforms.motion import Flow, dense_flow, read_blocks

_DAMAGE = (ShardError, ValidationError, CodecError, OSError)
"""What reading raises of bytes that are not those that were written, or cannot be read."""


_Read = TypeVar("_Read")


def whole_cut(entry: Entry, stream: int, most_frames: int | None = None) -> Cut:
    """A stream's whole pictures, from the first; all of them, or so many at most."""
    return Cut(
        stream=stream,
        start=0,
        count=min(entry.num_frames, most_frames or entry.num_frames),
        top=0,
        left=0,
        height=entry.lr_height,
        width=entry.lr_width,
    )


def read_window(shards: Shards, entry: Entry, cut: Cut) -> Window:
    """Read and decode a part of a sample.

    Args:
        shards: of the dataset.
        entry: the sample.
        cut: the part; inside the sample.

    Raises:
        DatasetError: if the shard is missing or not what the index says, or does not decode.
        SchemaVersionError: if an incompatible release wrote the sample.
        StoreError: if the shard lies in a store, which refuses or does not come back.
    """
    return _read_sample(shards, entry, lambda file, sample: _read_window(file, entry, sample, cut))


def read_aligned(shards: Shards, entry: Entry, cut: Cut) -> AlignedWindow:
    """Read and decode the same part of every LR stream of a sample, and nothing of HR.

    Args:
        shards: of the dataset.
        entry: the sample.
        cut: the part; inside the sample. Its stream plays no part.

    Raises:
        DatasetError, SchemaVersionError, StoreError: as `read_window`.
    """
    return _read_sample(shards, entry, lambda file, sample: _read_aligned(file, entry, sample, cut))


def _read_sample(shards: Shards, entry: Entry, read: Callable[[BinaryIO, Sample], _Read]) -> _Read:
    """What `read` takes of a sample's shard, which is mended once where that fails."""
    was_mended = False
    while True:
        try:
            with shards.open(entry.shard) as file:
                return read(file, _checked_sample(file, entry))
        except _DAMAGE as error:
            if was_mended or not shards.mend(entry.shard):
                path = f"{shards.dataset}/data/{entry.shard}.tar"
                cure = "the file is damaged, copy the dataset again"
                raise DatasetError(f"{path}, sample {entry.key}: {error}: {cure}") from error
            was_mended = True


def _checked_sample(file: BinaryIO, entry: Entry) -> Sample:
    sample = _parse_sample(read_member(file, _member(entry, JSON_MEMBER)))
    if (sample.key, sample.num_frames) != (entry.key, entry.num_frames):
        raise ShardError(f"sample {sample.key} of {sample.num_frames} frames is there")
    return sample


def _read_window(file: BinaryIO, entry: Entry, sample: Sample, cut: Cut) -> Window:
    stream = sample.streams[cut.stream]
    frames = stream.frames[cut.start : cut.start + cut.count]
    return Window(
        key=sample.key,
        draw=WindowDraw(key=sample.key, shard=entry.shard, cut=cut),
        stream_name=stream.name,
        kind=sample.kind,
        lr=_read_lr(file, entry, stream, cut),
        hr=_read_hr(file, entry, sample, cut),
        flow=_read_flow(file, entry, stream, cut),
        frame_type=_type_codes(frames),
        qp=_mean_qp(frames),
        crf=stream.crf,
    )


def _read_aligned(file: BinaryIO, entry: Entry, sample: Sample, cut: Cut) -> AlignedWindow:
    frames = slice(cut.start, cut.start + cut.count)
    return AlignedWindow(
        key=sample.key,
        kind=sample.kind,
        streams=[
            CodedFrames(
                name=stream.name,
                lr=_read_lr(file, entry, stream, cut),
                frame_type=_type_codes(stream.frames[frames]),
                strength=strength(stream),
            )
            for stream in sample.streams
        ],
    )


def _read_lr(file: BinaryIO, entry: Entry, stream: Stream, cut: Cut) -> np.ndarray:
    data = read_member(file, _member(entry, lr_member(stream.stream)))
    return decode_lr(stream, data, cut.start, cut.count, cut.top, cut.left, cut.height, cut.width)


def _type_codes(frames: list[Frame]) -> np.ndarray:
    return np.array([frame.frame_type.code for frame in frames], np.int64)


def _member(entry: Entry, name: str) -> Member:
    if name not in entry.members:
        raise ShardError(f"the index has no member {name}")
    return entry.members[name]


def _parse_sample(data: bytes) -> Sample:
    try:
        sample = Sample.model_validate_json(data)
    except ValidationError:
        # Fields of another version fail for a reason that misleads.
        fields = json.loads(data)
        check_schema_version(fields["schema_version"], f"sample {fields['key']}")
        raise
    check_schema_version(sample.schema_version, f"sample {sample.key}")
    return sample


def _read_hr(file: BinaryIO, entry: Entry, sample: Sample, cut: Cut) -> np.ndarray:
    scale = sample.scale
    return decode_hr(
        sample,
        MemberParts(file, _member(entry, HR_MEMBER)),  # large: most of it is left where it is
        start=cut.start,
        count=cut.count,
        top=scale * cut.top,
        left=scale * cut.left,
        height=scale * cut.height,
        width=scale * cut.width,
    )


def _read_flow(file: BinaryIO, entry: Entry, stream: Stream, cut: Cut) -> Flow:
    if entry.kind is SampleKind.PSEUDO_VIDEO:
        # The codec found matches between unrelated pictures; they are no motion.
        vectors = np.zeros((cut.count, cut.height, cut.width, 2), np.float32)
        return Flow(previous=vectors, next=vectors, valid=np.zeros(vectors.shape[:3], np.uint8))
    blocks = read_blocks(read_member(file, _member(entry, mv_member(cut.stream))))
    return dense_flow(
        blocks,
        stream,
        entry.lr_height,
        entry.lr_width,
        cut.start,
        cut.count,
        rows=slice(cut.top, cut.top + cut.height),
        columns=slice(cut.left, cut.left + cut.width),
    )


def _mean_qp(frames: list[Frame]) -> np.ndarray:
    return np.array([frame.qp_mean for frame in frames], np.float32)
