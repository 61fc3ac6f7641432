"""Still picture codecs: JPEG, WebP, AVIF, and the DiffJPEG of the Real-ESRGAN family."""

import io
from typing import Literal

import cv2
import numpy as np
import scipy.fft
from PIL import AvifImagePlugin, Image

from schemas.draw import StillDraw, at
from transforms.jpeg import CHROMA_STEPS, LUMA_STEPS, encode_jpeg
from transforms.pixels import luma, to_float, to_uint8

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # of the decoder; a worker has one core

_AVIF_SUBSAMPLING = {"420": "4:2:0", "444": "4:4:4"}
_AVIF_SLOWEST, _AVIF_FASTEST = 0, 10

_LEAST_STEP_FACTOR = 0.01  # quality 100 would divide by zero


def still(image: np.ndarray, draw: StillDraw, frame: int) -> np.ndarray:
    """Compress a frame by itself and decode it again.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1], any size.
        draw: codec and settings.
        frame: display index, which picks the quality.

    Returns:
        (H, W, 3) float32 RGB in [0, 1]; whole levels of 255, but for diffjpeg.
    """
    channels = np.s_[:, :, ::-1] if draw.bgr else np.s_[:, :, :]
    quality = at(draw.quality, frame)
    if draw.codec == "diffjpeg":
        decoded = _diffjpeg(np.clip(image[channels], 0, 1), quality, draw.subsampling == "420")
    else:
        levels = _cut_off(image) if draw.truncate else to_uint8(image)
        decoded = to_float(_coded(np.ascontiguousarray(levels[channels]), draw, round(quality)))
    return np.ascontiguousarray(decoded[channels])


def _cut_off(image: np.ndarray) -> np.ndarray:
    """To uint8 as a C cast would: towards zero, then modulo 256 (APISR on overshooting pixels)."""
    return (np.trunc(image * np.float32(255)).astype(np.int32) & 255).astype(np.uint8)


def _coded(rgb: np.ndarray, draw: StillDraw, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 -> the same, as the codec leaves it."""
    if draw.codec == "jpeg":
        return _jpeg(rgb, quality, draw.subsampling)
    file = io.BytesIO()
    picture = Image.fromarray(rgb)
    if draw.codec == "webp":
        picture.save(file, "WEBP", quality=quality, method=draw.effort)
    else:
        picture.save(
            file,
            "AVIF",
            quality=quality,
            speed=int(np.clip(10 - draw.effort, _AVIF_SLOWEST, _AVIF_FASTEST)),
            subsampling=_AVIF_SUBSAMPLING[draw.subsampling],
            codec="aom",
            max_threads=1,
        )
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))


def _jpeg(rgb: np.ndarray, quality: int, subsampling: Literal["420", "444"]) -> np.ndarray:
    data = np.frombuffer(encode_jpeg(rgb, quality, subsampling), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # OpenCV has just encoded it
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _diffjpeg(image: np.ndarray, quality: float, is_subsampled: bool) -> np.ndarray:
    """JPEG without its integers (BasicSR): float input, float quantiser steps, no chroma filter.

    Quality is libjpeg's, and may be fractional. Borders are padded with black to whole 16x16
    blocks, chroma is the mean of 2x2 pixels and put back by repetition.
    """
    height, width = image.shape[:2]
    padding = ((0, -height % 16), (0, -width % 16), (0, 0))
    padded = np.pad(image * np.float32(255), padding)
    factor = max(50 / quality if quality < 50 else 2 - quality / 50, _LEAST_STEP_FACTOR)
    # BasicSR holds its tables transposed, so that vertical and horizontal steps change places.
    luma_steps = LUMA_STEPS.T * np.float32(factor)
    chroma_steps = CHROMA_STEPS * np.float32(factor)
    y = luma(padded)
    blue = np.float32(0.5 / 0.886) * (padded[:, :, 2] - y)  # JFIF: Cb and Cr, around zero
    red = np.float32(0.5 / 0.701) * (padded[:, :, 0] - y)
    if is_subsampled:
        blue, red = _halved(blue), _halved(red)
    y = _quantised(y - 128, luma_steps) + 128
    blue, red = _quantised(blue, chroma_steps), _quantised(red, chroma_steps)
    if is_subsampled:
        blue, red = _doubled(blue), _doubled(red)
    green = y - np.float32(0.344136) * blue - np.float32(0.714136) * red
    rgb = np.stack([y + np.float32(1.402) * red, green, y + np.float32(1.772) * blue], axis=2)
    return np.clip(rgb[:height, :width] / 255, 0, 1, dtype=np.float32)


def _quantised(plane: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Transform 8x8 blocks, round to multiples of the steps, transform back."""
    rows, columns = plane.shape
    blocks = plane.reshape(rows // 8, 8, columns // 8, 8)
    step = steps[None, :, None, :]
    multiples = np.rint(scipy.fft.dctn(blocks, axes=(1, 3), norm="ortho") / step)
    return scipy.fft.idctn(multiples * step, axes=(1, 3), norm="ortho").reshape(rows, columns)


def _halved(plane: np.ndarray) -> np.ndarray:
    left, right = plane[:, ::2], plane[:, 1::2]
    return (left[::2] + right[::2] + left[1::2] + right[1::2]) / np.float32(4)


def _doubled(plane: np.ndarray) -> np.ndarray:
    return plane.repeat(2, axis=0).repeat(2, axis=1)
