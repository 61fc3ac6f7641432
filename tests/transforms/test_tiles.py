import io
import struct
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from schemas.sample import HrJpeg, HrTile, Sample, SampleKind
from schemas.shard import ShardError
from tests.pictures import texture
from transforms import decode
from transforms.decode import decode_hr
from transforms.jpeg import encode_jpeg, read_jpeg_header
from transforms.tiles import (
    TilePlace,
    decode_tile,
    encode_webp,
    pack_files,
    pack_jpeg_tiles,
    pack_tiles,
    webp_size,
)

LAYOUTS = [(64, 64, 64), (64, 96, 32), (37, 53, 16), (40, 40, 256), (1, 1, 16), (17, 33, 16)]


def clip(frames: int, height: int, width: int) -> np.ndarray:
    return np.stack([texture(height, width, seed) for seed in range(frames)])


def sample_of(hr: np.ndarray, tiles: list[HrTile], jpeg: HrJpeg | None = None) -> Sample:
    return Sample(
        key="key",
        kind=SampleKind.CLIP,
        split="train",
        group="",
        licence="",
        attributions=[],
        recipe_sha256="",
        seed=0,
        clip=0,
        variant=0,
        hr_id="",
        num_frames=hr.shape[0],
        scale=1,
        hr_height=hr.shape[1],
        hr_width=hr.shape[2],
        fps=0,
        hr_sharpened=False,
        scene_draw="{}",
        origins=[],
        hr_tiles=tiles,
        hr_jpeg=jpeg,
        streams=[],
    )


def packed(hr: np.ndarray, tile: int) -> tuple[Sample, bytes]:
    member, tiles = pack_tiles(hr, tile)
    return sample_of(hr, tiles), member


@pytest.mark.parametrize(("height", "width", "tile"), LAYOUTS)
@pytest.mark.parametrize("frames", [1, 3])
def test_hr_comes_back_exactly(height: int, width: int, tile: int, frames: int) -> None:
    hr = clip(frames, height, width)
    decoded = decode_hr(*packed(hr, tile))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, hr)


@pytest.mark.parametrize("level", [0, 255])
def test_extreme_pictures_come_back_exactly(level: int) -> None:
    hr = np.full((1, 33, 47, 3), level, np.uint8)
    hr[0, 5, 7] = [0, 255, 0]
    noise = np.random.default_rng(0).integers(0, 256, (1, 33, 47, 3)).astype(np.uint8)
    for picture in (hr, noise):
        assert np.array_equal(decode_hr(*packed(picture, 16)), picture)


@pytest.mark.parametrize(("height", "width", "tile"), LAYOUTS)
def test_tiles_cover_every_pixel_of_every_frame_once(height: int, width: int, tile: int) -> None:
    _, tiles = pack_tiles(clip(2, height, width), tile)
    covered = np.zeros((2, height, width), int)
    for t in tiles:
        assert 1 <= t.height <= tile and 1 <= t.width <= tile
        covered[t.frame, t.top : t.top + t.height, t.left : t.left + t.width] += 1
    assert (covered == 1).all()


def test_windows_are_slices() -> None:
    hr = clip(4, 37, 53)
    sample, member = packed(hr, 16)
    rng = np.random.default_rng(0)
    for _ in range(30):
        start, top, left = (int(rng.integers(0, size)) for size in hr.shape[:3])
        count, height, width = (
            int(rng.integers(1, size - at + 1))
            for at, size in zip((start, top, left), hr.shape[:3], strict=True)
        )
        window = decode_hr(sample, member, start, count, top, left, height, width)
        expected = hr[start : start + count, top : top + height, left : left + width]
        assert np.array_equal(window, expected)


def test_what_is_left_out_of_a_window_reaches_to_the_end() -> None:
    hr = clip(3, 40, 50)
    sample, member = packed(hr, 16)
    assert np.array_equal(decode_hr(sample, member, start=1, top=5, left=49), hr[1:, 5:, 49:])
    assert np.array_equal(decode_hr(sample, member, count=1, height=1), hr[:1, :1])


@pytest.mark.parametrize(
    ("window", "touched"),
    [
        ({}, 2 * 3 * 4),
        ({"start": 1}, 3 * 4),
        ({"start": 0, "count": 1, "top": 0, "left": 0, "height": 16, "width": 16}, 1),
        ({"start": 0, "count": 1, "top": 15, "left": 15, "height": 2, "width": 2}, 4),
        ({"top": 16, "height": 16}, 2 * 4),
        ({"top": 39, "left": 52}, 2),
    ],
)
def test_only_the_tiles_that_a_window_touches_are_decoded(
    monkeypatch: pytest.MonkeyPatch, window: dict[str, int], touched: int
) -> None:
    sample, member = packed(clip(2, 40, 53), 16)
    decoded = []

    def counting(data: bytes) -> np.ndarray:
        decoded.append(data)
        return decode_tile(data)

    monkeypatch.setattr(decode, "decode_tile", counting)
    decode_hr(sample, member, **window)
    assert len(decoded) == len(set(decoded)) == touched


@pytest.mark.parametrize(
    "window",
    [
        {"start": -1},
        {"start": 2},
        {"count": 0},
        {"start": 1, "count": 2},
        {"top": 40},
        {"top": 30, "height": 11},
        {"left": -1},
        {"width": 51},
    ],
)
def test_a_window_beyond_the_patch_is_refused(window: dict[str, int]) -> None:
    sample, member = packed(clip(2, 40, 50), 16)
    with pytest.raises(ValueError, match="does not fit"):
        decode_hr(sample, member, **window)


def test_any_zip_reader_opens_the_member() -> None:
    hr = clip(2, 40, 50)
    member, tiles = pack_tiles(hr, 32)
    with zipfile.ZipFile(io.BytesIO(member)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == sorted(names) and len(names) == len(tiles)
        for name, t in zip(names, tiles, strict=True):
            assert name == f"{t.frame:05d}_{t.top:05d}_{t.left:05d}.webp"
            data = archive.read(name)
            assert data == member[t.offset : t.offset + t.size]
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert pixels is not None
            expected = hr[t.frame, t.top : t.top + t.height, t.left : t.left + t.width]
            assert np.array_equal(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), expected)


def test_byte_ranges_are_whole_webp_files() -> None:
    member, tiles = pack_tiles(clip(2, 40, 50), 32)
    for t in tiles:
        data = member[t.offset : t.offset + t.size]
        assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
        assert struct.unpack("<I", data[4:8])[0] + 8 == t.size


def test_equal_frames_give_equal_bytes() -> None:
    hr = clip(2, 37, 53)
    again = np.asfortranarray(hr)  # the same pixels in another order of memory
    member, tiles = pack_tiles(hr, 16)
    assert pack_tiles(again, 16) == (member, tiles)
    with zipfile.ZipFile(io.BytesIO(member)) as archive:
        times = {info.date_time for info in archive.infolist()}
    assert times == {(1980, 1, 1, 0, 0, 0)}


def test_a_damaged_tile_is_told() -> None:
    sample, member = packed(clip(2, 32, 32), 32)
    tile = sample.hr_tiles[1]
    for at in (0, 12, 40, tile.size - 1):
        damaged = bytearray(member)
        damaged[tile.offset + at] ^= 1
        with pytest.raises(ShardError, match=r"tile 00001_00000_00000\.webp .* its checksum"):
            decode_hr(sample, bytes(damaged))
        decode_hr(sample, bytes(damaged), 0, 1)
    for wrong in (tile.offset - 1, tile.offset + 1, -tile.offset, 10**9):
        moved = tile.model_copy(update={"offset": wrong})
        with pytest.raises(ShardError, match="checksum"):
            decode_hr(sample_of(np.empty((2, 32, 32, 3)), [sample.hr_tiles[0], moved]), member)
    for data in (b"not a picture", encode_webp(texture(9, 9))[:20]):
        with pytest.raises(ValueError, match="does not decode"):
            decode_tile(data)


@pytest.mark.parametrize("data", [b"", b"RIFF\0\0\0\0WEBP", b"anything"])
def test_what_is_no_tile_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="does not decode"):
        decode_tile(data)


@pytest.mark.parametrize("side", [1, 15, 17, 16_000])
def test_a_tile_of_another_size_than_its_record_is_refused_without_decoding(
    monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (side, 16)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    member, tiles = pack_files([(TilePlace(0, 0, 0, 16, 16), buffer.getvalue())])
    monkeypatch.setattr(decode, "decode_tile", lambda _: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=f"16 x {side}, not 16 x 16"):
        decode_hr(sample_of(np.empty((1, 16, 16, 3)), tiles), member)


@pytest.mark.parametrize("num_tiles", [0, 3])
def test_a_patch_that_its_tiles_do_not_cover_takes_no_memory(num_tiles: int) -> None:
    member, tiles = pack_tiles(clip(1, 32, 32), 16)
    huge = sample_of(np.empty((1, 32, 32, 3)), tiles[:num_tiles])
    huge = huge.model_copy(update={"hr_height": 10**7, "hr_width": 10**7})
    with pytest.raises(ValueError, match="the tiles cover"):
        decode_hr(huge, member)
    small = sample_of(np.empty((1, 32, 32, 3)), tiles[:num_tiles])
    with pytest.raises(ValueError, match="the tiles cover"):
        decode_hr(small, member)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 3), (255, 256), (2, 16_383)])
def test_the_size_of_a_tile_is_read_from_its_header(height: int, width: int) -> None:
    data = encode_webp(np.zeros((height, width, 3), np.uint8))
    assert webp_size(data) == webp_size(data[:25]) == (height, width)


def test_only_lossless_webp_files_are_tiles() -> None:
    for settings in ({"format": "PNG"}, {"format": "WEBP", "lossless": False}):
        buffer = io.BytesIO()
        Image.fromarray(texture(16, 16)).save(buffer, **settings)
        with pytest.raises(ValueError, match="not a WebP image, or not a lossless one"):
            webp_size(buffer.getvalue())


# JPEG


def natural_clip(frames: int, height: int, width: int) -> np.ndarray:
    """Smooth shading, soft edges and fine texture, as photographs have them."""
    rng = np.random.default_rng(1)
    clip = []
    for _ in range(frames):
        picture = rng.normal(128, 1, (height, width, 3))
        for size, amplitude in ((64, 160), (16, 60), (4, 16), (1, 3)):
            blobs = rng.normal(0, amplitude, (height // size + 2, width // size + 2, 1))
            tint = 1 + rng.normal(0, 0.2, 3)
            large = cv2.resize(blobs, (width + size, height + size), interpolation=cv2.INTER_CUBIC)
            picture += large[:height, :width, None] * tint
        clip.append(cv2.GaussianBlur(picture, (0, 0), 0.6))
    return np.clip(np.stack(clip), 0, 255).astype(np.uint8)


def packed_jpeg(hr: np.ndarray, tile: int, quality: int = 95) -> tuple[Sample, bytes]:
    member, tiles, jpeg = pack_jpeg_tiles(hr, tile, quality)
    return sample_of(hr, tiles, jpeg), member


def psnr(mse: float) -> float:
    return float(10 * np.log10(255**2 / mse))


def test_hr_as_jpeg_is_close_and_its_record_tells_how_close() -> None:
    hr = natural_clip(2, 200, 312)
    errors, sizes = [], []
    for quality in (75, 95, 100):
        sample, member = packed_jpeg(hr, 128, quality)
        decoded = decode_hr(sample, member)
        assert decoded.shape == hr.shape and decoded.dtype == np.uint8
        assert sample.hr_jpeg is not None and sample.hr_jpeg.quality == quality
        assert sample.hr_jpeg.mse == np.mean((decoded.astype(int) - hr) ** 2)
        errors.append(sample.hr_jpeg.mse)
        sizes.append(len(member))
    assert psnr(errors[0]) > 34 and psnr(errors[1]) > 40 and psnr(errors[2]) > 45
    assert errors == sorted(errors, reverse=True) and sizes == sorted(sizes)
    assert sizes[1] < len(pack_tiles(hr, 128)[0]) / 2


def test_colours_are_kept_at_every_pixel() -> None:
    # Columns of alternating colours: subsampled chroma would make them grey.
    hr = np.zeros((1, 64, 64, 3), np.uint8)
    hr[:, :, ::2] = [220, 40, 60]
    hr[:, :, 1::2] = [40, 90, 210]
    sample, member = packed_jpeg(hr, 64)
    assert np.abs(decode_hr(sample, member).astype(int) - hr).max() < 12


def test_a_jpeg_that_is_exact_loses_nothing() -> None:
    hr = np.full((1, 32, 32, 3), 128, np.uint8)
    sample, _ = packed_jpeg(hr, 32)
    assert sample.hr_jpeg == HrJpeg(quality=95, mse=0)


@pytest.mark.parametrize(("height", "width", "tile"), LAYOUTS)
def test_the_windows_of_jpeg_tiles_are_slices(height: int, width: int, tile: int) -> None:
    sample, member = packed_jpeg(clip(2, height, width), tile)
    whole = decode_hr(sample, member)
    window = decode_hr(sample, member, 1, 1, height // 3, width // 3)
    assert np.array_equal(window, whole[1:, height // 3 :, width // 3 :])


def test_any_zip_reader_opens_a_member_of_jpeg_files() -> None:
    hr = clip(2, 40, 50)
    sample, member = packed_jpeg(hr, 32)
    with zipfile.ZipFile(io.BytesIO(member)) as archive:
        assert archive.testzip() is None
        for name, t in zip(archive.namelist(), sample.hr_tiles, strict=True):
            assert name == f"{t.frame:05d}_{t.top:05d}_{t.left:05d}.jpg"
            data = archive.read(name)
            assert data == member[t.offset : t.offset + t.size]
            assert read_jpeg_header(data) == (t.height, t.width, 95)
            pixels = np.asarray(Image.open(io.BytesIO(data)))
            window = t.frame, 1, t.top, t.left, t.height, t.width
            assert np.array_equal(decode_hr(sample, member, *window)[0], pixels)


def jpeg_file(height: int, width: int, mode: str = "RGB", **settings: object) -> bytes:
    buffer = io.BytesIO()
    plain = {"quality": 95, "subsampling": 0}
    Image.new(mode, (width, height)).save(buffer, "JPEG", **{**plain, **settings})
    return buffer.getvalue()


def resized(data: bytes, height: int, width: int) -> bytes:
    """A JPEG file whose header claims another size."""
    start = next(data.index(bytes([0xFF, m])) for m in (0xC0, 0xC2) if bytes([0xFF, m]) in data)
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return data[: start + 5] + size + data[start + 9 :]


TURNED = Image.Exif()
TURNED[0x0112] = 6
HOSTILE_JPEGS: dict[str, tuple[bytes, str]] = {
    "another size": (jpeg_file(16, 17), "16 x 17, not 16 x 16"),
    "a bomb": (resized(jpeg_file(16, 16), 65_535, 65_535), "65535 x 65535 pixels, .* at most"),
    "a progressive bomb": (resized(jpeg_file(16, 16, progressive=True), 65_535, 65_535), "plain"),
    "progressive": (jpeg_file(16, 16, progressive=True), "not a JPEG file of the plain kind"),
    "grey": (jpeg_file(16, 16, "L"), "not a JPEG file"),
    "cmyk": (jpeg_file(16, 16, "CMYK"), "not a JPEG file"),
    "subsampled": (jpeg_file(16, 16, subsampling=2), "not a JPEG file of three channels in 4:4:4"),
    "turned": (jpeg_file(16, 16, exif=TURNED), "not a JPEG file"),
    "colour profile": (jpeg_file(16, 16, icc_profile=b"profile"), "not a JPEG file"),
    "another quality": (jpeg_file(16, 16, quality=90), "quality 90, not 95"),
    "webp": (encode_webp(np.zeros((16, 16, 3), np.uint8)), "not a JPEG file"),
    "nothing": (b"", "not a JPEG file"),
}


@pytest.mark.parametrize("name", HOSTILE_JPEGS)
def test_a_tile_that_is_another_jpeg_than_its_record_says_is_refused_without_decoding(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data, told = HOSTILE_JPEGS[name]
    member, tiles = pack_files([(TilePlace(0, 0, 0, 16, 16), data)], is_jpeg=True)
    sample = sample_of(np.empty((1, 16, 16, 3)), tiles, HrJpeg(quality=95, mse=1))
    monkeypatch.setattr(decode, "decode_tile", lambda _: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=told):
        decode_hr(sample, member)


def test_a_jpeg_is_no_tile_of_a_sample_that_is_stored_exactly() -> None:
    member, tiles = pack_files([(TilePlace(0, 0, 0, 16, 16), jpeg_file(16, 16))])
    with pytest.raises(ValueError, match="not a WebP image"):
        decode_hr(sample_of(np.empty((1, 16, 16, 3)), tiles), member)


def test_what_follows_the_pixels_of_a_jpeg_changes_nothing() -> None:
    """Neither another frame nor an orientation: no more memory, no more time, the same pixels."""
    data = encode_jpeg(texture(16, 24), 95, "444")
    turned = jpeg_file(16, 24, exif=TURNED)[2:]
    bomb = resized(jpeg_file(16, 24, progressive=True), 65_535, 65_535)[2:]
    for more in (turned, bomb):
        changed = data[:-2] + more
        assert read_jpeg_header(changed) == (16, 24, 95)
        assert np.array_equal(decode_tile(changed), decode_tile(data))
