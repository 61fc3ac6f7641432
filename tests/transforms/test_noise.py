from typing import get_args

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from schemas.draw import NoiseDraw, NoiseKind
from tests.pictures import texture
from transforms.noise import _normal, _normal_tables, _photon_table, noise
from transforms.pixels import to_float

KINDS = get_args(NoiseKind)
# Levels that are well visible and hardly clip on a picture of middle tones.
VISIBLE = {"gaussian": 5.0, "poisson": 0.5, "speckle": 0.05, "camera": 0.01}


def noise_draw(
    kind: NoiseKind = "gaussian",
    level: float | None = None,
    gray: bool = False,
    seed: int = 1,
    **changes: object,
) -> NoiseDraw:
    values = {
        "kind": kind,
        "level": [VISIBLE[kind] if level is None else level],
        "gray": [gray],
        "seed": seed,
    }
    return NoiseDraw.model_validate(values | changes)


def flat(level: float, side: int = 256) -> np.ndarray:
    return np.full((side, side, 3), level, np.float32)


def middle_tones(side: int = 64) -> np.ndarray:
    return to_float(np.clip(texture(side, side), 80, 170))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("sigma", [1.0, 10.0, 30.0])
def test_gaussian_noise_has_the_drawn_deviation_on_the_255_scale(sigma: float) -> None:
    added = 255 * (noise(flat(0.5), noise_draw(level=sigma), 0) - 0.5)
    assert added.std() == pytest.approx(sigma, rel=0.02)
    assert abs(added.mean()) < 0.02 * sigma
    channels = added.reshape(-1, 3).T
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.03


def test_gaussian_noise_is_gaussian() -> None:
    added = 255 * (noise(flat(0.5), noise_draw(level=20), 0).astype(float) - 0.5)
    assert scipy.stats.kstest(added.ravel() / 20, "norm").pvalue > 0.01


def test_the_look_up_is_the_normal_distribution_far_into_its_tails() -> None:
    samples = _normal(np.random.default_rng(7), 4_000_001)  # no multiple of four
    assert scipy.stats.kstest(samples, "norm").pvalue > 0.01
    for deviations in (2.8, 2.9, 3.5, 4.0):
        for tail in (samples > deviations, samples < -deviations):
            expected = scipy.stats.norm.sf(deviations) * len(samples)
            assert abs(tail.sum() - expected) < 4 * np.sqrt(expected)
    body, tails = _normal_tables()
    assert np.all(np.diff(tails[: len(tails) // 2]) >= 0) and np.all(tails == -tails[::-1])
    weight = len(tails) / 2**24  # of the tails, which replace the outer entries
    inner = body[len(tails) // 512 : -len(tails) // 512]
    variance = (1 - weight) * np.mean(inner.astype(float) ** 2)
    assert variance + weight * np.mean(tails.astype(float) ** 2) == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gray_noise_is_one_pattern_in_all_channels(kind: NoiseKind) -> None:
    image = middle_tones()
    if kind in ("speckle", "camera"):  # these follow each channel's own signal
        image = np.repeat(image[:, :, :1], 3, axis=2)
    gray, coloured = (
        noise(image, noise_draw(kind, gray=is_gray), 0) - image for is_gray in (True, False)
    )
    assert np.abs(gray - gray[:, :, :1]).max() < 1e-6
    assert np.abs(coloured - coloured[:, :, :1]).max() > 0.01
    assert gray.std() > 0.005


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_fresh_in_every_frame_and_the_same_for_the_same_draw(kind: NoiseKind) -> None:
    image, draw = middle_tones(), noise_draw(kind)
    frames = [noise(image, draw, t) - image for t in range(3)]
    assert np.array_equal(noise(image, draw, 1) - image, frames[1])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation(frames[one], frames[other])) < 0.1
    reseeded = noise(image, noise_draw(kind, seed=2), 0) - image
    assert abs(correlation(reseeded, frames[0])) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_static_noise_is_one_pattern_scaled_by_each_frames_level(kind: NoiseKind) -> None:
    image = middle_tones(128)
    level = VISIBLE[kind]
    changing = noise_draw(kind).model_copy(update={"level": [level, level / 2, level]})
    static = changing.model_copy(update={"static": [True]})
    added = [noise(image, static, t) - image for t in range(3)]
    assert np.array_equal(added[0], added[2])
    assert correlation(added[0], added[1]) > 0.98
    expected = 2 if kind != "camera" else np.sqrt(2)  # a camera's level is a variance
    assert added[0].std() / added[1].std() == pytest.approx(expected, rel=0.05)
    own = noise(image, changing, 0) - image
    assert abs(correlation(own, added[0])) < 0.1
    mixed = changing.model_copy(update={"static": [True, False, True]})
    assert np.array_equal(noise(image, mixed, 1), noise(image, changing, 1))


def test_the_level_is_that_of_the_frame() -> None:
    draw = noise_draw().model_copy(update={"level": [0.0, 20.0], "gray": [False, True]})
    assert np.array_equal(noise(flat(0.5), draw, 0), flat(0.5))
    assert (255 * noise(flat(0.5), draw, 1)).std() == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("kind", ["gaussian", "speckle"])
def test_channels_are_correlated_as_the_covariance_says(kind: NoiseKind) -> None:
    turn = scipy.stats.ortho_group.rvs(3, random_state=3)
    covariance = turn @ np.diag([1.0, 0.5, 0.1]) @ turn.T
    level = 10.0 if kind == "gaussian" else 20 / 255
    draw = noise_draw(kind, level=level, covariance=covariance.ravel().tolist())
    added = 255 * (noise(flat(0.5), draw, 0) - 0.5)
    found = np.cov(added.reshape(-1, 3).T) / 10**2
    assert found == pytest.approx(covariance, abs=0.015)


def test_the_unit_covariance_and_a_singular_one_are_taken() -> None:
    plain = noise(flat(0.5), noise_draw(), 0)
    unit = noise(flat(0.5), noise_draw(covariance=np.eye(3).ravel().tolist()), 0)
    assert np.abs(plain - unit).max() < 1e-6
    gray = noise(flat(0.5), noise_draw(covariance=[1.0] * 9), 0)
    assert np.abs(gray - gray[:, :, :1]).max() < 1e-6
    assert (255 * gray).std() == pytest.approx(VISIBLE["gaussian"], rel=0.02)


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_speckle_is_proportional_to_the_signal(level: float) -> None:
    deviations = []
    for signal in (0.0, 0.2, 0.4):
        added = noise(flat(signal), noise_draw("speckle", level=level), 0) - flat(signal)
        deviations.append(float(added.std()))
    assert deviations == pytest.approx([0, 0.2 * level, 0.4 * level], rel=0.02)


def test_camera_noise_has_shot_and_read_variance_in_linear_light() -> None:
    shot, read = 0.004, 1e-5
    for signal in (0.2, 0.5, 0.7):
        draw = noise_draw("camera", level=shot, read_level=[read])
        noisy = noise(flat(signal), draw, 0).astype(float)
        light, dark = (((v + 0.055) / 1.055) ** 2.4 for v in (noisy, signal))
        assert light.var() == pytest.approx(shot * dark + read, rel=0.03)
        assert light.mean() == pytest.approx(dark, abs=3e-4)


def test_a_camera_without_noise_changes_nothing_that_can_be_seen() -> None:
    ramp = np.linspace(0, 1, 3 * 40_000, dtype=np.float32).reshape(200, 200, 3)
    same = noise(ramp, noise_draw("camera", level=0), 0)
    assert np.abs(same - ramp).max() * 255 < 0.03


def photons_of(image: np.ndarray) -> int:
    distinct = len(np.unique(np.rint(image * 255)))
    return int(2 ** np.ceil(np.log2(max(2, distinct))))


@pytest.mark.parametrize("levels", [2, 3, 100, 256])
@pytest.mark.parametrize("scale", [0.05, 0.2])
def test_the_variance_of_poisson_noise_follows_the_formula(levels: int, scale: float) -> None:
    # As many photons at full scale as the next power of two above the number of levels: the
    # variance at signal s is scale^2 * s / photons. Half of the image is one level in the middle.
    image = flat(128 / 255)
    used = np.rint(np.linspace(100, 156, levels - 1)) if levels < 50 else np.arange(256)[-levels:]
    image[128:] = (np.resize(used, (128, 256, 3)) / 255).astype(np.float32)
    added = (noise(image, noise_draw("poisson", level=scale), 0) - image)[:128]
    expected = scale * np.sqrt(128 / 255 / photons_of(image))
    assert added.std() == pytest.approx(expected, rel=0.03)
    assert abs(added.mean()) < 0.05 * expected


def bars(levels: list[int], distinct: int, rows: int = 250, columns: int = 400) -> np.ndarray:
    """Blocks of one level each; the last rows hold as many levels as are wanted in all."""
    blocks = [np.full((rows, columns, 3), level) for level in levels]
    others = [level for level in range(256) if level not in levels][: distinct - len(levels)]
    last = np.resize([*levels, *others], (1, columns, 3))
    return (np.concatenate([*blocks, last]) / 255).astype(np.float32)


@pytest.mark.parametrize("distinct", [2, 16, 100, 200])
def test_photon_counts_are_poisson_by_the_chi_square_test(distinct: int) -> None:
    levels = [60, 131] if distinct == 2 else [1, 7, 60, 131, 254]
    image = bars(levels, distinct)
    photons = photons_of(image)
    # So little noise that nothing is clipped, and counts can be read back exactly.
    scale = 0.002
    added = (noise(image, noise_draw("poisson", level=scale), 0).astype(float) - image) / scale
    for index, level in enumerate(levels):
        signal = level / 255
        counts = np.rint((added[250 * index : 250 * (index + 1)] + signal) * photons).astype(int)
        assert counts.min() >= 0
        observed = np.bincount(counts.ravel(), minlength=600)
        expected = scipy.stats.poisson.pmf(np.arange(600), signal * photons) * counts.size
        often = expected > 5
        observed_ = np.append(observed[often], observed[~often].sum())
        expected_ = np.append(expected[often], counts.size - expected[often].sum())
        assert scipy.stats.chisquare(observed_, expected_).pvalue > 1e-3
        mean_error = abs(counts.mean() - signal * photons)
        assert mean_error < 4 * np.sqrt(signal * photons / counts.size)


@pytest.mark.parametrize("photons", [2, 4, 8, 16, 32, 64, 128, 256])
def test_the_table_is_the_poisson_distribution(photons: int) -> None:
    table = _photon_table(photons)
    below = table.below.reshape(256, -1)
    counts = np.arange(below.shape[1])
    means = np.arange(256)[:, None] / 255 * photons
    assert np.abs(below - scipy.stats.poisson.cdf(counts, means)).max() < 1e-9
    # Bins with one count are right: that count's interval covers the whole bin.
    bins = table.noise.size // 256
    level, place = np.divmod(np.arange(table.noise.size), bins)
    known = ~np.isnan(table.noise)
    count = table.first[:-1][known] - level[known] * len(counts)
    ends = below[level[known], count]
    starts = np.where(count > 0, below[level[known], count - 1], 0)
    assert (starts <= place[known] / bins).all() and (ends >= (place[known] + 1) / bins).all()
    assert np.array_equal(table.noise[known], table.values[table.first[:-1][known]])
    assert known.mean() > 0.95  # or it would be slow


def test_poisson_noise_grows_with_the_signal_and_spares_black() -> None:
    image = np.concatenate([flat(0, 64), flat(0.2, 64), flat(0.6, 64)])
    added = noise(image, noise_draw("poisson", level=0.3), 0) - image
    deviations = [added[64 * k : 64 * (k + 1)].std() for k in range(3)]
    assert deviations[0] == 0
    assert deviations[2] / deviations[1] == pytest.approx(np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("bgr", [False, True])
def test_gray_photons_are_counted_in_luma_of_the_drawn_channel_order(bgr: bool) -> None:
    red = np.zeros((256, 256, 3), np.float32)
    red[:, :, 0] = 200 / 255
    red[:1] = 0  # a second level
    added = noise(red, noise_draw("poisson", level=0.05, gray=True, bgr=bgr), 0)[1:] - red[1:]
    signal = round((0.114 if bgr else 0.299) * 200) / 255
    assert added[:, :, 0].std() == pytest.approx(0.05 * np.sqrt(signal / 2), rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_noise_is_clipped_to_the_range_of_an_image(kind: NoiseKind, level: float) -> None:
    strong = {"gaussian": 60.0, "poisson": 3.0, "speckle": 1.0, "camera": 0.2}[kind]
    draw = noise_draw(kind, level=strong, read_level=[0.1])
    noisy = noise(flat(level, 64), draw, 0)
    assert noisy.dtype == np.float32
    assert noisy.min() >= 0 and noisy.max() <= 1
    assert kind != "gaussian" or 0.3 < (noisy == level).mean() < 0.7


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    kind=st.sampled_from(KINDS),
    level=st.floats(0, 40),
    gray=st.booleans(),
    static=st.booleans(),
    frame=st.integers(0, 500),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_picture_takes_any_noise(
    height: int,
    width: int,
    kind: NoiseKind,
    level: float,
    gray: bool,
    static: bool,
    frame: int,
    seed: int,
) -> None:
    image = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    before = image.copy()
    draw = noise_draw(kind, level=level, gray=gray, seed=seed, static=[static], read_level=[0.01])
    noisy = noise(image, draw, frame)
    assert noisy.shape == image.shape and noisy.dtype == np.float32
    assert noisy.min() >= 0 and noisy.max() <= 1
    assert np.array_equal(noisy, noise(image, draw, frame))
    assert np.array_equal(image, before)
