"""HR storage: every tile of every frame an image file, in one uncompressed ZIP member.

The files are lossless WebP; or JPEG, where reading HR fast is worth more than having it exactly.
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

from schemas.sample import HrJpeg, HrTile
from schemas.shard import ShardError
from transforms.jpeg import encode_jpeg, read_jpeg_header
from transforms.pictures import MAX_PIXELS

_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's earliest date: the same bytes whenever it is written
_UNIX = 3
_LOCAL_HEADER_BYTES = 30  # before the file name, in front of each stored file
_CENTRAL_HEADER_BYTES, _END_BYTES = 46, 22  # likewise behind all files; and at the very end
_CRC32 = slice(14, 18)  # of the file, in that header
_WEBP, _JPEG = "webp", "jpg"
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


def pack_jpeg_tiles(
    frames: np.ndarray, tile: int, quality: int
) -> tuple[bytes, list[HrTile], HrJpeg]:
    """Store HR frames as JPEG 4:4:4, which is not exact.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        tile: side of a tile, pixels; tiles at the right and bottom are smaller.
        quality: on libjpeg's scale.

    Returns:
        The `hr.zip` member, where each tile lies in it, and what was lost.
    """
    files, squared = list[tuple[TilePlace, bytes]](), 0
    num_frames, height, width, _ = frames.shape
    for place in tile_places(num_frames, height, width, tile):
        data = encode_jpeg(frames[place.area], quality, "444")
        squared += _squared_difference(decode_tile(data), frames[place.area])
        files.append((place, data))
    (taken,) = {read_jpeg_header(data).quality for _, data in files}
    lost = HrJpeg(quality=taken, mse=squared / frames.size)
    return *pack_files(files, is_jpeg=True), lost


def _squared_difference(one: np.ndarray, other: np.ndarray) -> int:
    """The sum over all pixels; of whole numbers, so that every CPU gives the same."""
    return int(np.square(cv2.absdiff(one, other), dtype=np.uint16).sum(dtype=np.int64))


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


def pack_files(
    files: Iterable[tuple[TilePlace, bytes]], *, is_jpeg: bool = False
) -> tuple[bytes, list[HrTile]]:
    """Store tiles that are WebP or JPEG files already; returns what `pack_tiles` does."""
    buffer, tiles = io.BytesIO(), []
    suffix = _JPEG if is_jpeg else _WEBP
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for place, data in files:
            info = zipfile.ZipInfo(_file_name(place, suffix), _EPOCH)
            info.create_system = _UNIX
            offset = buffer.tell() + _LOCAL_HEADER_BYTES + len(info.filename)
            archive.writestr(info, data)
            tiles.append(HrTile(**place._asdict(), offset=offset, size=len(data)))
    return buffer.getvalue(), tiles


def _file_name(place: TilePlace | HrTile, suffix: str) -> str:
    return f"{place.frame:05d}_{place.top:05d}_{place.left:05d}.{suffix}"


def tile_header_bytes(*, is_jpeg: bool) -> int:
    """Bytes that the ZIP has in front of each tile, and which are read with it."""
    return _LOCAL_HEADER_BYTES + _name_bytes(is_jpeg)


def tile_directory_bytes(num_tiles: np.ndarray, *, is_jpeg: bool) -> np.ndarray:
    """Bytes of `hr.zip` members of so many tiles that are no tiles, (N,) integers."""
    of_each = _LOCAL_HEADER_BYTES + _CENTRAL_HEADER_BYTES + 2 * _name_bytes(is_jpeg)
    return num_tiles * of_each + _END_BYTES


def _name_bytes(is_jpeg: bool) -> int:
    first = TilePlace(frame=0, top=0, left=0, height=1, width=1)
    return len(_file_name(first, _JPEG if is_jpeg else _WEBP))


class Parts(Protocol):
    """Bytes, or what gives them slice by slice."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Those of a slice, fewer where they end before it."""


def tile_file(tile: HrTile, member: Parts, jpeg: HrJpeg | None) -> bytes:
    """A tile's file.

    Args:
        tile: where it lies.
        member: the `hr.zip` member; of it the tile is read, and what the ZIP has in front of it.
        jpeg: what the sample's record says of its tiles; None for lossless WebP.

    Raises:
        ShardError: if the bytes are not those that were written.
        ValueError: if its header does not tell the tile's kind and size, whoever wrote it.
    """
    name = _file_name(tile, _WEBP if jpeg is None else _JPEG)
    size = _LOCAL_HEADER_BYTES + len(name)
    entry = member[max(0, tile.offset - size) : tile.offset + tile.size]
    header, data = entry[:size], entry[size:]
    if header[_CRC32] != zlib.crc32(data).to_bytes(4, "little"):
        raise ShardError(f"HR tile {name} does not match its checksum")
    if (found := tile_size(data, jpeg)) != (tile.height, tile.width):
        raise ValueError(f"an HR tile is {found[0]} x {found[1]}, not {tile.height} x {tile.width}")
    return data


def encode_webp(pixels: np.ndarray) -> bytes:
    """(h, w, 3) uint8 RGB as a lossless WebP file, at the fastest setting."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def tile_size(data: bytes, jpeg: HrJpeg | None) -> tuple[int, int]:
    """(height, width) of a tile's file, as its header tells; nothing is decoded.

    Args:
        data: the file.
        jpeg: what the sample's record says of its tiles; None for lossless WebP.

    Raises:
        ValueError: if it is another file than the record says, or larger than any picture here.
    """
    if jpeg is None:
        return webp_size(data)
    height, width, quality = read_jpeg_header(data)
    if quality != jpeg.quality:
        raise ValueError(f"the HR tile is a JPEG file of quality {quality}, not {jpeg.quality}")
    if height * width > MAX_PIXELS:
        raise ValueError(f"an HR tile of {height} x {width} pixels, {MAX_PIXELS} at most")
    return height, width


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


def decode_tile(data: bytes) -> np.ndarray:
    """A WebP or JPEG file as (h, w, 3) uint8 RGB, whatever it says of orientation and colour.

    Raises:
        ValueError: if it does not decode.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if pixels is None:
        raise ValueError("the HR tile does not decode")
    return pixels
