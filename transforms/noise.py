"""Noise: Gaussian, Poisson, speckle and a camera's, from the seed of a draw."""

import functools
from typing import NamedTuple

import cv2
import numpy as np
import scipy.special

from schemas.draw import NoiseDraw, at
from transforms.pixels import luma, to_uint8

_TAIL = 1 << 7  # quantiles, of 2^16, at each end of the normal distribution that are split finer
_LEVELS = 256  # of an 8-bit picture, in which photons are counted
_BIN_BITS = 12
_BINS = 1 << _BIN_BITS
_BLOCK = 1 << 16  # samples at a time, so that all of them stay in the CPU's cache
_TONES = 1 << 14  # of the tables between sRGB and linear light: within 0.02 levels of 255


def noise(image: np.ndarray, draw: NoiseDraw, frame: int) -> np.ndarray:
    """Add noise to a frame.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        draw: kind, levels, seed.
        frame: display index, which picks its levels and, unless noise is static, its samples.

    Returns:
        (H, W, 3) float32, clipped to [0, 1].
    """
    level = at(draw.level, frame)
    is_gray = at(draw.gray, frame)
    rng = np.random.default_rng([draw.seed, 0 if at(draw.static, frame) else frame + 1])
    match draw.kind:
        case "gaussian":
            noisy = image + np.float32(level / 255) * _pattern(image, is_gray, draw, rng)
        case "speckle":
            noisy = image + image * (np.float32(level) * _pattern(image, is_gray, draw, rng))
        case "camera":
            pattern = _pattern(image, is_gray, draw, rng)
            noisy = _camera(image, pattern, level, at(draw.read_level, frame))
        case "poisson":
            source = _gray(image, draw.bgr) if is_gray else image
            noisy = image + np.float32(level) * _photon_noise(source, rng)
    return np.clip(noisy, 0, 1, dtype=np.float32)


def _pattern(
    image: np.ndarray, is_gray: bool, draw: NoiseDraw, rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3), or (H, W, 1) if gray, float32: normal samples, correlated if drawn so."""
    channels = 1 if is_gray else image.shape[2]
    samples = _normal(rng, image.shape[0] * image.shape[1] * channels)
    samples = samples.reshape(*image.shape[:2], channels)
    if is_gray or not draw.covariance:
        return samples
    root = _covariance_root(tuple(draw.covariance))
    planes = [samples[:, :, channel] for channel in range(channels)]
    # Not a matrix product: those of BLAS differ from CPU to CPU.
    return np.stack([sum(w * p for w, p in zip(row, planes, strict=True)) for row in root], axis=2)


def _normal(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) float32 samples of the normal distribution, looked up.

    A quantile of 16 bits picks one of as many equally likely values; at both ends, where they lie
    far apart (beyond 2.9 deviations, up to 5.4), of 24 bits. The distribution function is within
    1e-5 of the true one. NumPy's generator takes two to three times as long.
    """
    words = rng.integers(0, 1 << 64, -(-count // 4), dtype=np.uint64)  # 4 quantiles in each
    quantiles = words.view(np.uint16)[:count]
    body, tails = _normal_tables()
    samples = np.take(body, quantiles)
    outer = np.flatnonzero(quantiles - np.uint16(_TAIL) >= np.uint16((1 << 16) - 2 * _TAIL))
    finer = rng.integers(0, 1 << 8, len(outer), dtype=np.uint16)
    nth = (quantiles[outer] + np.uint16(_TAIL)) << np.uint16(8)  # of both tails, the upper first
    samples[outer] = np.take(tails, nth | finer)
    return samples


@functools.cache
def _normal_tables() -> tuple[np.ndarray, np.ndarray]:
    """(65536,) float32: the middle of each quantile of 16 bits, of each of 24 bits in the tails.

    Computed in float64: where CPUs disagree on the last digit, rounding to float32 hides it.
    """
    body = scipy.special.ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    upper = scipy.special.ndtri((np.arange(_TAIL << 8) + 0.5) / (1 << 24))
    return body.astype(np.float32), np.concatenate([-upper[::-1], upper]).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _covariance_root(covariance: tuple[float, ...]) -> np.ndarray:
    """(3, 3) float32 symmetric R with R R = covariance.

    Unlike a matrix of eigenvectors, whose signs are arbitrary, R is unique. A matrix that is no
    covariance (BSRGAN takes absolute values of one) is read as NumPy's multivariate_normal does,
    with its singular values.
    """
    values, vectors = np.linalg.eigh(np.array(covariance).reshape(3, 3))
    return ((vectors * np.sqrt(np.abs(values))) @ vectors.T).astype(np.float32)


def _gray(image: np.ndarray, is_bgr: bool) -> np.ndarray:
    """(H, W, 1): luma, or what takes red for blue makes of it."""
    return luma(image[:, :, ::-1] if is_bgr else image)[:, :, None]


def _camera(image: np.ndarray, pattern: np.ndarray, shot: float, read: float) -> np.ndarray:
    """Noise of variance shot * x + read in linear light (Brooks et al., CVPR 2019, section 3.1).

    Linear light is that of sRGB's transfer function, without the rest of a camera's pipeline.
    """
    to_linear, from_root = _tone_tables()
    linear = to_linear[np.rint(np.clip(image, 0, 1) * (_TONES - 1)).astype(np.int32)]
    noisy = linear + np.sqrt(np.float32(shot) * linear + np.float32(read)) * pattern
    # A square root is exact on every CPU, a power is not; it also spreads the dark tones.
    root = np.sqrt(np.clip(noisy, 0, 1))
    return from_root[np.rint(root * (_TONES - 1)).astype(np.int32)]


@functools.cache
def _tone_tables() -> tuple[np.ndarray, np.ndarray]:
    """sRGB (IEC 61966-2-1) to linear light, and the square root of linear light to sRGB."""
    tones = np.arange(_TONES) / (_TONES - 1)
    to_linear = np.where(tones <= 0.04045, tones / 12.92, ((tones + 0.055) / 1.055) ** 2.4)
    light = tones**2
    from_root = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return to_linear.astype(np.float32), from_root.astype(np.float32)


def _photon_noise(source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poisson(u v) / v - u, float32, of the source's 8-bit levels u.

    Real-ESRGAN: v, the photons at full signal, is the next power of two above the number of
    distinct levels.
    """
    levels = to_uint8(source)
    used = cv2.calcHist([levels.reshape(len(levels), -1)], [0], None, [_LEVELS], [0, _LEVELS])
    num_used = max(2, int(np.count_nonzero(used)))
    return _sample(_photon_table(1 << (num_used - 1).bit_length()), levels, rng)


class _PhotonTable(NamedTuple):
    """The inverse distribution functions of all 8-bit levels, in bins of a uniform number."""

    noise: np.ndarray
    """(levels * bins,) float32: the noise, NaN where a bin holds more than one count"""
    first: np.ndarray
    """(levels * bins + 1,) int32: index of a bin's smallest count in the next two"""
    below: np.ndarray
    """(levels * counts,) float64: probability of this count or a smaller one"""
    values: np.ndarray
    """(levels * counts,) float32: the noise of this count"""


@functools.lru_cache(maxsize=8)  # all there are: 2, 4 .. 256 photons; up to 9 MB each
def _photon_table(photons: int) -> _PhotonTable:
    # Counts more than 7 deviations above the largest mean have a probability below 1e-9.
    counts = np.arange(photons + int(7 * np.sqrt(photons)) + 12)
    levels = np.arange(_LEVELS)[:, None]
    below = scipy.special.pdtr(counts, levels / 255 * photons)
    below[:, -1] = 1
    values = (counts / photons - levels / 255).astype(np.float32)
    # A bin's smallest count is the number of counts whose probability ends at its start or before.
    ends = np.ceil(below * _BINS).astype(np.int64) + levels * (_BINS + 1)
    ended = np.bincount(ends.ravel(), minlength=_LEVELS * (_BINS + 1))
    smallest = np.cumsum(ended.reshape(_LEVELS, _BINS + 1), axis=1)
    first = (smallest[:, :-1] + levels * len(counts)).astype(np.int32).ravel()
    noise = values.ravel()[first]
    first = np.append(first, np.int32(values.size))  # the end of the last bin
    noise[(smallest[:, :-1] != smallest[:, 1:]).ravel()] = np.nan
    return _PhotonTable(noise, first, below.ravel(), values.ravel())


def _sample(table: _PhotonTable, levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of each level: a look-up for most samples, a search for the others."""
    flat = levels.ravel()
    words = rng.integers(0, 1 << 64, -(-flat.size // 4), dtype=np.uint64)  # 4 numbers in each
    uniform = words.view(np.uint16)[: flat.size]
    noise = np.empty(flat.size, np.float32)
    places, entries = [], []
    for start in range(0, flat.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        entry = np.left_shift(flat[block], _BIN_BITS, dtype=np.int64)
        entry |= uniform[block] >> (16 - _BIN_BITS)
        found = np.take(table.noise, entry, mode="clip", out=noise[block])
        unknown = np.flatnonzero(np.isnan(found))
        places.append(unknown + start)
        entries.append(entry[unknown])
    noise[np.concatenate(places)] = _search(table, np.concatenate(entries), rng)
    return noise.reshape(levels.shape)


def _search(table: _PhotonTable, entries: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of bins that hold more than one count: a uniform number within the bin decides."""
    uniform = ((entries & (_BINS - 1)) + rng.random(len(entries))) / _BINS
    low, high = table.first[entries], table.first[entries + 1]
    open_ = np.arange(len(entries))
    while len(open_):  # bisection; nearly always, there are two counts to choose from
        middle = (low[open_] + high[open_]) // 2
        is_above = table.below[middle] <= uniform[open_]
        low[open_] = np.where(is_above, middle + 1, low[open_])
        high[open_] = np.where(is_above, high[open_], middle)
        open_ = open_[low[open_] < high[open_]]
    return table.values[low]
