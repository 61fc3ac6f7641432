import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.draw import DenoiseDraw
from tests.pictures import moving_clip, texture
from transforms.denoise import _hqdn3d, denoise


def noisy_clip(num_frames: int, height: int, width: int, sigma: float = 12) -> np.ndarray:
    clean = moving_clip(num_frames, height, width)
    added = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return np.clip(np.rint(clean + added), 0, 255).astype(np.uint8)


def ffmpeg_hqdn3d(planes: np.ndarray, strengths: tuple[float, ...]) -> np.ndarray:
    """(T, 3, H, W) uint8 YUV through FFmpeg's own filter, by its command line."""
    height, width = planes.shape[2:]
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{width}x{height}"]
    filters = "hqdn3d=" + ":".join(map(str, strengths))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *raw, "-i", "-"]
    done = subprocess.run(
        [*command, "-vf", filters, *raw, "-"],
        input=planes.tobytes(),
        capture_output=True,
        check=True,
    )
    return np.frombuffer(done.stdout, np.uint8).reshape(planes.shape)


@pytest.mark.parametrize("strength", [0.5, 1.5, 4, 10, 40, 254])
@pytest.mark.parametrize("size", [(38, 50), (17, 1), (1, 23)])
def test_it_is_ffmpegs_to_the_bit(strength: float, size: tuple[int, int]) -> None:
    planes = np.ascontiguousarray(noisy_clip(5, *size).transpose(0, 3, 1, 2))
    spatial, temporal = (strength, strength * 0.75), (strength * 1.5, strength * 0.75 * 1.5)
    expected = ffmpeg_hqdn3d(planes, spatial + temporal)
    assert np.array_equal(_hqdn3d(planes[:, :1], spatial[0], temporal[0]), expected[:, :1])
    assert np.array_equal(_hqdn3d(planes[:, 1:], spatial[1], temporal[1]), expected[:, 1:])


def test_the_other_strengths_are_ffmpegs_defaults() -> None:
    # FFmpeg derives what is not given from the first strength, by the same proportions.
    planes = np.ascontiguousarray(noisy_clip(3, 20, 24).transpose(0, 3, 1, 2))
    given_all = ffmpeg_hqdn3d(planes, (6, 4.5, 9, 6.75))
    assert np.array_equal(ffmpeg_hqdn3d(planes, (6,)), given_all)


def test_noise_goes_down_and_edges_stay() -> None:
    flat = np.full((8, 48, 48, 3), 120)
    flat[:, :, 24:] = 200
    noisy = flat + np.rint(np.random.default_rng(1).normal(0, 6, flat.shape)).astype(int)
    cleaned = np.stack(denoise(list(noisy.astype(np.uint8)), DenoiseDraw(strength=6)))
    last = cleaned[-1].astype(float)
    assert (last - flat[-1]).std() < 0.55 * (noisy[-1] - flat[-1]).std()
    assert last[:, 27:].mean() - last[:, :21].mean() == pytest.approx(80, abs=2)


def test_it_gets_smoother_with_its_strength() -> None:
    clip = list(noisy_clip(4, 40, 40))
    roughness = [
        np.abs(np.diff(np.stack(denoise(clip, DenoiseDraw(strength=s))).astype(int), axis=2)).mean()
        for s in (0, 2, 5, 12)
    ]
    assert roughness == sorted(roughness, reverse=True)
    assert roughness[-1] < 0.8 * roughness[0]


def test_strength_0_leaves_only_the_colour_conversion() -> None:
    clip = list(noisy_clip(3, 30, 40))
    for before, after in zip(clip, denoise(clip, DenoiseDraw(strength=0)), strict=True):
        assert np.abs(after.astype(int) - before).max() <= 2


def test_frames_only_depend_on_those_before_them() -> None:
    clip = list(noisy_clip(5, 24, 30))
    whole = denoise(clip, DenoiseDraw(strength=5))
    for count in (1, 3):
        start = denoise(clip[:count], DenoiseDraw(strength=5))
        assert all(np.array_equal(a, b) for a, b in zip(start, whole, strict=False))


@settings(max_examples=25)
@given(
    num_frames=st.integers(1, 4),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    strength=st.floats(0, 300),
)
def test_any_clip_keeps_its_count_size_and_order(
    num_frames: int, height: int, width: int, strength: float
) -> None:
    clip = [texture(height, width, seed) for seed in range(num_frames)]
    before = [frame.copy() for frame in clip]
    cleaned = denoise(clip, DenoiseDraw(strength=strength))
    assert [f.shape for f in cleaned] == [f.shape for f in clip]
    assert all(f.dtype == np.uint8 for f in cleaned)
    again = denoise(clip, DenoiseDraw(strength=strength))
    assert all(np.array_equal(a, b) for a, b in zip(cleaned, again, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(clip, before, strict=True))
