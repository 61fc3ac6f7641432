from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.draw import ResizeKernel
from tests.pictures import texture
from transforms.pixels import to_float
from transforms.resize import resize, resize_uint8

WHOLE_FACTORS: list[ResizeKernel] = ["bd", "gaussian"]
KERNELS: list[ResizeKernel] = [k for k in get_args(ResizeKernel) if k not in WHOLE_FACTORS]


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)


def gray(channel: np.ndarray) -> np.ndarray:
    return np.repeat(channel[:, :, None], 3, axis=2).astype(np.float32)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.25, [0.436591, 0.486158, 0.540380]), (0.5, [0.305352, 0.489842, 0.576151])],
)
def test_imresize_of_matlab_is_met_borders_included(factor: float, expected: list[float]) -> None:
    # Computed by a port of MATLAB's imresize that is independent of this code.
    image = np.random.default_rng(2).random((32, 48, 3)).astype(np.float32)
    resized = resize(image, round(32 * factor), round(48 * factor), "matlab_bicubic")
    found = [resized[0, 0, 0], resized[3, 5, 1], resized[-1, -1, 2]]
    assert found == pytest.approx(expected, abs=1e-6)


def pillow_bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    channels = [
        Image.fromarray(image[:, :, c]).resize((width, height), Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


@pytest.mark.parametrize(
    ("old", "new"),
    [((96, 120), (24, 30)), ((97, 121), (31, 40)), ((64, 48), (100, 77)), ((90, 90), (60, 72))],
)
def test_pillow_agrees_inside(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = random_image(*old)
    ours, theirs = resize(image, *new, "matlab_bicubic"), pillow_bicubic(image, *new)
    margin = 6  # Pillow does not mirror at the border
    inside = np.s_[margin:-margin, margin:-margin]
    assert ours[inside].size
    assert np.abs(ours - theirs)[inside].max() < 1e-5


@pytest.mark.parametrize("kernel", get_args(ResizeKernel))
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_image_stays_constant_up_to_its_borders(
    kernel: ResizeKernel, level: float
) -> None:
    image = np.full((36, 52, 3), level, np.float32)
    any_size = [(9, 13), (13, 17), (71, 53), (36, 52), (1, 1)]
    for size in [(9, 13)] if kernel in WHOLE_FACTORS else any_size:
        resized = resize(image, *size, kernel, sigma=1.2)
        assert resized.shape == (*size, 3) and resized.dtype == np.float32
        assert np.abs(resized - level).max() < 5e-6


def centre_of_mass(image: np.ndarray) -> np.ndarray:
    """(row, column) of an image that is one blob on black."""
    mass = image[:, :, 0].astype(float)
    rows, columns = np.indices(mass.shape)
    return np.array([(rows * mass).sum(), (columns * mass).sum()]) / mass.sum()


def blob(size: tuple[int, int], centre: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian with its centre at (row, column), black elsewhere."""
    rows, columns = np.indices(size)
    return gray(np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * sigma**2)))


SIZES = [
    ((96, 128), (24, 32)),
    ((96, 128), (48, 64)),
    ((97, 129), (40, 51)),
    ((97, 63), (61, 62)),
    ((33, 47), (66, 94)),
    ((33, 47), (71, 60)),
    ((48, 48), (48, 48)),
]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.43, 0.61)])
def test_no_kernel_moves_the_picture(
    kernel: ResizeKernel, old: tuple[int, int], new: tuple[int, int], place: tuple[float, float]
) -> None:
    factors = np.array(new) / old
    centre = np.array(place) * old - 0.5
    # Wide enough that the aliased kernels see a smooth blob too.
    sigma = 2 / min(1.0, *factors)
    resized = resize(blob(old, centre, sigma), *new, kernel)
    expected = (centre + 0.5) * factors - 0.5
    # Pixels of the result. OpenCV's bicubic (a = -0.75) bends straight ramps a little.
    tolerance = 0.03 if kernel in ("bicubic", "torch_bicubic") else 0.01
    if kernel == "torch_area":  # means of whole pixels, which begin and end where they must
        tolerance = 0.15
    assert np.abs(centre_of_mass(resized) - expected).max() < tolerance


def test_an_impulse_spreads_around_its_own_place() -> None:
    # 4x down, every position within a block: the mean over positions is the block's centre.
    masses = []
    for shift in range(4):
        image = np.zeros((64, 64, 3), np.float32)
        image[32 + shift, 32 + shift] = 1
        masses.append(centre_of_mass(resize(image, 16, 16, "matlab_bicubic")))
    assert np.mean(masses, axis=0) == pytest.approx([8, 8], abs=1e-4)
    for shift, mass in enumerate(masses):
        assert mass == pytest.approx([(32 + shift + 0.5) / 4 - 0.5] * 2, abs=0.04)


@pytest.mark.parametrize("kernel", get_args(ResizeKernel))
def test_a_turned_image_gives_the_turned_result(kernel: ResizeKernel) -> None:
    image = random_image(32, 48)
    resized = resize(image, 8, 12, kernel, sigma=2)
    flipped = resize(np.ascontiguousarray(image[::-1, ::-1]), 8, 12, kernel, sigma=2)
    assert np.abs(flipped[::-1, ::-1] - resized).max() < 1e-6
    turned = resize(np.ascontiguousarray(image.transpose(1, 0, 2)), 12, 8, kernel, sigma=2)
    assert np.abs(turned.transpose(1, 0, 2) - resized).max() < 1e-6


def slow_bd(image: np.ndarray) -> np.ndarray:
    """The BD degradation word for word.

    A Gaussian of sigma 1.6 in a window of 12x12, borders replicated, then every fourth pixel from
    the second one on. MATLAB puts the origin of an even window at its element 6 (1-based).
    """
    offsets = np.arange(12) - 5.5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.6**2))
    window /= window.sum()
    height, width, _ = image.shape
    blurred = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            for i in range(12):
                for j in range(12):
                    y = min(max(row + i - 5, 0), height - 1)
                    x = min(max(column + j - 5, 0), width - 1)
                    blurred[row, column] += window[i, j] * image[y, x]
    return blurred[1::4, 1::4]


@pytest.mark.parametrize("size", [(16, 20), (4, 8)])
def test_bd_is_what_its_definition_says_borders_included(size: tuple[int, int]) -> None:
    image = random_image(*size)
    resized = resize(image, size[0] // 4, size[1] // 4, "bd")
    assert np.abs(resized - slow_bd(image)).max() < 1e-6


def pillow_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    channels = [
        Image.fromarray(image[:, :, c]).resize((width, height), Image.Resampling.BILINEAR)
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


@pytest.mark.parametrize(
    ("old", "new"),
    [((96, 120), (24, 30)), ((97, 121), (31, 40)), ((64, 48), (100, 77)), ((90, 90), (60, 72))],
)
def test_matlabs_bilinear_is_pillows_inside_and_mirrors_at_the_border(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    image = random_image(*old)
    ours = resize(image, *new, "matlab_bilinear")
    inside = np.s_[3:-3, 3:-3]
    assert np.abs(ours - pillow_bilinear(image, *new))[inside].max() < 1e-5
    # The middle of nine pictures, each mirrored at its edges, has no border.
    mirrored = np.pad(image, ((old[0], old[0]), (old[1], old[1]), (0, 0)), mode="symmetric")
    large = pillow_bilinear(mirrored, 3 * new[0], 3 * new[1])
    middle = large[new[0] : 2 * new[0], new[1] : 2 * new[1]]
    assert np.abs(ours - middle).max() < 1e-5


def bsrgan_gaussian(image: np.ndarray, block: int, sigma: float) -> np.ndarray:
    """The Gaussian branch of BSRGAN's first downsampling, in two dimensions.

    25x25 taps, moved by (block - 1) / 2 to the lower right by bilinear interpolation with the
    last taps repeated, convolved with borders mirrored, every block-th pixel from the first on.
    """
    axis = np.arange(25.0)
    taps = np.exp(-((axis[:, None] - 12) ** 2 + (axis - 12) ** 2) / (2 * sigma**2))
    places = np.clip(axis + (block - 1) / 2, 0, 24)
    grid = np.meshgrid(places, places, indexing="ij")
    moved = scipy.ndimage.map_coordinates(taps, grid, order=1)
    moved /= moved.sum()
    blurred = scipy.ndimage.convolve(image.astype(float), moved[:, :, None], mode="mirror")
    return blurred[::block, ::block]


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.2, 2.4, 6.0])
@pytest.mark.parametrize("block", [1, 2, 3, 4, 8])
def test_the_gaussian_kernel_is_bsrgans_borders_included(block: int, sigma: float) -> None:
    image = random_image(block * 7, block * 5)
    resized = resize(image, 7, 5, "gaussian", sigma=sigma)
    assert np.abs(resized - bsrgan_gaussian(image, block, sigma)).max() < 2e-6


@pytest.mark.parametrize("block", [2, 3, 4])
def test_the_gaussian_kernel_samples_at_the_centre_of_each_block(block: int) -> None:
    centre = np.array([47.0, 66.5])
    resized = resize(blob((96, 144), centre, 8), 96 // block, 144 // block, "gaussian", sigma=1.5)
    expected = (centre + 0.5) / block - 0.5
    assert np.abs(centre_of_mass(resized) - expected).max() < 1e-3


def test_the_gaussian_kernel_refuses_broken_factors_and_no_sigma() -> None:
    with pytest.raises(ValueError, match="shrinks by whole factors, not from 32 to 9"):
        resize(random_image(32, 32), 9, 8, "gaussian", sigma=1)
    with pytest.raises(ValueError, match="shrinks by whole factors, not from 8 to 16"):
        resize(random_image(8, 8), 16, 16, "gaussian", sigma=1)
    with pytest.raises(ValueError, match="the gaussian kernel needs one above 0"):
        resize(random_image(32, 32), 8, 8, "gaussian")


def interpolate(image: np.ndarray, mode: str, **options: object) -> np.ndarray:
    """torch's own function on an (H, W, 3) image."""
    if mode != "area":
        options["align_corners"] = False
    batch = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    resized = F.interpolate(batch, mode=mode, **options)  # type: ignore[arg-type]
    return resized[0].numpy().transpose(1, 2, 0)


SIDES = st.integers(1, 60)
MODES = st.sampled_from(["area", "bilinear", "bicubic"])


def torch_kernel(mode: str) -> ResizeKernel:
    return next(kernel for kernel in KERNELS if kernel == f"torch_{mode}")


@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES), mode=MODES)
def test_torch_kernels_are_torchs_for_a_size(
    old: tuple[int, int], new: tuple[int, int], mode: str
) -> None:
    image = random_image(*old)
    expected = interpolate(image, mode, size=new)
    # torch keeps positions in float32.
    assert np.abs(resize(image, *new, torch_kernel(mode)) - expected).max() < 2e-5


@given(old=st.tuples(SIDES, SIDES), factor=st.floats(0.15, 2), mode=MODES)
def test_torch_kernels_are_torchs_for_a_factor(
    old: tuple[int, int], factor: float, mode: str
) -> None:
    image = random_image(*old)
    size = int(old[0] * factor), int(old[1] * factor)
    if min(size):
        expected = interpolate(image, mode, scale_factor=factor)
        assert expected.shape[:2] == size
        resized = resize(image, *size, torch_kernel(mode), factor=factor)
        assert np.abs(resized - expected).max() < 2e-5


def test_a_nominal_factor_moves_the_picture() -> None:
    # 50 * 0.33 is 16.5: of 16 pixels, spaced 1 / 0.33 apart, the last ends at 48.5.
    rows = gray(np.broadcast_to(np.arange(50.0)[:, None], (50, 50)))
    by_size = resize(rows, 16, 16, "torch_bilinear")[-1, 0, 0]
    by_factor = resize(rows, 16, 16, "torch_bilinear", factor=0.33)[-1, 0, 0]
    assert by_size == pytest.approx(15.5 * 50 / 16 - 0.5)
    assert by_factor == pytest.approx(15.5 / 0.33 - 0.5)


def test_bd_samples_at_the_centre_of_each_block_of_4() -> None:
    centre = np.array([47.0, 66.5])
    resized = resize(blob((96, 128), centre, 8), 24, 32, "bd")
    expected = (centre + 0.5) / 4 - 0.5
    assert np.abs(centre_of_mass(resized) - expected).max() < 1e-3
    rows = np.arange(64, dtype=float)
    ramp = gray(np.broadcast_to(rows[:, None], (64, 64)))
    inner = resize(ramp, 16, 16, "bd")[3:-3, 3:-3, 0]
    expected_rows = np.broadcast_to(4 * np.arange(3, 13)[:, None] + 1.5, (10, 10))
    assert inner == pytest.approx(expected_rows, abs=1e-4)


@pytest.mark.parametrize(
    ("old", "new"),
    [((32, 32), (16, 16)), ((32, 32), (8, 9)), ((33, 32), (8, 8)), ((8, 8), (32, 32))],
)
def test_bd_refuses_other_factors_than_4(old: tuple[int, int], new: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="the bd kernel shrinks by 4, not from"):
        resize(random_image(*old), *new, "bd")


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = random_image(37, 53)
    for kernel in KERNELS:
        assert np.abs(resize(image, 37, 53, kernel) - image).max() < 1e-6


def test_tiny_images_are_resized_too() -> None:
    for size in ((1, 1), (1, 5), (2, 3)):
        image = random_image(*size)
        for new in ((1, 1), (3, 4), (16, 16)):
            for kernel in KERNELS:
                resized = resize(image, *new, kernel)
                assert resized.shape == (*new, 3) and np.isfinite(resized).all()


def test_channels_do_not_mix() -> None:
    image = random_image(24, 36)
    for kernel in KERNELS:
        whole = resize(image, 6, 9, kernel)
        for channel in range(3):
            alone = resize(gray(image[:, :, channel]), 6, 9, kernel)
            assert np.array_equal(alone[:, :, 0], whole[:, :, channel])


def test_the_aliased_kernels_are_opencvs_and_the_antialiased_one_is_not() -> None:
    stripes = gray(np.indices((64, 64))[1] % 2)
    assert np.ptp(resize(stripes, 16, 16, "matlab_bicubic")[2:-2, 2:-2]) < 0.02
    image = random_image(64, 64)
    expected = cv2.resize(image, (23, 29), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(resize(image, 29, 23, "bicubic"), expected)
    blocks = image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize(image, 16, 16, "area") - blocks).max() < 1e-6


def test_sharp_edges_overshoot_and_uint8_is_clipped() -> None:
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    as_float = resize(edge.astype(np.float32), 64, 64, "matlab_bicubic")
    assert as_float.min() < -5 and as_float.max() > 260
    as_uint8 = resize_uint8(edge, 64, 64)
    assert as_uint8.dtype == np.uint8
    assert np.array_equal(as_uint8, np.clip(np.rint(as_float), 0, 255))


def test_equal_images_give_equal_bytes() -> None:
    picture = texture(61, 83)
    first, second = resize_uint8(picture, 17, 29), resize_uint8(picture.copy(), 17, 29)
    assert first.tobytes() == second.tobytes()
    assert first.flags.c_contiguous


@given(
    old=st.tuples(SIDES, SIDES),
    new=st.tuples(SIDES, SIDES),
    kernel=st.sampled_from(KERNELS),
)
def test_any_picture_is_resized_alike_every_time(
    old: tuple[int, int], new: tuple[int, int], kernel: ResizeKernel
) -> None:
    image = random_image(*old)
    before = image.copy()
    resized = resize(image, *new, kernel)
    assert resized.shape == (*new, 3) and resized.dtype == np.float32
    assert np.isfinite(resized).all() and np.abs(resized).max() < 3
    assert np.array_equal(resized, resize(image, *new, kernel))
    assert np.array_equal(image, before)


@pytest.mark.parametrize("kernel", ["area", "bilinear", "bicubic"])
def test_other_threads_make_the_same_pixels(kernel: ResizeKernel) -> None:
    # OpenCV's switch that makes them differ is each thread's own.
    image = to_float(texture(90, 131))
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(resize, image, 57, 77, kernel).result()
    assert np.array_equal(there, resize(image, 57, 77, kernel))
