import hashlib
import itertools
import typing
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from schemas.draw import ChromaLocation, ColorDraw, ColorRange, Matrix, PixelFormat
from tests.pictures import texture
from tests.synthetic import gradient
from tests.transforms.coding import coloured_waves, colours_elsewhere, mean_shift, needs_x86
from transforms.color import Area, Converter, rgb_to_yuv, source_to_rgb, yuv_to_rgb

BT601, BT709, UNTAGGED = 5, 1, 2
TV, PC = 1, 2
FORMATS: tuple[PixelFormat, ...] = typing.get_args(PixelFormat)
MATRICES: tuple[Matrix, ...] = typing.get_args(Matrix)
RANGES: tuple[ColorRange, ...] = typing.get_args(ColorRange)
LOCATIONS: tuple[ChromaLocation, ...] = typing.get_args(ChromaLocation)


def color_of(
    matrix: str = "bt709", color_range: str = "tv", location: str = "left", **changes: str
) -> ColorDraw:
    """Both sides agree, but for the changes."""
    fields = {"matrix": matrix, "range": color_range, "location": location}
    sides = {f"{side}_{k}": v for k, v in fields.items() for side in ("written", "read")}
    return ColorDraw.model_validate(sides | changes)


def round_trip(frames: np.ndarray, pixel_format: str, color: ColorDraw) -> np.ndarray:
    return yuv_to_rgb(rgb_to_yuv(frames, pixel_format, color), color).astype(float)


def bias(frames: np.ndarray, pixel_format: str, color: ColorDraw) -> np.ndarray:
    """Mean error of each channel, levels."""
    return (round_trip(frames, pixel_format, color) - frames).mean(axis=(0, 1, 2))


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


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("color_range", RANGES)
@pytest.mark.parametrize("location", LOCATIONS)
def test_a_round_trip_neither_darkens_nor_shifts(
    pixel_format: str, matrix: str, color_range: str, location: str
) -> None:
    color = color_of(matrix, color_range, location)
    pictures = np.stack([texture(64, 96, seed) for seed in range(4)])
    assert np.abs(bias(pictures, pixel_format, color)).max() < 0.1
    across = np.stack([coloured_waves(96, 96, phase) for phase in (0, 1, 2)])
    shift = mean_shift(across, round_trip(across, pixel_format, color))
    down = np.ascontiguousarray(across.transpose(0, 2, 1, 3))
    back = round_trip(down, pixel_format, color).transpose(0, 2, 1, 3)
    assert np.abs([*shift, *mean_shift(across, back)]).max() < 0.05


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_full_range_uses_all_levels_and_keeps_grey_neutral(pixel_format: str) -> None:
    color = color_of("bt601", "pc", "center")
    most = 1023 if pixel_format.endswith("10le") else 255
    for level, wanted in ((0, 0), (255, most)):
        (frame,) = rgb_to_yuv(_flat((level,) * 3), pixel_format, color)
        y, u, v = (_first(plane, most) for plane in frame.planes)
        assert (y, u, v) == (wanted, (most + 1) // 2, (most + 1) // 2)
        assert yuv_to_rgb([frame], color)[0, 0, 0].tolist() == [level] * 3


def _first(plane: av.video.plane.VideoPlane, most: int) -> int:
    return int(np.frombuffer(memoryview(plane), np.uint8 if most == 255 else np.uint16)[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"read_matrix": "bt601"}, [233, 0, 2]),  # what BT.601 makes of BT.709's red
        ({"read_range": "pc"}, [239, 15, 15]),  # limited taken for full: flat
        ({"written_range": "pc"}, [255, 0, 0]),  # full taken for limited: clipped
    ],
)
def test_a_reader_that_is_wrong_gets_it_wrong(changes: dict[str, str], expected: list[int]) -> None:
    color = color_of(**changes)
    red = yuv_to_rgb(rgb_to_yuv(_flat((255, 0, 0)), "yuv444p", color), color)[0, 0, 0]
    assert red.tolist() == pytest.approx(expected, abs=3)


def test_a_wrong_siting_moves_colour_by_half_a_pixel() -> None:
    waves = np.stack([coloured_waves(96, 96, phase) for phase in (0, 1, 2)])
    color = color_of(location="left", read_location="center")
    shift = np.abs(mean_shift(waves, round_trip(waves, "yuv420p", color)))
    assert 0.3 < shift.max() < 0.9


def test_the_fast_scaler_darkens_by_a_level_and_repeats_chroma() -> None:
    pictures = np.stack([texture(64, 96, seed) for seed in range(4)])
    for pixel_format in ("yuv420p", "yuv422p"):
        # FFmpeg's default conversion takes and gives chroma in the middle of its pixels.
        found = bias(pictures, pixel_format, color_of(location="center", scaler="fast"))
        assert np.all((found < -0.7) & (found > -1.7)), found
    (frame,) = rgb_to_yuv(pictures[:1])
    rgb = yuv_to_rgb([frame], color_of(scaler="fast"))[0].astype(int)
    luma = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(64, -1)[:, :96]
    brightness = rgb - ((luma[..., None].astype(int) - 16) * 9539 * 8 >> 16)
    inner = (rgb > 0).all(axis=-1) & (rgb < 255).all(axis=-1)
    blocks = np.where(inner[..., None], brightness, 0).reshape(32, 2, 48, 2, 3)
    whole = inner.reshape(32, 2, 48, 2).all(axis=(1, 3))
    assert (np.ptp(blocks, axis=(1, 3))[whole] == 0).all()


@needs_x86  # with SSSE3, that is; FFmpeg's C code rounds down once more
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("color_range", RANGES)
def test_the_fast_scaler_is_ffmpegs_own_on_a_usual_cpu(pixel_format: str, color_range: str) -> None:
    for matrix in MATRICES:
        color = color_of(matrix, color_range, scaler="fast")
        frames = rgb_to_yuv(np.stack([texture(48, 90)]), pixel_format, color)
        options = f"flags=bicubic:in_color_matrix={matrix}:in_range={color_range}:out_range=pc"
        options += "" if pixel_format == "yuv444p" else ":in_chroma_loc=left"
        by_ffmpeg = Converter(90, 48, pixel_format, "rgb24", options)(frames[0]).to_ndarray()
        assert np.array_equal(yuv_to_rgb(frames, color)[0], by_ffmpeg)


@needs_x86
def test_conversions_are_the_same_on_lesser_cpus() -> None:
    jobs = [
        (pixel_format, color_of(color_range=color_range, scaler=scaler))
        for pixel_format in FORMATS
        for color_range in RANGES
        for scaler in ("exact", "fast")
    ]
    frames = np.stack([texture(50, 74, seed) for seed in range(2)])
    here = []
    for pixel_format, color in jobs:
        rgb = yuv_to_rgb(rgb_to_yuv(frames, pixel_format, color), color)
        here.append(hashlib.sha256(rgb.tobytes()).hexdigest())
    for cpu in ("sse2", "c"):
        assert colours_elsewhere(jobs, frames, cpu) == here, cpu


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


def noise_frame(pixel_format: str, height: int, width: int) -> av.VideoFrame:
    """A frame whose every level is random, so that no error of rounding or clipping hides."""
    rng = np.random.default_rng([height, width])
    frame = av.VideoFrame(width, height, pixel_format)
    bits = frame.format.components[0].bits
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
        rows[:] = rng.integers(0, 2**bits, rows.shape)
    return frame


def areas(height: int, width: int) -> Iterator[Area]:
    """At every border and corner, and anywhere, of several sizes."""
    rng = np.random.default_rng(0)
    for rows, columns in {(1, 1), (2, 7), (height // 2, width // 3), (height, 5), (9, width)}:
        bottom, right = height - rows, width - columns
        for top in {0, 1, 7, bottom // 2, bottom - 1, bottom} & set(range(bottom + 1)):
            for left in {0, 1, 8, right - 2, right} & set(range(right + 1)):
                yield Area(top, left, rows, columns)
        yield Area(int(rng.integers(bottom + 1)), int(rng.integers(right + 1)), rows, columns)
    yield Area(0, 0, height, width)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("scaler", ["exact", "fast"])
@pytest.mark.parametrize("size", [(48, 64), (17, 46), (38, 23), (9, 11), (96, 34)])
def test_the_pixels_of_an_area_are_those_of_the_whole(
    pixel_format: str, scaler: str, size: tuple[int, int]
) -> None:
    frame = noise_frame(pixel_format, *size)
    for matrix, color_range, location in itertools.product(MATRICES, RANGES, LOCATIONS):
        color = color_of(matrix, color_range, location, scaler=scaler)
        whole = yuv_to_rgb([frame], color)
        for area in areas(*size):
            part = yuv_to_rgb([frame], color, area)
            assert np.array_equal(part, whole[:, *area.slices]), (color, area)


@pytest.mark.parametrize("pixel_format", ["gbrp", "rgb24", "yuvj420p", "yuvj422p", "yuvj444p"])
def test_areas_of_rgb_and_of_tagged_formats_are_those_of_the_whole(pixel_format: str) -> None:
    frame = noise_frame(pixel_format, 34, 50)
    for color_range in RANGES:
        color = color_of("bt601", color_range, "center")
        whole = yuv_to_rgb([frame, frame], color)
        for area in areas(34, 50):
            part = yuv_to_rgb([frame, frame], color, area)
            assert np.array_equal(part, whole[:, *area.slices])
