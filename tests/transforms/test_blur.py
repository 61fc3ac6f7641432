from typing import get_args

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from schemas.draw import BlurDraw, BlurKernel
from tests.pictures import texture
from transforms.blur import (
    Kernel,
    _seen_taps,
    blur,
    blur_kernel,
    convolve,
    gaussian_taps,
    kernel_at,
)
from transforms.pixels import to_float

SIZES = (7, 13, 21)
LEVEL = 1 / 255
BOUND = 2e-4 * LEVEL  # what transforms.blur promises


def blur_draw(kernel: BlurKernel = "isotropic", size: int = 15, **changes: float) -> BlurDraw:
    values = {
        "sigma_x": 2.0,
        "sigma_y": 2.0 if "aniso" not in kernel else 0.7,
        "theta": 0.0 if "aniso" not in kernel else 0.6,
        "beta": 1.0,
        "cutoff": 1.5 if kernel == "sinc" else 0.0,
    }
    per_frame = {name: [value] for name, value in (values | changes).items()}
    return BlurDraw.model_validate({"kernel": kernel, "size": size} | per_frame)


def taps_of(draw: BlurDraw) -> np.ndarray:
    return blur_kernel(kernel_at(draw, 0))


def flat(level: float, side: int = 256) -> np.ndarray:
    return np.full((side, side, 3), level, np.float32)


def direct(image: np.ndarray, draw: BlurDraw) -> np.ndarray:
    """The convolution by summation, in float64; "mirror" does not repeat the edge."""
    taps = taps_of(draw).astype(float)[:, :, None]
    return scipy.ndimage.convolve(image.astype(float), taps, mode="mirror")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", get_args(BlurKernel))
def test_every_kernel_sums_to_1_and_is_its_own_mirror_image(kernel: BlurKernel, size: int) -> None:
    taps = taps_of(blur_draw(kernel, size=size, beta=1.7))
    assert taps.shape == (size, size) and taps.dtype == np.float32
    assert taps.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(taps - taps[::-1, ::-1]).max() < 1e-7  # so that it moves nothing
    assert taps.max() == taps[size // 2, size // 2]


@pytest.mark.parametrize(
    "kernel", [k for k in get_args(BlurKernel) if "isotropic" in k and "aniso" not in k]
)
def test_isotropic_kernels_look_the_same_from_all_sides(kernel: BlurKernel) -> None:
    taps = taps_of(blur_draw(kernel, beta=0.8))
    for other in (taps.T, taps[::-1], np.rot90(taps)):
        assert np.abs(taps - other).max() < 1e-7


def spread(taps: np.ndarray) -> np.ndarray:
    """Second moments [[xx, xy], [xy, yy]] of a kernel."""
    axis = np.arange(len(taps)) - len(taps) // 2
    x, y = np.meshgrid(axis, axis)
    xx, xy, yy = ((taps * a * b).sum() for a, b in ((x, x), (x, y), (y, y)))
    return np.array([[xx, xy], [xy, yy]])


def test_gaussians_have_the_drawn_deviations_along_the_drawn_axes() -> None:
    level = blur_draw("anisotropic", size=21, sigma_x=2.5, sigma_y=1.0, theta=0.0)
    assert spread(taps_of(level)) == pytest.approx(np.diag([2.5**2, 1.0]), abs=0.03)
    theta = 0.5
    turned = taps_of(level.model_copy(update={"theta": [theta]}))
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    expected = turn @ np.diag([2.5**2, 1.0]) @ turn.T
    assert spread(turned) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("beta", [0.6, 1.0, 3.0])
@pytest.mark.parametrize("kernel", ["generalized_anisotropic", "plateau_anisotropic"])
def test_kernels_follow_their_formulas(kernel: BlurKernel, beta: float) -> None:
    draw = blur_draw(kernel, size=9, sigma_x=1.8, sigma_y=0.9, theta=-0.4, beta=beta)
    turn = np.array([[np.cos(-0.4), -np.sin(-0.4)], [np.sin(-0.4), np.cos(-0.4)]])
    inverse = np.linalg.inv(turn @ np.diag([1.8**2, 0.9**2]) @ turn.T)
    expected = np.empty((9, 9))
    for row in range(9):
        for column in range(9):
            place = np.array([column - 4, row - 4])
            q = place @ inverse @ place
            is_plateau = kernel.startswith("plateau")
            expected[row, column] = 1 / (1 + q**beta) if is_plateau else np.exp(-(q**beta) / 2)
    assert taps_of(draw) == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_plain_gaussians_ignore_beta_of_1() -> None:
    one, other = blur_draw("isotropic"), blur_draw("generalized_isotropic", beta=1)
    assert np.array_equal(taps_of(one), taps_of(other))


@pytest.mark.parametrize("cutoff", [np.pi / 5, 1.2, 2.5])
def test_a_sinc_kernel_passes_what_is_below_its_cutoff(cutoff: float) -> None:
    taps = taps_of(blur_draw("sinc", size=21, cutoff=cutoff)).astype(float)
    axis = np.arange(21) - 10
    gains = {w: float((taps * np.cos(w * axis)[None, :]).sum()) for w in np.linspace(0, np.pi, 40)}
    assert all(abs(gain - 1) < 0.2 for w, gain in gains.items() if w < cutoff - 0.4)
    assert all(abs(gain) < 0.2 for w, gain in gains.items() if w > cutoff + 0.4)


def test_blur_is_a_convolution_with_mirrored_borders() -> None:
    image = to_float(texture(20, 24))
    draw = blur_draw("anisotropic", size=7)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    taps = taps_of(draw)
    expected = np.zeros_like(image)
    for row in range(7):
        for column in range(7):
            expected += taps[row, column] * padded[row : row + 20, column : column + 24]
    assert blur(image, draw, 0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [(360, 360), (90, 91), (131, 257)])
@pytest.mark.parametrize("kernel", get_args(BlurKernel))
def test_it_differs_from_opencvs_direct_filter_by_less_than_the_promise(
    kernel: BlurKernel, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).random((*size, 3)).astype(np.float32)
    draw = blur_draw(kernel, size=21, beta=1.3)
    taps = taps_of(draw).astype(float)
    expected = cv2.filter2D(image, cv2.CV_64F, taps, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(blur(image, draw, 0) - expected).max() < BOUND


def test_only_taps_that_cannot_be_seen_are_left_out() -> None:
    narrow = Kernel("anisotropic", 21, 0.5, 0.4, theta=0.3)
    whole, seen = blur_kernel(narrow), _seen_taps(narrow)
    assert len(seen) < 9
    assert np.abs(whole).sum() - np.abs(seen).sum() < 1e-6
    wide = Kernel("sinc", 21, 0, 0, cutoff=1.5)
    assert np.array_equal(_seen_taps(wide), blur_kernel(wide))
    assert len(gaussian_taps(21, 0.5)) < 9 and len(gaussian_taps(21, 3.0)) == 21
    assert gaussian_taps(21, 0.01).tolist() == [1]


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    radius=st.integers(0, 15),
    kernel=st.sampled_from(get_args(BlurKernel)),
    seed=st.integers(0, 99),
)
def test_any_picture_takes_any_kernel_even_a_larger_one(
    height: int, width: int, radius: int, kernel: BlurKernel, seed: int
) -> None:
    image = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    before = image.copy()
    draw = blur_draw(kernel, size=2 * radius + 1)
    blurred = blur(image, draw, 0)
    assert blurred.shape == image.shape and blurred.dtype == np.float32
    assert blurred.flags.c_contiguous
    assert np.abs(blurred - direct(image, draw)).max() < BOUND
    assert np.array_equal(image, before)
    assert blur(image[:, ::-1], draw, 0).shape == image.shape  # not contiguous


def test_equal_pictures_give_equal_bytes_whatever_was_blurred_before() -> None:
    image, draw = to_float(texture(50, 70)), blur_draw("anisotropic")
    first = blur(image, draw, 0)
    for size in range(7, 27, 2):
        blur(image, blur_draw("sinc", size=size), 0)
    assert np.array_equal(blur(image.copy(), draw, 0), first)


@pytest.mark.parametrize("kernel", get_args(BlurKernel))
def test_blur_keeps_a_flat_image_and_moves_nothing(kernel: BlurKernel) -> None:
    draw = blur_draw(kernel, size=9)
    assert np.abs(blur(flat(0.7, 32), draw, 0) - 0.7).max() < 1e-5
    impulse = np.zeros((33, 33, 3), np.float32)
    impulse[16, 16] = 1
    spot = blur(impulse, draw, 0)[:, :, 0]
    assert (spot * np.arange(33)).sum() / spot.sum() == pytest.approx(16, abs=1e-3)
    assert (spot * np.arange(33)[:, None]).sum() / spot.sum() == pytest.approx(16, abs=1e-3)


def test_a_kernel_may_change_from_frame_to_frame() -> None:
    image = to_float(texture(40, 40))
    walking = blur_draw().model_copy(
        update={"sigma_x": [0.5, 1.5, 2.5], "sigma_y": [0.5, 1.5, 2.5]}
    )
    for frame, sigma in enumerate((0.5, 1.5, 2.5)):
        alone = blur_draw(sigma_x=sigma, sigma_y=sigma)
        assert np.array_equal(blur(image, walking, frame), blur(image, alone, 0))
        assert np.array_equal(blur(image, alone, frame), blur(image, alone, 0))


def test_pictures_of_other_channel_counts_are_taken_too() -> None:
    image = to_float(texture(30, 20))
    kernel = Kernel("isotropic", 9, 1.5, 1.5)
    one = convolve(image[:, :, 1:2], kernel)
    assert np.array_equal(one, convolve(image, kernel)[:, :, 1:2])
