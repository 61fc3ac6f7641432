"""The members as files: HR tiles, containers of streams, motion vectors, against the record."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.verify.problem import Problem
from schemas.record import UNKNOWN
from schemas.sample import HR_MEMBER, FrameType, HrTile, Sample, Stream, lr_member, mv_member
from transforms.bitstream import mux_nut
from transforms.codec import Packet
from transforms.motion import read_blocks
from transforms.tiles import pack_files, tile_places, tile_size

_MOST_FPS = 1000


def hr_problems(sample: Sample, tile: int, member: bytes) -> Iterator[Problem]:
    """Tiles must cover the patch of every frame once, and be all that the member holds.

    Nothing is unpacked: the files that the record points to must make the same member again.

    Args:
        sample: its record.
        tile: side of a tile, pixels; those at the right and at the bottom are smaller.
        member: the `hr.zip` member.
    """
    size = (sample.num_frames, sample.hr_height, sample.hr_width)
    if told := _grid_problem(sample.hr_tiles, size, tile):
        yield Problem("hr_tiles", HR_MEMBER, told)
        return
    sizes = [found.size for found in sample.hr_tiles]
    if min(sizes) < 0 or sum(sizes) > len(member):
        yield Problem("hr_tiles", HR_MEMBER, "the tiles are larger than the member")
        return
    files = []
    for place, found in zip(tile_places(*size, tile), sample.hr_tiles, strict=True):
        data = member[found.offset : found.offset + found.size]
        files.append((place, data))
        try:
            told = "{} x {}".format(*tile_size(data, sample.hr_jpeg))
        except ValueError as error:
            told = str(error)
        if told != f"{place.height} x {place.width}":
            detail = f"{told}, should be {place.height} x {place.width}"
            yield Problem("hr_tiles", HR_MEMBER, f"tile at frame {place.frame}: {detail}")
            return
    again, tiles = pack_files(files, is_jpeg=sample.hr_jpeg is not None)
    if tiles != sample.hr_tiles:
        yield Problem("hr_tiles", HR_MEMBER, "the tiles do not follow each other in the ZIP file")
    elif again != member:
        told = f"not a ZIP file of these tiles alone from byte {first_difference(again, member)} on"
        yield Problem("hr_zip", HR_MEMBER, told)


def _grid_problem(tiles: Sequence[HrTile], size: tuple[int, int, int], tile: int) -> str:
    """What is wrong with the places of the tiles; empty if they cover every frame once."""
    rows, columns = (-(-side // tile) for side in size[1:])
    if min(size) < 1 or len(tiles) != size[0] * rows * columns:
        return f"{len(tiles)} tiles, and should be {rows} times {columns} a frame"
    for index, (found, place) in enumerate(zip(tiles, tile_places(*size, tile), strict=True)):
        if (found.frame, found.top, found.left, found.height, found.width) != place:
            return f"tile {index} is not that of frame {place.frame} at {place.top}, {place.left}"
    return ""


def container_problems(stream: Stream, nut: bytes) -> Iterator[Problem]:
    """What lies outside the packets must be what the muxer writes around them.

    Args:
        stream: its record, which is right about every packet.
        nut: its `lr<k>.nut` member, written by the same version of libavformat.
    """
    name, fps = lr_member(stream.stream), int(stream.fps)
    if not 0 < fps <= _MOST_FPS or fps != stream.fps:
        yield Problem("fps", name, f"no stream has {stream.fps:g} frames per second")
        return
    packets = []
    for frame in sorted(stream.frames, key=lambda frame: frame.coding_index):
        data = nut[frame.packet_position : frame.packet_position + frame.packet_bytes]
        packet = Packet(data=data, pts=frame.pts, key_frame=frame.key_frame, encoder_qp=UNKNOWN)
        packets.append(packet)
    size = (stream.coded_height, stream.coded_width)
    again = mux_nut(packets, stream.codec, fps, *size)
    if again != nut:
        told = f"not a NUT file of these packets alone from byte {first_difference(again, nut)} on"
        yield Problem("container", name, told)


def first_difference(found: bytes, expected: bytes) -> int:
    """Where two files differ first; where the shorter ends if it is the start of the other."""
    pairs = zip(found, expected, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))


def motion_problems(stream: Stream, member: bytes) -> Iterator[Problem]:
    """Motion vectors of frames that can have them, to frames that are there."""
    name = mv_member(stream.stream)
    try:
        blocks = read_blocks(member)
    except ValueError as error:
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
