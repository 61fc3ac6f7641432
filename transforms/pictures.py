"""Still pictures as 8-bit RGB arrays, from the bytes of PNG, JPEG, WebP and TIFF files.

Policy. Orientation tags are applied. 16 bits become 8 by rounding. What is transparent is
composited over black. ICC profiles are ignored: numbers are taken to be sRGB. Pictures with
more than one frame are refused, except JPEGs that carry further views (MPO): the first is read.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 2**28
"""Larger pictures are refused before they are decoded."""

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limits are 1/3 and 2/3 of ours and cannot be passed
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_STRIP_PIXELS = 2**20
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B")
_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "L;16", "LA;16")
_PROFILED_MODES = ("L", "LA", "RGB", "RGBA", "RGB;16", "RGBA;16", "L;16", "I;16", "P")
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
_PNG_BIT_DEPTH_POSITION = 24  # in IHDR, which is always the first chunk
_PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_QUARTER_TURNS = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}  # counter-clockwise, by orientation
_MIRRORED = (2, 4, 5, 7)  # left to right, after turning
_LYING = (5, 6, 7, 8)  # rows become columns
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


class PictureError(Exception):
    """The bytes are no picture that can be used.

    Attributes:
        reason: short code to count by: corrupt, too_large, multi_frame_image or
            unsupported_pixels.
        detail: one line for a person: the values behind the reason.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the error survives pickling
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What a picture says of itself."""

    format: str
    """Pillow's name, such as PNG"""
    mode: str
    """Pillow's name of the pixel format, with ;16 where it stores 16 bits a channel"""
    orientation: int
    """EXIF orientation, 1 to 8"""
    height: int
    """rows of the upright picture"""
    width: int
    """columns of the upright picture"""

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise by which the picture is turned on reading."""
        return 90 * _QUARTER_TURNS.get(self.orientation, 0)

    @property
    def is_deep(self) -> bool:
        """Whether channels have 16 bits."""
        return ";16" in self.mode


def is_picture(head: bytes) -> bool:
    """Whether a file whose first 12 bytes or more are `head` claims to be a picture."""
    return head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def read_header(file: BinaryIO) -> ImageHeader:
    """Read a picture's header, and little more of the file than that takes.

    Args:
        file: at its start; can be sought in.

    Raises:
        PictureError: corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(file) as (_, header):
        return header


def decode_picture(data: bytes) -> np.ndarray:
    """Decode a picture.

    Args:
        data: the file's bytes.

    Returns:
        (H, W, 3) uint8, RGB in [0, 255], upright, over black where it is transparent.

    Raises:
        PictureError: corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(io.BytesIO(data)) as (image, header):
        return _upright(_flatten(_decode(data, image, header)), header)


class Picture(NamedTuple):
    """All that a picture's file shows, upright."""

    rgb: np.ndarray
    """(H, W, 3) uint8, as stored where the picture is transparent"""
    alpha: np.ndarray | None
    """(H, W) uint8, 0 where it is transparent; None for one that is opaque by its kind"""
    is_gray: bool
    """it is stored without colours"""
    icc_profile: bytes | None
    """what the numbers mean; None for sRGB, or where they were converted from another colour
    space"""


def decode_whole_picture(data: bytes) -> Picture:
    """Decode a picture without putting it over black.

    Args:
        data: the file's bytes.

    Raises:
        PictureError: corrupt, too_large, multi_frame_image or unsupported_pixels.
    """
    with _opened(io.BytesIO(data)) as (image, header):
        pixels = _decode(data, image, header)
        profile = image.info.get("icc_profile") or None
    has_alpha = pixels.ndim == 3 and pixels.shape[2] == 4
    is_gray = header.mode in _GRAY_MODES or pixels.ndim == 2
    return Picture(
        rgb=_upright(_flatten(pixels[:, :, :3] if has_alpha else pixels), header),
        alpha=_upright(_flatten(pixels[:, :, 3])[:, :, 0], header) if has_alpha else None,
        is_gray=is_gray,
        icc_profile=profile if header.mode in _PROFILED_MODES else None,
    )


@contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[Image.Image, ImageHeader]]:
    try:
        # Pillow warns of broken EXIF blocks and the like, which are of no interest here.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(file, formats=FORMATS) as image,
        ):
            yield image, _header_of(image, file)
    except UnidentifiedImageError as error:
        raise PictureError("corrupt", "its header is not that of an image") from error
    except _DECODE_ERRORS as error:
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise PictureError("corrupt", f"{type(error).__name__}: {error}") from error


def _header_of(image: Image.Image, file: BinaryIO) -> ImageHeader:
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(
            "too_large", f"{image.width}x{image.height} pixels, at most {MAX_PIXELS} in all"
        )
    num_frames = getattr(image, "n_frames", 1)
    if num_frames > 1 and image.format in FORMATS and image.format != "JPEG":
        raise PictureError("multi_frame_image", f"{image.format} of {num_frames} frames")
    mode = image.mode
    if _bits_per_channel(image, file) == 16 and ";16" not in mode:
        mode += ";16"
    if mode.removesuffix(";16") not in _MODES and mode not in _MODES:
        raise PictureError("unsupported_pixels", f"{image.format} with pixels of type {mode}")
    orientation = _exif_of(image, file).get(_ORIENTATION_TAG, 1)
    # Pillow tells the size of a TIFF as it will be when upright.
    lies = orientation in _LYING and image.format != "TIFF"
    width, height = image.size[::-1] if lies else image.size
    return ImageHeader(
        format=image.format or "", mode=mode, orientation=orientation, height=height, width=width
    )


def _bits_per_channel(image: Image.Image, file: BinaryIO) -> int:
    """Pillow says RGB for 8 and for 16 bits, so this comes from the files' own headers."""
    if image.format == "PNG":
        return _png_bit_depth(file)
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (8,))  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def _png_bit_depth(file: BinaryIO) -> int:
    with _aside(file, _PNG_BIT_DEPTH_POSITION):
        return file.read(1)[0]


def _exif_of(image: Image.Image, file: BinaryIO) -> Image.Exif:
    # Pillow would decode all of a PNG to see whether metadata follow its pixels.
    if image.format == "PNG" and not _has_late_metadata(file):
        return Image.Image.getexif(image)
    return image.getexif()


def _has_late_metadata(file: BinaryIO) -> bool:
    """Whether chunks that may tell the orientation follow the pixels of a PNG."""
    seen = False
    with _aside(file, len(_STARTS[0])):
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if seen and kind in _PNG_METADATA:
                return True
            seen |= kind == b"IDAT"
            file.seek(length + 4, io.SEEK_CUR)  # past the checksum
    return False


@contextmanager
def _aside(file: BinaryIO, position: int) -> Iterator[None]:
    """Look at another position; Pillow goes on from where it was."""
    before = file.tell()
    file.seek(position)
    yield
    file.seek(before)


def _decode(data: bytes, image: Image.Image, header: ImageHeader) -> np.ndarray:
    """(H, W) uint16, or (H, W, 3) or (H, W, 4) of 8 or 16 bits, as the file lies."""
    image.load()  # notices truncation, which OpenCV does not
    return _decode_16_bit(data, header) if header.is_deep else _decode_8_bit(image)


def _decode_8_bit(image: Image.Image) -> np.ndarray:
    """(H, W, 3) or (H, W, 4) uint8."""
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _decode_16_bit(data: bytes, header: ImageHeader) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) uint16, RGB order; Pillow would keep 8 bits of it."""
    if header.format == "TIFF" and header.orientation in _LYING:
        raise PictureError(
            "unsupported_pixels", "a TIFF of 16 bits a channel that lies on its side"
        )
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or pixels.dtype != np.uint16:
        detail = f"{header.format} with pixels of type {header.mode}"
        raise PictureError("unsupported_pixels", detail)
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _flatten(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of grey, RGB or RGBA pixels of 8 or 16 bits."""
    if pixels.dtype == np.uint8 and pixels.shape[2:] == (3,):
        return pixels
    height, width = pixels.shape[:2]
    flat = np.empty((height, width, 3), np.uint8)
    # In strips, since the arithmetic takes many times the memory of the pixels.
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        flat[top : top + rows] = _flatten_strip(pixels[top : top + rows])
    return flat


def _flatten_strip(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    white = int(np.iinfo(pixels.dtype).max)
    if pixels.shape[2] == 4:
        lit = pixels[:, :, :3].astype(np.uint64) * pixels[:, :, 3:]
        return _rounded_quotient(lit, white * white // 255)
    return pixels if white == 255 else _rounded_quotient(pixels.astype(np.uint32), white // 255)


def _rounded_quotient(numerator: np.ndarray, divisor: int) -> np.ndarray:
    # Divisors are odd, so there are no ties.
    quotient: np.ndarray = (numerator + divisor // 2) // divisor
    return quotient.astype(np.uint8)


def _upright(pixels: np.ndarray, header: ImageHeader) -> np.ndarray:
    if header.format == "TIFF":
        return pixels  # both libraries turn TIFFs as they load them, and nothing else
    turned = np.rot90(pixels, _QUARTER_TURNS.get(header.orientation, 0))
    upright = np.fliplr(turned) if header.orientation in _MIRRORED else turned
    return np.ascontiguousarray(upright)
