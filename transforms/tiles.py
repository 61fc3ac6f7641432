"""HR storage: every tile of every frame a lossless WebP file, in one uncompressed ZIP member.

The ZIP is there for people (`unzip` shows the frames); readers go by the byte ranges of the
sample's record.
"""

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import Image

from schemas.sample import HrTile
from schemas.shard import ShardError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's earliest date: the same bytes whenever it is written
_UNIX = 3
_LOCAL_HEADER_BYTES = 30  # before the file name, in front of each stored file
_CRC32 = slice(14, 18)  # of the file, in that header
_WEBP_HEADER_BYTES, _LOSSLESS_MARK = 25, b"\x2f"


def pack_tiles(frames: np.ndarray, tile: int) -> tuple[bytes, list[HrTile]]:
    """Store HR frames.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        tile: side of a tile, pixels; tiles at the right and bottom are smaller.

    Returns:
        The `hr.zip` member, and where each tile lies in it.
    """
    num_frames, height, width, _ = frames.shape
    places = tile_places(num_frames, height, width, tile)
    return pack_files((place, encode_webp(frames[place.area])) for place in places)


class TilePlace(NamedTuple):
    """What part of an HR patch a tile holds."""

    frame: int
    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> tuple[int, slice, slice]:
        """Its place in a (T, H, W, 3) array."""
        rows = slice(self.top, self.top + self.height)
        return self.frame, rows, slice(self.left, self.left + self.width)


def tile_places(num_frames: int, height: int, width: int, tile: int) -> Iterator[TilePlace]:
    """The tiles of a patch, in the order in which they are stored."""
    for index in range(num_frames):
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                yield TilePlace(index, top, left, min(tile, height - top), min(tile, width - left))


def pack_files(files: Iterable[tuple[TilePlace, bytes]]) -> tuple[bytes, list[HrTile]]:
    """Store tiles that are WebP files already; returns what `pack_tiles` does."""
    buffer, tiles = io.BytesIO(), []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for place, data in files:
            info = zipfile.ZipInfo(_file_name(place), _EPOCH)
            info.create_system = _UNIX
            offset = buffer.tell() + _LOCAL_HEADER_BYTES + len(info.filename)
            archive.writestr(info, data)
            tiles.append(HrTile(**place._asdict(), offset=offset, size=len(data)))
    return buffer.getvalue(), tiles


def _file_name(place: TilePlace | HrTile) -> str:
    return f"{place.frame:05d}_{place.top:05d}_{place.left:05d}.webp"


class Parts(Protocol):
    """Bytes, or what gives them slice by slice."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Those of a slice, fewer where they end before it."""


def tile_file(tile: HrTile, member: Parts) -> bytes:
    """A tile's WebP file.

    Args:
        tile: where it lies.
        member: the `hr.zip` member; of it the tile is read, and what the ZIP has in front of it.

    Raises:
        ShardError: if the bytes are not those that were written.
        ValueError: if its header does not tell the tile's size, whoever wrote it.
    """
    size = _LOCAL_HEADER_BYTES + len(_file_name(tile))
    entry = member[max(0, tile.offset - size) : tile.offset + tile.size]
    header, data = entry[:size], entry[size:]
    if header[_CRC32] != zlib.crc32(data).to_bytes(4, "little"):
        raise ShardError(f"HR tile {_file_name(tile)} does not match its checksum")
    if (found := webp_size(data)) != (tile.height, tile.width):
        raise ValueError(f"an HR tile is {found[0]} x {found[1]}, not {tile.height} x {tile.width}")
    return data


def encode_webp(pixels: np.ndarray) -> bytes:
    """(h, w, 3) uint8 RGB as a lossless WebP file, at the fastest setting."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def webp_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a lossless WebP file, as its header tells; nothing is decoded.

    Raises:
        ValueError: if it is not one.
    """
    marks = data[:4], data[8:16], data[20:21]
    if len(data) < _WEBP_HEADER_BYTES or marks != (b"RIFF", b"WEBPVP8L", _LOSSLESS_MARK):
        raise ValueError("the HR tile is not a WebP image, or not a lossless one")
    sides = int.from_bytes(data[21:25], "little")  # 14 bits each, less 1
    return (sides >> 14 & 0x3FFF) + 1, (sides & 0x3FFF) + 1


def decode_webp(data: bytes) -> np.ndarray:
    """A WebP file as (h, w, 3) uint8 RGB.

    Raises:
        ValueError: if it is not one.
    """
    encoded = np.frombuffer(data, np.uint8)
    pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if data else None
    if pixels is None:
        raise ValueError("the HR tile is not a WebP image")
    return pixels
