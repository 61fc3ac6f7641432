import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from schemas.draw import StillCodec, StillDraw
from tests.pictures import texture
from transforms.pixels import to_float, to_uint8
from transforms.still import still

CODECS: list[StillCodec] = ["jpeg", "webp", "avif", "diffjpeg"]
SUBSAMPLINGS = {"420": 2, "444": 0}  # Pillow's numbers for JPEG


def still_draw(codec: StillCodec = "jpeg", quality: float = 50, **changes: object) -> StillDraw:
    values: dict[str, object] = {"codec": codec, "quality": [quality]}
    return StillDraw.model_validate(values | changes)


def psnr(codec: StillCodec, quality: float, image: np.ndarray) -> float:
    error = still(image, still_draw(codec, quality, effort=0), 0) - image
    return float(-10 * np.log10(np.mean(error**2)))


def smooth(height: int, width: int) -> np.ndarray:
    """Little chroma detail, so that what 4:2:0 loses does not hide the rest."""
    rows, columns = np.mgrid[:height, :width]
    bands = [np.sin(rows / 9) + np.cos(columns / 7), np.sin(columns / 11), np.cos(rows / 13)]
    return (0.5 + 0.2 * np.stack(bands, axis=2)).astype(np.float32)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_gets_better_with_its_quality(codec: StillCodec) -> None:
    image = to_float(texture(96, 120))
    values = [psnr(codec, quality, image) for quality in (5, 30, 60, 95)]
    assert values == sorted(values)
    assert values[0] < 27
    assert psnr(codec, 95, smooth(96, 120)) > 40


@pytest.mark.parametrize("size", [(64, 64), (45, 67), (1, 1), (8, 3)])
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_jpeg_is_as_pillow_writes_it(size: tuple[int, int], quality: int, subsampling: str) -> None:
    picture = texture(*size)
    buffer = io.BytesIO()
    chroma = SUBSAMPLINGS[subsampling]
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=chroma)
    theirs = np.asarray(Image.open(buffer)).astype(float)
    ours = 255 * still(to_float(picture), still_draw("jpeg", quality, subsampling=subsampling), 0)
    assert ours.shape == picture.shape and ours.dtype == np.float32
    assert np.abs(ours - theirs).mean() < 0.5


@pytest.mark.parametrize("codec", ["jpeg", "avif", "diffjpeg"])
def test_444_keeps_chroma_edges_that_420_blurs(codec: StillCodec) -> None:
    stripes = np.zeros((32, 32, 3), np.float32)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 1  # red and blue
    errors = [
        np.abs(still(stripes, still_draw(codec, 95, subsampling=s), 0) - stripes).mean()
        for s in ("420", "444")
    ]
    assert errors[0] > 0.2 > 4 * errors[1]


def test_webp_and_avif_are_pillows() -> None:
    picture = texture(45, 67)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=40, method=2)
    expected = np.asarray(Image.open(buffer))
    ours = still(to_float(picture), still_draw("webp", 40, effort=2), 0)
    assert np.array_equal(to_uint8(ours), expected)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "AVIF", quality=40, speed=8, codec="aom", max_threads=1)
    expected = np.asarray(Image.open(buffer))
    ours = still(to_float(picture), still_draw("avif", 40, effort=2), 0)
    assert np.array_equal(to_uint8(ours), expected)


@pytest.mark.parametrize("codec", ["webp", "avif"])
def test_effort_reaches_the_encoder(codec: StillCodec) -> None:
    image = to_float(texture(64, 64))
    results = {still(image, still_draw(codec, 40, effort=e), 0).tobytes() for e in (0, 4)}
    assert len(results) == 2


def torch_diffjpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """The formulas of BasicSR's DiffJPEG, in float64, each block's DCT as a sum of cosines."""
    luma = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56
        14 17 22 29 51 87 80 62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
        49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
    chroma = torch.full((8, 8), 99.0, dtype=torch.float64)
    chroma[:4, :4] = torch.tensor(
        [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
    )
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    tables = [
        torch.tensor([float(v) for v in luma.split()]).double().reshape(8, 8).T,
        chroma,
        chroma,
    ]
    height, width = image.shape[:2]
    pixels = torch.from_numpy(image).double().permute(2, 0, 1) * 255
    pixels = torch.nn.functional.pad(pixels, (0, -width % 16, 0, -height % 16))
    forward = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    ).double()
    backward = torch.tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]).double()
    place = torch.arange(8).double()
    cosines = torch.cos((2 * place[None] + 1) * place[:, None] * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    planes = []
    for index, whole in enumerate(torch.einsum("ij,jhw->ihw", forward, pixels)):
        plane = torch.nn.functional.avg_pool2d(whole[None], 2)[0] if index else whole
        rows, columns = plane.shape
        blocks = (plane - (0 if index else 128)).reshape(rows // 8, 8, columns // 8, 8)
        coded = torch.einsum("uy,aybx,vx->aubv", cosines, blocks, cosines)
        step = (tables[index] * factor)[None, :, None, :]
        coded = torch.round(coded / step) * step
        decoded = torch.einsum("uy,aubv,vx->aybx", cosines, coded, cosines).reshape(rows, columns)
        if index:
            decoded = decoded.repeat_interleave(2, 0).repeat_interleave(2, 1)
        planes.append(decoded + (0 if index else 128))
    rgb = torch.einsum("ij,jhw->hwi", backward, torch.stack(planes))[:height, :width] / 255
    return rgb.clamp(0, 1).numpy()


@pytest.mark.parametrize("size", [(64, 64), (45, 67), (1, 1), (3, 17)])
@pytest.mark.parametrize("quality", [5.5, 30.0, 49.9, 50.0, 73.21, 95.0])
def test_diffjpeg_follows_its_formulas(size: tuple[int, int], quality: float) -> None:
    image = to_float(texture(*size))
    coded = still(image, still_draw("diffjpeg", quality), 0)
    expected = torch_diffjpeg(image, quality)
    assert coded.dtype == np.float32 and coded.shape == image.shape
    # A coefficient that lies half-way between two steps may be rounded to either.
    differs = np.abs(coded - expected) > 2e-5
    assert differs.mean() < 0.02


def test_diffjpeg_is_near_jpeg_but_takes_fractions() -> None:
    image = to_float(texture(96, 96))
    coded = {q: still(image, still_draw("diffjpeg", q), 0) for q in (60.0, 60.4, 61.0)}
    assert not np.array_equal(coded[60.0], coded[60.4])
    assert not np.array_equal(coded[61.0], coded[60.4])
    real = still(image, still_draw("jpeg", 60), 0)
    agreement = -10 * np.log10(np.mean((coded[60.0] - real) ** 2))
    assert 25 < agreement < 45
    best = still(image, still_draw("diffjpeg", 100, subsampling="444"), 0)
    assert np.abs(best - image).max() < 3 / 255


@pytest.mark.parametrize("codec", CODECS)
def test_the_quality_is_that_of_the_frame_and_colours_stay_in_place(codec: StillCodec) -> None:
    red = np.zeros((32, 32, 3), np.float32)
    red[:, :, 0] = 1
    draw = still_draw(codec).model_copy(update={"quality": [5.0, 95.0]})
    assert still(red, draw, 1)[16, 16] == pytest.approx([1, 0, 0], abs=0.03)
    image = to_float(texture(64, 64))
    errors = [np.abs(still(image, draw, frame) - image).mean() for frame in (0, 1)]
    assert errors[0] > 1.5 * errors[1]


@pytest.mark.parametrize("codec", CODECS)
def test_swapped_channels_are_coded_swapped(codec: StillCodec) -> None:
    image = to_float(texture(48, 40))
    swapped = still(image[:, :, ::-1], still_draw(codec), 0)[:, :, ::-1]
    as_vcisr = still(image, still_draw(codec, bgr=True), 0)
    assert np.array_equal(as_vcisr, swapped)
    assert np.abs(as_vcisr - still(image, still_draw(codec), 0)).max() > 0.02
    assert as_vcisr.flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "cut_off", "rounded"),
    [
        (99.9, 99, 100),
        (100, 100, 100),
        (256.2, 0, 255),
        (260, 4, 255),
        (-0.7, 0, 0),
        (-3.5, 253, 0),
    ],
)
def test_cutting_off_wraps_around(value: float, cut_off: int, rounded: int) -> None:
    image = np.full((16, 16, 3), value / 255, np.float32)
    for truncate, expected in ((True, cut_off), (False, rounded)):
        coded = still(image, still_draw("jpeg", 100, truncate=truncate, subsampling="444"), 0)
        assert 255 * coded.mean() == pytest.approx(expected, abs=1.01)


def test_whole_levels_survive_cutting_off() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    rounded, cut_off = (
        still(to_float(gray), still_draw("webp", 90, truncate=truncate), 0)
        for truncate in (False, True)
    )
    assert np.array_equal(rounded, cut_off)


@settings(max_examples=40)
@given(
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    codec=st.sampled_from(CODECS),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["420", "444"]),
    effort=st.integers(0, 6),
    truncate=st.booleans(),
)
def test_any_picture_is_coded_alike_every_time(
    height: int,
    width: int,
    codec: StillCodec,
    quality: int,
    subsampling: str,
    effort: int,
    truncate: bool,
) -> None:
    image = np.random.default_rng(9).random((height, width, 3), dtype=np.float32) * 1.2 - 0.1
    before = image.copy()
    changes = {"subsampling": subsampling, "effort": effort, "truncate": truncate}
    coded = still(image, still_draw(codec, quality, **changes), 0)
    assert coded.shape == image.shape and coded.dtype == np.float32
    assert coded.min() >= 0 and coded.max() <= 1
    assert np.array_equal(coded, still(image, still_draw(codec, quality, **changes), 0))
    assert np.array_equal(image, before)
    if codec != "diffjpeg":
        assert np.array_equal(to_float(to_uint8(coded)), coded)


AVIF_DIGEST = """
import hashlib, numpy as np
from schemas.draw import StillDraw
from tests.pictures import texture
from transforms.pixels import to_float
from transforms.still import still
draw = StillDraw(codec="avif", quality=[40], effort=3)
print(hashlib.sha256(still(to_float(texture(90, 122)), draw, 0).tobytes()).hexdigest())
"""


def test_avif_gives_the_same_bytes_in_every_process() -> None:
    assert features.check("avif")
    draw = StillDraw(codec="avif", quality=[40], effort=3)
    image = to_float(texture(90, 122))
    digests = {hashlib.sha256(still(image, draw, 0).tobytes()).hexdigest() for _ in range(3)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", AVIF_DIGEST], capture_output=True, check=True, text=True
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
