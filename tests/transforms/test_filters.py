import io
from typing import Literal, get_args

import cv2
import numpy as np
import pytest
from PIL import Image

from schemas.draw import BlurDraw, BlurKernel, JpegDraw, NoiseDraw
from tests.pictures import texture
from transforms.filters import (
    blur,
    blur_kernel,
    jpeg,
    luma_std,
    noise,
    to_float,
    to_uint8,
)

SIZES = (7, 13, 21)


def blur_draw(kernel: BlurKernel = "isotropic", **changes: object) -> BlurDraw:
    values: dict[str, object] = {
        "kernel": kernel,
        "size": 15,
        "sigma_x": 2.0,
        "sigma_y": 2.0 if "aniso" not in kernel else 0.7,
        "theta": 0.0 if "aniso" not in kernel else 0.6,
        "beta": 1.0,
        "cutoff": 1.5 if kernel == "sinc" else 0.0,
    }
    return BlurDraw.model_validate(values | changes)


def noise_draw(
    kind: Literal["gaussian", "poisson"] = "gaussian",
    level: float = 10,
    gray: bool = False,
    seed: int = 1,
    frames: int = 3,
) -> NoiseDraw:
    return NoiseDraw(kind=kind, level=[level] * frames, gray=[gray] * frames, seed=seed)


def flat(level: float, side: int = 256) -> np.ndarray:
    return np.full((side, side, 3), level, np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", get_args(BlurKernel))
def test_every_kernel_sums_to_1_and_is_its_own_mirror_image(kernel: BlurKernel, size: int) -> None:
    taps = blur_kernel(blur_draw(kernel, size=size, beta=1.7))
    assert taps.shape == (size, size) and taps.dtype == np.float32
    assert taps.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(taps - taps[::-1, ::-1]).max() < 1e-7  # so that it moves nothing
    assert taps.max() == taps[size // 2, size // 2]


@pytest.mark.parametrize(
    "kernel", [k for k in get_args(BlurKernel) if "isotropic" in k and "aniso" not in k]
)
def test_isotropic_kernels_look_the_same_from_all_sides(kernel: BlurKernel) -> None:
    taps = blur_kernel(blur_draw(kernel, beta=0.8))
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
    assert spread(blur_kernel(level)) == pytest.approx(np.diag([2.5**2, 1.0]), abs=0.03)
    theta = 0.5
    turned = blur_kernel(level.model_copy(update={"theta": theta}))
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
    assert blur_kernel(draw) == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_plain_gaussians_ignore_beta_of_1() -> None:
    one, other = blur_draw("isotropic"), blur_draw("generalized_isotropic", beta=1)
    assert np.array_equal(blur_kernel(one), blur_kernel(other))


@pytest.mark.parametrize("cutoff", [np.pi / 5, 1.2, 2.5])
def test_a_sinc_kernel_passes_what_is_below_its_cutoff(cutoff: float) -> None:
    taps = blur_kernel(blur_draw("sinc", size=21, cutoff=cutoff)).astype(float)
    axis = np.arange(21) - 10
    gains = {w: float((taps * np.cos(w * axis)[None, :]).sum()) for w in np.linspace(0, np.pi, 40)}
    assert all(abs(gain - 1) < 0.2 for w, gain in gains.items() if w < cutoff - 0.4)
    assert all(abs(gain) < 0.2 for w, gain in gains.items() if w > cutoff + 0.4)


def test_blur_is_a_convolution_with_mirrored_borders() -> None:
    image = to_float(texture(20, 24))
    draw = blur_draw("anisotropic", size=7)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    taps = blur_kernel(draw)
    expected = np.zeros_like(image)
    for row in range(7):
        for column in range(7):
            expected += taps[row, column] * padded[row : row + 20, column : column + 24]
    assert blur(image, draw) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kernel", get_args(BlurKernel))
def test_blur_keeps_a_flat_image_and_moves_nothing(kernel: BlurKernel) -> None:
    draw = blur_draw(kernel, size=9)
    assert np.abs(blur(flat(0.7, 32), draw) - 0.7).max() < 1e-5
    impulse = np.zeros((33, 33, 3), np.float32)
    impulse[16, 16] = 1
    spot = blur(impulse, draw)[:, :, 0]
    assert (spot * np.arange(33)).sum() / spot.sum() == pytest.approx(16, abs=1e-3)
    assert (spot * np.arange(33)[:, None]).sum() / spot.sum() == pytest.approx(16, abs=1e-3)


@pytest.mark.parametrize("sigma", [1.0, 10.0, 30.0])
def test_gaussian_noise_has_the_drawn_deviation_on_the_255_scale(sigma: float) -> None:
    added = 255 * (noise(flat(0.5), noise_draw(level=sigma), 0) - 0.5)
    assert added.std() == pytest.approx(sigma, rel=0.02)
    assert abs(added.mean()) < 0.02 * sigma
    channels = added.reshape(-1, 3).T
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_gray_noise_is_one_pattern_in_all_channels(kind: Literal["gaussian", "poisson"]) -> None:
    image = to_float(np.clip(texture(64, 64), 80, 170))
    level = 5 if kind == "gaussian" else 0.5
    gray, coloured = (
        noise(image, noise_draw(kind, level=level, gray=is_gray), 0) - image
        for is_gray in (True, False)
    )
    assert np.abs(gray - gray[:, :, :1]).max() < 1e-6
    assert np.abs(coloured - coloured[:, :, :1]).max() > 0.01
    assert gray.std() > 0.005


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_noise_is_fresh_in_every_frame_and_the_same_for_the_same_draw(
    kind: Literal["gaussian", "poisson"],
) -> None:
    image, draw = to_float(texture(48, 48)), noise_draw(kind, level=2)
    frames = [noise(image, draw, t) - image for t in range(3)]
    assert np.array_equal(noise(image, draw, 1) - image, frames[1])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(frames[one].ravel(), frames[other].ravel())[0, 1]) < 0.1
    reseeded = noise(image, draw.model_copy(update={"seed": 2}), 0) - image
    assert abs(np.corrcoef(reseeded.ravel(), frames[0].ravel())[0, 1]) < 0.1


def test_the_level_is_that_of_the_frame() -> None:
    draw = NoiseDraw(kind="gaussian", level=[0, 20], gray=[False, True], seed=3)
    assert np.array_equal(noise(flat(0.5), draw, 0), flat(0.5))
    assert (255 * noise(flat(0.5), draw, 1)).std() == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("levels", [2, 3, 100, 256])
@pytest.mark.parametrize("scale", [0.05, 0.2])
def test_the_variance_of_poisson_noise_follows_the_formula(levels: int, scale: float) -> None:
    # As many photons at full scale as the next power of two above the number of levels: the
    # variance at signal s is scale^2 * s / photons. Half of the image is one level in the middle.
    image = flat(128 / 255)
    used = np.rint(np.linspace(100, 156, levels - 1)) if levels < 50 else np.arange(256)[-levels:]
    image[128:] = (np.resize(used, (128, 256, 3)) / 255).astype(np.float32)
    distinct = len(np.unique(np.rint(image * 255)))
    photons = 2 ** int(np.ceil(np.log2(distinct)))
    added = (noise(image, noise_draw("poisson", level=scale), 0) - image)[:128]
    expected = scale * np.sqrt(128 / 255 / photons)
    assert added.std() == pytest.approx(expected, rel=0.03)
    assert abs(added.mean()) < 0.05 * expected


def test_poisson_noise_grows_with_the_signal_and_spares_black() -> None:
    image = np.concatenate([flat(0, 64), flat(0.2, 64), flat(0.6, 64)])
    added = noise(image, noise_draw("poisson", level=0.3), 0) - image
    deviations = [added[64 * k : 64 * (k + 1)].std() for k in range(3)]
    assert deviations[0] == 0
    assert deviations[2] / deviations[1] == pytest.approx(np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_noise_is_clipped_to_the_range_of_an_image(
    kind: Literal["gaussian", "poisson"], level: float
) -> None:
    noisy = noise(flat(level, 64), noise_draw(kind, level=60 if kind == "gaussian" else 3), 0)
    assert noisy.dtype == np.float32
    assert noisy.min() >= 0 and noisy.max() <= 1
    assert kind == "poisson" or 0.3 < (noisy == level).mean() < 0.7


def jpeg_psnr(image: np.ndarray, quality: int) -> float:
    coded = jpeg(image, JpegDraw(quality=[quality]), 0)
    return float(-10 * np.log10(np.mean((coded - image) ** 2)))


def test_jpeg_gets_better_with_its_quality() -> None:
    image = to_float(texture(96, 120))
    values = [jpeg_psnr(image, quality) for quality in (1, 10, 30, 50, 75, 95, 100)]
    assert values == sorted(values)
    assert values[0] < 22 and values[-1] > 33


@pytest.mark.parametrize("size", [(64, 64), (45, 67), (1, 1), (8, 3)])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_is_420_as_pillow_writes_it(size: tuple[int, int], quality: int) -> None:
    picture = texture(*size)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
    theirs = np.asarray(Image.open(buffer)).astype(float)
    ours = 255 * jpeg(to_float(picture), JpegDraw(quality=[quality]), 0)
    assert ours.shape == picture.shape and ours.dtype == np.float32
    assert np.abs(ours - theirs).mean() < 0.5
    sharp_chroma = io.BytesIO()
    Image.fromarray(picture).save(sharp_chroma, "JPEG", quality=quality, subsampling=0)
    if min(size) > 16:
        other = np.asarray(Image.open(sharp_chroma)).astype(float)
        assert np.abs(ours - other).mean() > 1


def test_jpeg_takes_the_quality_of_the_frame_and_keeps_colours_in_place() -> None:
    red = np.zeros((32, 32, 3), np.float32)
    red[:, :, 0] = 1
    draw = JpegDraw(quality=[5, 95])
    assert jpeg(red, draw, 1)[16, 16] == pytest.approx([1, 0, 0], abs=0.02)
    image = to_float(texture(64, 64))
    errors = [np.abs(jpeg(image, draw, frame) - image).mean() for frame in (0, 1)]
    assert errors[0] > 2 * errors[1]


def test_luma_std_is_that_of_bt601_luma() -> None:
    assert luma_std(np.full((9, 7, 3), 200, np.uint8)) == pytest.approx(0, abs=1e-3)
    halves = np.zeros((10, 10, 3), np.uint8)
    halves[:5] = 255
    assert luma_std(halves) == pytest.approx(127.5)
    green = np.zeros((10, 10, 3), np.uint8)
    green[:5, :, 1] = 100
    assert luma_std(green) == pytest.approx(0.587 * 50, abs=1e-3)
    picture = texture(40, 30)
    assert luma_std(picture) == pytest.approx(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).std(), 0.01)
    assert luma_std(texture(1, 1)) == 0


def test_uint8_and_back_is_exact_and_floats_are_rounded_and_clipped() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(to_uint8(to_float(every)), every)
    assert to_float(every).dtype == np.float32 and to_float(every).max() == 1
    values = np.array([-0.5, -0.001, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0, 1.7], np.float32)
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 254, 255, 255]
