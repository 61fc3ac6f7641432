from fractions import Fraction

import av
import numpy as np
import pytest

from tests.synthetic import gradient
from transforms.color import Converter, rgb_to_yuv, source_to_rgb, yuv_to_rgb

BT601, BT709, UNTAGGED = 5, 1, 2
TV, PC = 1, 2


def _flat(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((1, 16, 16, 3), color, np.uint8)


def _values(frame: av.VideoFrame) -> list[int]:
    return [int(memoryview(plane)[0]) for plane in frame.planes]


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [
        ((255, 255, 255), [235, 128, 128]),
        ((0, 0, 0), [16, 128, 128]),
        ((255, 0, 0), [63, 102, 240]),  # BT.709; BT.601 has 81, 90, 240
        ((0, 0, 255), [32, 240, 118]),
    ],
)
def test_colours_have_the_numbers_of_bt709_in_limited_range(
    rgb: tuple[int, int, int], yuv: list[int]
) -> None:
    (frame,) = rgb_to_yuv(_flat(rgb))
    assert _values(frame) == pytest.approx(yuv, abs=1)


def test_frames_are_ready_to_encode() -> None:
    frames = rgb_to_yuv(gradient(3, 16, 16))
    assert [frame.pts for frame in frames] == [0, 1, 2]
    assert {(frame.time_base, int(frame.pict_type)) for frame in frames} == {(Fraction(1, 25), 0)}


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p"])
def test_a_round_trip_neither_darkens_nor_shifts(pixel_format: str) -> None:
    rgb = gradient(2, 64, 96)
    difference = yuv_to_rgb(rgb_to_yuv(rgb, pixel_format)).astype(float) - rgb
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.1
    assert np.sqrt((difference**2).mean()) < 2


def test_a_photo_keeps_its_mean_within_a_tenth_of_a_level() -> None:
    data = pytest.importorskip("skimage.data")
    rgb = data.astronaut()[None]
    difference = yuv_to_rgb(rgb_to_yuv(rgb)).astype(float) - rgb
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.1


def test_rgb_streams_are_exact() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 18, 22, 3), np.uint8)
    assert np.array_equal(yuv_to_rgb(rgb_to_yuv(noise, "gbrp")), noise)


def test_odd_sizes_convert() -> None:
    rgb = gradient(1, 17, 23)
    assert yuv_to_rgb(rgb_to_yuv(rgb)).shape == (1, 17, 23, 3)


def test_sizes_may_alternate() -> None:
    small, large = gradient(1, 16, 16), gradient(1, 32, 48)
    first = yuv_to_rgb(rgb_to_yuv(small))
    yuv_to_rgb(rgb_to_yuv(large))
    assert np.array_equal(yuv_to_rgb(rgb_to_yuv(small)), first)


@pytest.mark.parametrize("matrix_tag", [BT601, BT709, UNTAGGED])
@pytest.mark.parametrize("range_tag", [0, TV, PC])
def test_named_options_win_over_the_tags_of_a_frame(matrix_tag: int, range_tag: int) -> None:
    (plain,), (tagged,) = rgb_to_yuv(gradient(1, 32, 32)), rgb_to_yuv(gradient(1, 32, 32))
    tagged.colorspace, tagged.color_range = matrix_tag, range_tag
    assert np.array_equal(yuv_to_rgb([plain]), yuv_to_rgb([tagged]))
    foreign = source_to_rgb(tagged, "bt601", "pc")
    assert np.array_equal(source_to_rgb(plain, "bt601", "pc"), foreign)


def test_matrix_and_range_of_foreign_video_matter() -> None:
    (frame,) = rgb_to_yuv(_flat((255, 0, 0)))
    assert source_to_rgb(frame, "bt709", "tv")[0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert source_to_rgb(frame, "bt601", "tv")[0, 0, 0] < 245
    (white,) = rgb_to_yuv(_flat((255, 255, 255)))
    assert source_to_rgb(white, "bt709", "pc")[0, 0].tolist() == [235, 235, 235]


def test_ten_bits_become_eight() -> None:
    rgb = gradient(1, 32, 32)
    source = av.VideoFrame.from_ndarray(rgb[0], "rgb24")
    options = "out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
    deep = Converter(32, 32, "rgb24", "yuv444p10le", options)(source)
    assert np.abs(source_to_rgb(deep, "bt709", "tv").astype(int) - rgb[0]).max() <= 2


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "gbrp", "rgba"])
def test_rgb_formats_pass_unchanged(pixel_format: str) -> None:
    rgb = gradient(1, 16, 16)[0]
    frame = Converter(16, 16, "rgb24", pixel_format, "")(av.VideoFrame.from_ndarray(rgb, "rgb24"))
    assert np.array_equal(source_to_rgb(frame, "", ""), rgb)


def test_grey_video_obeys_its_range() -> None:
    luma = np.array([[16, 126, 235]] * 2, np.uint8)
    frame = av.VideoFrame.from_ndarray(luma, "gray")
    assert source_to_rgb(frame, "bt601", "tv")[0, :, 0].tolist() == [0, 128, 255]
    assert source_to_rgb(frame, "bt601", "pc")[0, :, 2].tolist() == [16, 126, 235]


@pytest.mark.parametrize(
    "frames", [np.zeros((16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3)), gradient(0, 16, 16)]
)
def test_what_is_no_clip_is_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        rgb_to_yuv(frames)


def test_foreign_formats_are_no_streams_of_ours() -> None:
    with pytest.raises(ValueError, match="yuv410p"):
        yuv_to_rgb([av.VideoFrame(16, 16, "yuv410p")])
    with pytest.raises(ValueError, match="at least 1"):
        yuv_to_rgb([])


def test_chroma_is_written_where_the_decoders_of_video_look_for_it() -> None:
    # A ramp in red makes a ramp in V. Left siting: sample i stands for column 2 i, not 2 i + 0.5.
    red = np.arange(64, dtype=np.uint8) * 3
    frames = np.full((1, 32, 64, 3), 60, np.uint8)
    frames[0, :, :, 0] = red
    plane = rgb_to_yuv(frames)[0].planes[2]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    v = rows[8, 4:28].astype(float)
    per_column = 0.5 * 224 / 255 * 3  # BT.709, limited range: V = 128 + 224 (0.5 R - ...)
    fitted = np.polyfit(np.arange(4, 28), v, 1)
    column_of_neutral = (128 - fitted[1]) / fitted[0] * 2  # where red equals the others
    assert fitted[0] / 2 == pytest.approx(per_column, rel=0.02)
    assert column_of_neutral == pytest.approx(60 / 3, abs=0.1)
