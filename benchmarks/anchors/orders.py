"""What both chains draw: the classical degradations of Real-ESRGAN (arXiv 2107.10833).

They come in two orders, one after the other.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.special

GRAY_CHANCE, GAUSSIAN_CHANCE, SECOND_BLUR_CHANCE = 0.4, 0.5, 0.8
JPEG_QUALITY = (30, 95)
MAX_TAPS = 21
_SINC_CHANCE = 0.1
_FAMILIES = ("gaussian", "gaussian", "generalized", "generalized", "plateau", "plateau")
_FAMILY_CHANCES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # isotropic and anisotropic in turn
BETAS = {"gaussian": (1.0, 1.0), "generalized": (0.5, 4.0), "plateau": (1.0, 2.0)}


class Kernel(NamedTuple):
    """One kernel; `family` is one of `BETAS` or sinc, which has a cutoff only."""

    family: str
    taps: int
    sigma_x: float
    sigma_y: float
    theta: float
    beta: float
    cutoff: float

    def pixels(self) -> np.ndarray:
        """(taps, taps), of sum 1."""
        axis = np.arange(self.taps) - self.taps // 2
        x, y = np.meshgrid(axis, axis)
        weights = self._sinc(np.hypot(x, y)) if self.family == "sinc" else self._bell(x, y)
        return weights / weights.sum()

    def _bell(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        cos, sin = math.cos(self.theta), math.sin(self.theta)
        power = ((cos * x + sin * y) / self.sigma_x) ** 2 + (
            (cos * y - sin * x) / self.sigma_y
        ) ** 2
        power = power**self.beta
        return 1 / (1 + power) if self.family == "plateau" else np.exp(-power / 2)

    def _sinc(self, radius: np.ndarray) -> np.ndarray:
        # J1(w r) w / (2 pi r), whose limit at 0 is w^2 / (4 pi).
        safe = np.where(radius == 0, 1, radius)
        ring = self.cutoff * scipy.special.j1(self.cutoff * safe) / (2 * np.pi * safe)
        return np.where(radius == 0, self.cutoff**2 / (4 * np.pi), ring)


def draw_kernel(rng: np.random.Generator, sigma: tuple[float, float]) -> Kernel:
    """Draw a kernel whose widths lie in a range, pixels."""
    taps = 2 * int(rng.integers(3, 11)) + 1
    number = int(rng.choice(len(_FAMILIES), p=_FAMILY_CHANCES))
    family = "sinc" if rng.random() < _SINC_CHANCE else _FAMILIES[number]
    sigma_x, is_round = rng.uniform(*sigma), number % 2 == 0
    least, most = BETAS.get(family, (1.0, 1.0))
    # As likely below 1 as above it; so half of all plateaus have exactly 1.
    beta = rng.uniform(least, 1) if rng.random() < 0.5 else rng.uniform(1, most)
    return Kernel(
        family=family,
        taps=taps,
        sigma_x=sigma_x,
        sigma_y=sigma_x if is_round else rng.uniform(*sigma),
        theta=0.0 if is_round else rng.uniform(-math.pi, math.pi),
        beta=beta,
        cutoff=rng.uniform(math.pi / (3 if taps < 13 else 5), math.pi),
    )


class Order(NamedTuple):
    """Ranges of one of the two orders; noise on the 0-255 scale."""

    sigma: tuple[float, float]
    resize_chances: tuple[float, float, float]
    """of up, down and neither"""
    factor: tuple[float, float]
    gaussian: tuple[float, float]
    poisson: tuple[float, float]
    factor_step: float
    """along a clip"""


FIRST = Order((0.2, 3), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), 0.015)
SECOND = Order((0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), 0.03)


def draw_factor(rng: np.random.Generator, order: Order) -> float:
    """Draw the factor of an order's resize."""
    least, most = order.factor
    ranges = ((1.0, most), (least, 1.0), (1.0, 1.0))
    return float(rng.uniform(*ranges[rng.choice(3, p=order.resize_chances)]))
