"""The classical stages of a chain, each a pure function of one frame and its draw."""

import functools

import cv2
import numpy as np
import scipy.special

from schemas.draw import BlurDraw, JpegDraw, NoiseDraw

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def blur(image: np.ndarray, draw: BlurDraw) -> np.ndarray:
    """Convolve (H, W, 3) float32 with the drawn kernel; borders are mirrored (101)."""
    return cv2.filter2D(image, -1, blur_kernel(draw), borderType=cv2.BORDER_REFLECT_101)


@functools.lru_cache(maxsize=32)
def blur_kernel(draw: BlurDraw) -> np.ndarray:
    """The (size, size) float32 kernel of a draw, of sum 1.

    Real-ESRGAN (arXiv 2107.10833, section 3.2): with q = x' S^-1 x on the integer grid,
    Gaussians exp(-q / 2), generalised exp(-q^beta / 2), plateau 1 / (1 + q^beta); sinc is the
    circular low pass of section 3.3.
    """
    axis = np.arange(draw.size) - (draw.size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    kernel = _sinc(np.hypot(x, y), draw.cutoff) if draw.kernel == "sinc" else _bell(x, y, draw)
    return (kernel / kernel.sum()).astype(np.float32)


def _bell(x: np.ndarray, y: np.ndarray, draw: BlurDraw) -> np.ndarray:
    cos, sin = np.cos(draw.theta), np.sin(draw.theta)
    u, v = (cos * x + sin * y) / draw.sigma_x, (cos * y - sin * x) / draw.sigma_y
    q: np.ndarray = u**2 + v**2
    if draw.kernel.startswith("plateau"):
        return 1 / (1 + q**draw.beta)
    return np.exp(-(q**draw.beta) / 2)  # beta is 1 for plain Gaussians


def _sinc(r: np.ndarray, cutoff: float) -> np.ndarray:
    centre = cutoff**2 / (4 * np.pi)
    away = np.where(r > 0, r, 1.0)
    return np.where(r > 0, cutoff * scipy.special.j1(cutoff * away) / (2 * np.pi * away), centre)


def noise(image: np.ndarray, draw: NoiseDraw, frame: int) -> np.ndarray:
    """Add noise to (H, W, 3) float32 in [0, 1]; the result is clipped to that range.

    Args:
        image: the frame.
        draw: kind, levels, seed.
        frame: its display index, which picks its level and its own noise samples.
    """
    rng = np.random.default_rng([draw.seed, frame])
    level = draw.level[frame]
    add = _gaussian if draw.kind == "gaussian" else _poisson
    return np.clip(image + add(image, level, draw.gray[frame], rng), 0, 1, dtype=np.float32)


def _gaussian(image: np.ndarray, sigma: float, gray: bool, rng: np.random.Generator) -> np.ndarray:
    shape = (*image.shape[:2], 1) if gray else image.shape
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma / 255)


def _poisson(image: np.ndarray, scale: float, gray: bool, rng: np.random.Generator) -> np.ndarray:
    # Real-ESRGAN: photon counts on a scale of the next power of two above the number of levels.
    levels = np.rint(np.clip(image, 0, 1) * 255)
    if gray:
        levels = np.rint(levels @ _LUMA)[:, :, None]
    counts = 2.0 ** np.ceil(np.log2(max(2, len(np.unique(levels)))))
    signal = levels / 255
    return (scale * (rng.poisson(signal * counts) / counts - signal)).astype(np.float32)


def jpeg(image: np.ndarray, draw: JpegDraw, frame: int) -> np.ndarray:
    """Compress (H, W, 3) float32 RGB in [0, 1] as 4:2:0 JPEG and decode it again."""
    bgr = cv2.cvtColor(to_uint8(image), cv2.COLOR_RGB2BGR)
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        draw.quality[frame],
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, data = cv2.imencode(".jpg", bgr, settings)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # OpenCV has just encoded it
    return to_float(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def luma_std(image: np.ndarray) -> float:
    """Standard deviation of the luma of an (H, W, 3) uint8 image, levels."""
    return float((image.astype(np.float32) @ _LUMA).std())


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 [0, 255] -> float32 [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """float32 [0, 1] -> uint8 [0, 255], clipped and rounded."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
