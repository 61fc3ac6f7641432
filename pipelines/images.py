"""Image files by local path; what becomes of their pixels: `transforms.pictures`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from pipelines.errors import MediaError, reason_of
from transforms.pictures import MAX_PIXELS as MAX_PIXELS
from transforms.pictures import ImageHeader as ImageHeader
from transforms.pictures import PictureError, decode_picture, read_header


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb") as file:
            yield file
    except PictureError as error:
        raise MediaError(error.reason, error.detail) from error
    except OSError as error:
        raise MediaError("unreadable", reason_of(error)) from error


def read_image_header(path: str) -> ImageHeader:
    """Read a picture's header.

    Raises:
        MediaError: unreadable, corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(path) as file:
        return read_header(file)


def read_image(path: str) -> np.ndarray:
    """Read a picture.

    Returns:
        (H, W, 3) uint8, RGB in [0, 255], upright, over black where it is transparent.

    Raises:
        MediaError: unreadable, corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(path) as file:
        read_header(file)  # refuses what is too large before all of the file is in memory
        file.seek(0)
        return decode_picture(file.read())
