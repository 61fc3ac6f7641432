from typing import Any

import pytest
from av.video.frame import PictureType

from schemas.sample import FrameType
from transforms.source_video import SourceFrame, demuxer_of, source_coding


class _Picture:
    """What a decoded frame says of its coding."""

    def __init__(self, pict_type: PictureType, *, key_frame: bool = False) -> None:
        self.pict_type, self.key_frame = int(pict_type), key_frame


def coded(*frames: tuple[int, str, bool]) -> list[SourceFrame]:
    pictures: list[Any] = [_Picture(PictureType[t], key_frame=key) for _, t, key in frames]
    return [SourceFrame(p, index) for p, (index, _, _) in zip(pictures, frames, strict=True)]


def test_frame_types_are_those_of_the_decoder() -> None:
    frames = coded(
        *((index, name, False) for index, name in enumerate(["I", "P", "B", "SP", "SI", "S", "BI"]))
    )
    types = [coding.frame_type for coding in source_coding(frames)]
    assert types == [*FrameType, FrameType.P, FrameType.I, FrameType.P, FrameType.I]
    (unknown,) = source_coding(coded((0, "NONE", False)))
    assert unknown.frame_type is None
    assert unknown.code == -1


def test_a_key_frame_counts_where_nothing_refers_across_it() -> None:
    closed = coded((0, "I", True), (2, "B", False), (1, "P", False), (3, "I", True))
    assert [coding.key_frame for coding in source_coding(closed)] == [True, False, False, True]
    opened = coded((0, "I", True), (1, "P", False), (3, "B", False), (2, "I", True))
    assert [coding.key_frame for coding in source_coding(opened)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("head", "demuxer"),
    [
        (b"\0\0\0\x20ftypisom", "mov"),
        (b"\0\0\0\x20ftypavif", None),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"\0\0\0\1\x67", ""),
        (b"#EXTM3U", None),
    ],
)
def test_videos_are_told_by_their_first_bytes(head: bytes, demuxer: str | None) -> None:
    assert demuxer_of(head) == demuxer
