"""Blur with the kernels of the Real-ESRGAN family, the fastest way that is the same on every CPU.

Isotropic Gaussians are separable, and small kernels are summed directly, both by OpenCV without
the code that it picks by CPU. All others go by Fourier transform with SciPy, which is compiled once
for all CPUs. A border of a kernel that cannot be seen is left out. Results are within 2e-4 levels
(of 255) of direct summation.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
import scipy.special

from schemas.draw import BlurDraw, BlurKernel, at

_switching = threading.Lock()
_MAX_DIRECT_SIZE = 7  # from 9 taps on OpenCV goes by a Fourier transform of its own
_UNSEEN_SUM = 3e-7  # of absolute taps: 1e-4 levels where all pixels are white
_KEPT_KERNELS = 64
_KEPT_GAINS = 8  # 4 MB each for a 720p picture


class Kernel(NamedTuple):
    """What decides a kernel; the fields are those of `BlurDraw`, for one frame."""

    family: BlurKernel
    size: int
    sigma_x: float
    sigma_y: float
    theta: float = 0.0
    beta: float = 1.0
    cutoff: float = 0.0


def blur(image: np.ndarray, draw: BlurDraw, frame: int) -> np.ndarray:
    """Convolve with the kernel that was drawn for a frame.

    Args:
        image: (H, W, 3) float32; any size, smaller than the kernel too.
        draw: kernel and parameters.
        frame: display index, which picks them.

    Returns:
        (H, W, 3) float32, not clipped: sinc kernels overshoot.
    """
    return convolve(image, kernel_at(draw, frame))


def kernel_at(draw: BlurDraw, frame: int) -> Kernel:
    """The kernel of a frame."""
    return Kernel(
        family=draw.kernel,
        size=draw.size,
        sigma_x=at(draw.sigma_x, frame),
        sigma_y=at(draw.sigma_y, frame),
        theta=at(draw.theta, frame),
        beta=at(draw.beta, frame),
        cutoff=at(draw.cutoff, frame),
    )


def convolve(image: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Convolve (H, W, C) float32 with a kernel; borders are mirrored, the edge not repeated."""
    if kernel.family == "isotropic" and kernel.beta == 1:
        taps = gaussian_taps(kernel.size, kernel.sigma_x)
        with _no_code_by_cpu():
            blurred = cv2.sepFilter2D(image, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101)
        return blurred.reshape(image.shape)  # OpenCV drops a last axis of 1
    taps2d = _seen_taps(kernel)
    if len(taps2d) <= _MAX_DIRECT_SIZE:
        with _no_code_by_cpu():
            blurred = cv2.filter2D(image, -1, taps2d, borderType=cv2.BORDER_REFLECT_101)
        return blurred.reshape(image.shape)
    return _convolve_spectra(image, kernel)


@contextmanager
def _no_code_by_cpu() -> Iterator[None]:
    """OpenCV without its AVX and FMA variants, whose sums differ in the last bit.

    The switch is the process's, so threads take turns; it turns the thread's IPP on and off, too.
    """
    with _switching:
        was_on, was_ipp = cv2.useOptimized(), cv2.ipp.useIPP()
        cv2.setUseOptimized(False)
        try:
            yield
        finally:
            cv2.setUseOptimized(was_on)
            cv2.ipp.setUseIPP(was_ipp)


def _convolve_spectra(image: np.ndarray, kernel: Kernel) -> np.ndarray:
    height, width, channels = image.shape
    radius = len(_seen_taps(kernel)) // 2
    # What wraps around ends up in the border, which is cut off again.
    rows = scipy.fft.next_fast_len(height + 2 * radius)
    columns = scipy.fft.next_fast_len(width + 2 * radius, real=True)
    gains = _gains(kernel, rows, columns)
    margins = (radius, rows - height - radius, radius, columns - width - radius)
    framed = cv2.copyMakeBorder(np.ascontiguousarray(image), *margins, cv2.BORDER_REFLECT_101)
    framed = framed.reshape(rows, columns, channels)  # OpenCV drops a last axis of 1
    blurred = np.empty(image.shape, np.float32)
    for channel in range(channels):
        plane = cv2.extractChannel(framed, channel)
        spectrum = scipy.fft.rfft(plane, axis=1, overwrite_x=True)
        spectrum = scipy.fft.fft(spectrum, axis=0, overwrite_x=True)
        spectrum.view(np.float32)[...] *= gains
        spectrum = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)
        kept_rows = scipy.fft.irfft(spectrum[radius : radius + height], n=columns, axis=1)
        blurred[:, :, channel] = kept_rows[:, radius : radius + width]
    return blurred


@functools.lru_cache(maxsize=_KEPT_GAINS)
def _gains(kernel: Kernel, rows: int, columns: int) -> np.ndarray:
    """(rows, 2 * (columns // 2 + 1)) float32: the kernel's transform, each number twice.

    It is real, as every kernel is its own mirror image; twice, because a complex spectrum seen as
    float32 has two numbers a frequency.
    """
    seen = _seen_taps(kernel)
    radius = len(seen) // 2
    around_zero = np.arange(-radius, radius + 1)  # negative indices wrap, as the transform wants
    taps = np.zeros((len(seen), columns), np.float32)
    taps[:, around_zero] = seen
    spectrum = np.zeros((rows, columns // 2 + 1), np.complex64)
    spectrum[around_zero] = scipy.fft.rfft(taps, axis=1)
    gains = scipy.fft.fft(spectrum, axis=0, overwrite_x=True).real
    return np.repeat(gains, 2, axis=1)


@functools.lru_cache(maxsize=_KEPT_KERNELS)
def gaussian_taps(size: int, sigma: float) -> np.ndarray:
    """The float32 taps of a Gaussian along one axis, of sum 1: `size`, or those that are seen."""
    axis = np.arange(size) - (size - 1) / 2
    taps = np.exp(-((axis / sigma) ** 2) / 2)
    taps = (taps / taps.sum()).astype(np.float32)
    unseen = np.searchsorted(2 * np.cumsum(taps[: size // 2], dtype=np.float64), _UNSEEN_SUM / 2)
    return taps[unseen : size - unseen]


@functools.lru_cache(maxsize=_KEPT_KERNELS)
def _seen_taps(kernel: Kernel) -> np.ndarray:
    """The taps of a kernel without a border that cannot be seen."""
    taps = blur_kernel(kernel)
    axis = np.abs(np.arange(kernel.size) - kernel.size // 2)
    weight = np.bincount(np.maximum.outer(axis, axis).ravel(), np.abs(taps).ravel())  # by ring
    beyond = weight[::-1].cumsum()  # of the outermost ring, of the two outermost, ...
    unseen = min(int(np.searchsorted(beyond, _UNSEEN_SUM, "right")), kernel.size // 2)
    return taps[unseen : kernel.size - unseen, unseen : kernel.size - unseen]


@functools.lru_cache(maxsize=_KEPT_KERNELS)
def blur_kernel(kernel: Kernel) -> np.ndarray:
    """The (size, size) float32 taps of a kernel, of sum 1.

    Real-ESRGAN (arXiv 2107.10833, section 3.2): with q = x' S^-1 x on the integer grid,
    Gaussians exp(-q / 2), generalised exp(-q^beta / 2), plateau 1 / (1 + q^beta); sinc is the
    circular low pass of section 3.3. Computed in float64: where CPUs disagree on the last digit
    of an exponential, rounding to float32 hides it.
    """
    axis = np.arange(kernel.size) - (kernel.size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    is_sinc = kernel.family == "sinc"
    taps = _sinc(np.hypot(x, y), kernel.cutoff) if is_sinc else _bell(x, y, kernel)
    return (taps / taps.sum()).astype(np.float32)


def _bell(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> np.ndarray:
    cos, sin = np.cos(kernel.theta), np.sin(kernel.theta)
    u, v = (cos * x + sin * y) / kernel.sigma_x, (cos * y - sin * x) / kernel.sigma_y
    q: np.ndarray = u**2 + v**2
    if kernel.family.startswith("plateau"):
        return 1 / (1 + q**kernel.beta)
    return np.exp(-(q**kernel.beta) / 2)  # beta is 1 for plain Gaussians


def _sinc(r: np.ndarray, cutoff: float) -> np.ndarray:
    centre = cutoff**2 / (4 * np.pi)
    away = np.where(r > 0, r, 1.0)
    return np.where(r > 0, cutoff * scipy.special.j1(cutoff * away) / (2 * np.pi * away), centre)
