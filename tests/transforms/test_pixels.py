import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.pictures import texture
from transforms.pixels import luma, luma_std, to_float, to_uint8


def test_uint8_and_back_is_exact() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(to_uint8(to_float(every)), every)
    assert to_float(every).dtype == np.float32 and to_float(every).max() == 1


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=1, max_dims=4, max_side=9),
        elements=st.floats(-2, 3, width=32),
    )
)
def test_floats_are_clipped_and_rounded(values: np.ndarray) -> None:
    assert np.array_equal(to_uint8(values), np.rint(np.clip(values, 0, 1) * np.float32(255)))
    assert to_uint8(values).dtype == np.uint8


def test_halves_are_rounded_to_even() -> None:
    halves = np.array([0.5, 1.5, 2.5, 3.5], np.float32) / 255
    assert to_uint8(halves).tolist() == [0, 2, 2, 4]


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


def test_luma_keeps_the_range_of_its_image() -> None:
    picture = texture(20, 30)
    in_levels = luma(picture)
    assert in_levels.dtype == np.float32 and in_levels.shape == (20, 30)
    assert luma(to_float(picture)) * 255 == pytest.approx(in_levels, abs=1e-3)
