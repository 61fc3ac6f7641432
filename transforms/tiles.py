"""HR storage: every tile of every frame a lossless WebP file, in one uncompressed ZIP member.

The ZIP is there for people (`unzip` shows the frames); readers go by the byte ranges of the
sample's record.
"""

import io
import zipfile
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from schemas.sample import HrTile

_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's earliest date: the same bytes whenever it is written
_UNIX = 3
_LOCAL_HEADER_BYTES = 30  # before the file name, in front of each stored file


def pack_tiles(frames: np.ndarray, tile: int) -> tuple[bytes, list[HrTile]]:
    """Store HR frames.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        tile: side of a tile, pixels; tiles at the right and bottom are smaller.

    Returns:
        The `hr.zip` member, and where each tile lies in it.
    """
    buffer, tiles = io.BytesIO(), []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for index, frame in enumerate(frames):
            for top, left in _tile_corners(frame.shape[0], frame.shape[1], tile):
                pixels = frame[top : top + tile, left : left + tile]
                info = zipfile.ZipInfo(f"{index:05d}_{top:05d}_{left:05d}.webp", _EPOCH)
                info.create_system = _UNIX
                data = encode_webp(pixels)
                offset = buffer.tell() + _LOCAL_HEADER_BYTES + len(info.filename)
                archive.writestr(info, data)
                tiles.append(
                    HrTile(
                        frame=index,
                        top=top,
                        left=left,
                        height=pixels.shape[0],
                        width=pixels.shape[1],
                        offset=offset,
                        size=len(data),
                    )
                )
    return buffer.getvalue(), tiles


def _tile_corners(height: int, width: int, tile: int) -> Iterator[tuple[int, int]]:
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield top, left


def encode_webp(pixels: np.ndarray) -> bytes:
    """(h, w, 3) uint8 RGB as a lossless WebP file, at the fastest setting."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def decode_webp(data: bytes) -> np.ndarray:
    """A WebP file as (h, w, 3) uint8 RGB.

    Raises:
        ValueError: if it is not one.
    """
    encoded = np.frombuffer(data, np.uint8)
    pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise ValueError("the HR tile is not a WebP image")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
