"""Still pictures as 8-bit RGB arrays, from PNG, JPEG, WebP and TIFF.

Policy. Orientation tags are applied. 16 bits become 8 by rounding. What is transparent is
composited over black. ICC profiles are ignored: numbers are taken to be sRGB. Pictures with
more than one frame are refused, except JPEGs that carry further views (MPO): the first is read.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from pipelines.errors import MediaError, reason_of

MAX_PIXELS = 2**28
"""Larger pictures are refused before they are decoded."""

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limits are 1/3 and 2/3 of ours and cannot be passed
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B")
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
_QUARTER_TURNS = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}  # counter-clockwise, by orientation
_MIRRORED = (2, 4, 5, 7)  # left to right, after turning
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    cv2.error,
)
"""What Pillow and OpenCV raise for broken files, depending on the format and on what is broken."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What a picture says of itself."""

    format: str
    """Pillow's name, such as PNG"""
    mode: str
    """Pillow's name of the pixel format, with ;16 where it stores 16 bits a channel"""
    orientation: int
    """EXIF orientation, 1 to 8"""

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise by which the picture is turned on reading."""
        return 90 * _QUARTER_TURNS.get(self.orientation, 0)

    @property
    def is_deep(self) -> bool:
        """Whether channels have 16 bits."""
        return ";16" in self.mode


@contextmanager
def _opened(path: str) -> Iterator[tuple[Image.Image, ImageHeader]]:
    try:
        # Pillow warns of broken EXIF blocks and the like, which are of no interest here.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(path, formats=FORMATS) as image,
        ):
            yield image, _read_header(path, image)
    except UnidentifiedImageError as error:
        raise MediaError("unreadable", "its header is not that of an image") from error
    except (FileNotFoundError, PermissionError) as error:
        raise MediaError("unreadable", reason_of(error)) from error
    except _DECODE_ERRORS as error:
        raise MediaError("corrupt", f"{type(error).__name__}: {error}") from error


def _read_header(path: str, image: Image.Image) -> ImageHeader:
    if image.width * image.height > MAX_PIXELS:
        raise MediaError(
            "too_large", f"{image.width}x{image.height} pixels, at most {MAX_PIXELS} in all"
        )
    num_frames = getattr(image, "n_frames", 1)
    if num_frames > 1 and image.format in FORMATS and image.format != "JPEG":
        raise MediaError("multi_frame_image", f"{image.format} of {num_frames} frames")
    mode = image.mode
    if _bits_per_channel(path, image) == 16 and ";16" not in mode:
        mode += ";16"
    if mode.removesuffix(";16") not in _MODES and mode not in _MODES:
        raise MediaError("unsupported_pixels", f"{image.format} with pixels of type {mode}")
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    return ImageHeader(format=image.format or "", mode=mode, orientation=orientation)


def _png_bit_depth(path: str) -> int:
    with open(path, "rb") as file:
        file.seek(24)  # in IHDR, which is always the first chunk
        return file.read(1)[0]


def _bits_per_channel(path: str, image: Image.Image) -> int:
    """Pillow says RGB for 8 and for 16 bits, so this comes from the files' own headers."""
    if image.format == "PNG":
        return _png_bit_depth(path)
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (8,))  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def read_image_header(path: str) -> ImageHeader:
    """Read a picture's header.

    Raises:
        MediaError: unreadable, corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(path) as (_, header):
        return header


def read_image(path: str) -> np.ndarray:
    """Read a picture.

    Returns:
        (H, W, 3) uint8, RGB in [0, 255], upright, over black where it is transparent.

    Raises:
        MediaError: unreadable, corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(path) as (image, header):
        image.load()  # notices truncation, which OpenCV does not
        pixels = _flatten(_read_16_bit(path, header) if header.is_deep else _read_8_bit(image))
    if header.format == "TIFF":
        return pixels  # both libraries turn TIFFs as they load them, and nothing else
    return np.ascontiguousarray(_upright(pixels, header.orientation))


def _read_8_bit(image: Image.Image) -> np.ndarray:
    """(H, W, 3) or (H, W, 4) uint8."""
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _read_16_bit(path: str, header: ImageHeader) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) uint16, RGB order; Pillow would keep 8 bits of it."""
    if header.format == "TIFF" and header.orientation >= 5:
        raise MediaError("unsupported_pixels", "a TIFF of 16 bits a channel that lies on its side")
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.dtype != np.uint16:
        raise MediaError("unsupported_pixels", f"{header.format} with pixels of type {header.mode}")
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _flatten(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of grey, RGB or RGBA pixels of 8 or 16 bits."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    white = int(np.iinfo(pixels.dtype).max)
    if pixels.shape[2] == 4:
        lit = pixels[:, :, :3].astype(np.uint64) * pixels[:, :, 3:]
        return _rounded_quotient(lit, white * white // 255)
    return pixels if white == 255 else _rounded_quotient(pixels.astype(np.uint32), white // 255)


def _rounded_quotient(numerator: np.ndarray, divisor: int) -> np.ndarray:
    # Divisors are odd, so there are no ties.
    return ((numerator + divisor // 2) // divisor).astype(np.uint8)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turned = np.rot90(pixels, _QUARTER_TURNS.get(orientation, 0))
    return np.fliplr(turned) if orientation in _MIRRORED else turned
