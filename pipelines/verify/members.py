"""The members beside the streams: HR tiles and motion vectors, against the record."""

import io
import zipfile
from collections.abc import Iterator

import numpy as np

from pipelines.verify.problem import Problem
from schemas.sample import HR_MEMBER, FrameType, Sample, Stream, mv_member
from transforms.motion import read_blocks

_LOCAL_HEADER_BYTES = 30  # before the file name, in front of each stored file


def hr_problems(sample: Sample, tile: int, member: bytes) -> Iterator[Problem]:
    """Tiles must cover the patch of every frame once, at the places of the ZIP's directory.

    Args:
        sample: its record.
        tile: side of a tile, pixels; those at the right and at the bottom are smaller.
        member: the `hr.zip` member.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(member)) as archive:
            damaged = archive.testzip()
            stored = {
                info.header_offset + _LOCAL_HEADER_BYTES + len(info.filename): info.file_size
                for info in archive.infolist()
                if info.compress_type == zipfile.ZIP_STORED
            }
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        yield Problem("hr_zip", HR_MEMBER, f"no whole ZIP file: {error}")
        return
    if damaged is not None:
        yield Problem("hr_zip", HR_MEMBER, f"{damaged} does not match its checksum")
    if [(tile.offset, tile.size) for tile in sample.hr_tiles] != list(stored.items()):
        yield Problem("hr_tiles", HR_MEMBER, "the tiles are not where the ZIP's directory says")
    if told := _grid_problem(sample, tile):
        yield Problem("hr_tiles", HR_MEMBER, told)


def _grid_problem(sample: Sample, tile: int) -> str:
    """What is wrong with the places of the tiles; empty if they cover every frame once."""
    rows, columns = -(-sample.hr_height // tile), -(-sample.hr_width // tile)
    if len(sample.hr_tiles) != sample.num_frames * rows * columns:
        return f"{len(sample.hr_tiles)} tiles, and should be {rows} times {columns} a frame"
    for index, found in enumerate(sample.hr_tiles):
        frame, cell = divmod(index, rows * columns)
        top, left = (tile * number for number in divmod(cell, columns))
        height, width = min(tile, sample.hr_height - top), min(tile, sample.hr_width - left)
        place = (found.frame, found.top, found.left, found.height, found.width)
        if place != (frame, top, left, height, width):
            return f"tile {index} is not that of frame {frame} at {top}, {left}"
    return ""


def motion_problems(stream: Stream, member: bytes) -> Iterator[Problem]:
    """Motion vectors of frames that can have them, to frames that are there."""
    name = mv_member(stream.stream)
    try:
        blocks = read_blocks(member)
    except (ValueError, EOFError, OSError) as error:
        yield Problem("motion", name, f"no motion vectors: {error}")
        return
    if len(blocks) != stream.motion_blocks:
        told = f"{len(blocks)} rows, the record says {stream.motion_blocks}"
        yield Problem("motion_blocks", name, told)
    frames = blocks["frame"].astype(int)
    references = frames + blocks["ref_distance"]
    num_frames = len(stream.frames)
    if (frames >= num_frames).any() or ((references < 0) | (references >= num_frames)).any():
        yield Problem("motion", name, f"a frame or a reference beyond the {num_frames} frames")
        return
    if (references == frames).any() or (np.diff(frames) < 0).any():
        yield Problem("motion", name, "a frame refers to itself, or rows are not by frame")
    has_none = [f.frame_type is FrameType.I or f.damaged for f in stream.frames]
    if np.array(has_none, bool)[frames].any():
        yield Problem("motion", name, "vectors of an I frame, or of a damaged one")
    types = np.array([f.frame_type is FrameType.B for f in stream.frames], bool)
    if ((blocks["ref_distance"] > 0) & ~types[frames]).any():
        yield Problem("motion", name, "a frame that is no B frame refers to a later one")
