"""A sample that was made again, against the one that is stored."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

import av
import cv2
import numpy as np
from pydantic import ValidationError

from pipelines.audit.fields import differing_fields
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    Member,
    Sample,
    SampleRow,
    StreamRow,
    lr_member,
)
from transforms.codec import CodecError
from transforms.decode import decode_hr, decode_lr
from transforms.degrade import MadeSample

BAD_DATA = (
    CodecError,
    ValueError,
    LookupError,
    ArithmeticError,
    MemoryError,
    OSError,
    av.FFmpegError,
    cv2.error,
)
"""What carrying out a draw, or decoding, raises where the data is not what it should be."""


class Verdict(StrEnum):
    """How alike two samples, or two members, are."""

    BYTES = "identical bytes"
    PIXELS = "identical pixels"
    DIFFERENT = "different"


class Stored(NamedTuple):
    """What is stored of a sample."""

    row: SampleRow
    """its row, with the sizes and checksums of its members"""
    streams: Sequence[StreamRow]
    """the rows of its streams, in order, with the hashes of their pixels"""
    members: Mapping[str, bytes]
    """the members that are whole; empty where only the tables are at hand"""
    damaged: Mapping[str, str]
    """what is wrong with the other members, by name"""


def all_members(made: MadeSample) -> dict[str, bytes]:
    """The members of a sample as its shard holds them, the record included."""
    return {JSON_MEMBER: made.sample.model_dump_json().encode(), **made.members}


def compare(made: MadeSample, stored: Stored) -> dict[str, Verdict]:
    """How alike the members are, by extension, in the order of the tar."""
    again = all_members(made)
    places = {member.name: member for member in stored.row.members}
    verdicts = {}
    for name in dict.fromkeys([*places, *again]):
        if name not in places or name not in again or name in stored.damaged:
            verdicts[name] = Verdict.DIFFERENT
        elif _is_same(again[name], places[name], stored.members.get(name)):
            verdicts[name] = Verdict.BYTES
        elif _has_same_pixels(name, made, stored):
            verdicts[name] = Verdict.PIXELS
        else:
            verdicts[name] = Verdict.DIFFERENT
    return verdicts


def verdict_of(members: Mapping[str, Verdict]) -> Verdict:
    """Of a whole sample: pixels are those of HR and of every stream."""
    if set(members.values()) == {Verdict.BYTES}:
        return Verdict.BYTES
    pictures = {v for name, v in members.items() if name.endswith((".zip", ".nut"))}
    return Verdict.DIFFERENT if Verdict.DIFFERENT in pictures else Verdict.PIXELS


def record_differences(made: Sample, stored: bytes) -> list[str]:
    """Names of the record's fields that differ, such as streams.0.frames.3.qp_mean."""
    try:
        there = Sample.model_validate_json(stored)
    except ValidationError:
        return ["all: the stored record is not readable"]
    both = made.model_dump(mode="json"), there.model_dump(mode="json")
    return [difference.name for difference in differing_fields(*both)]


def pixels_sha256(frames: np.ndarray) -> str:
    """What `decoded_sha256` is, of (T, h, w, 3) uint8 frames."""
    return hashlib.sha256(frames.tobytes()).hexdigest()


def _is_same(data: bytes, member: Member, stored: bytes | None) -> bool:
    if stored is not None:
        return data == stored
    return (len(data), crc32(data)) == (member.size, member.crc32)


def _has_same_pixels(name: str, made: MadeSample, stored: Stored) -> bool:
    if name == JSON_MEMBER:
        return False
    try:
        there = _pixels_sha256(name, stored)
        # The table has the streams' hashes, and none of HR.
        return bool(there) and there == _decoded_sha256(name, made.sample, made.members[name])
    except BAD_DATA:
        return False  # what is stored does not decode


def _pixels_sha256(name: str, stored: Stored) -> str:
    if name in stored.members and JSON_MEMBER in stored.members:
        sample = Sample.model_validate_json(stored.members[JSON_MEMBER])
        return _decoded_sha256(name, sample, stored.members[name])
    recorded = {lr_member(stream.stream): stream.decoded_sha256 for stream in stored.streams}
    return recorded.get(name, "")


def _decoded_sha256(name: str, sample: Sample, member: bytes) -> str:
    """Of the pixels of a member; empty where it holds none."""
    if name == HR_MEMBER:
        return pixels_sha256(decode_hr(sample, member))
    streams = (stream for stream in sample.streams if lr_member(stream.stream) == name)
    stream = next(streams, None)
    return "" if stream is None else pixels_sha256(decode_lr(stream, member))
