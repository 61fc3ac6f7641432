"""Published protocol on the published clips, where they are at hand: cubic interpolation of Vid4.

The anchors were measured independently of this code: 23.55 dB clean, 23.38, 22.84 and 21.38 dB
after x264 at CRF 15, 25 and 35 over whole clips (COMISR's chain: FFmpeg's command, 4:2:0).
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from schemas.draw import StreamDraw
from tests.transforms.chains import sized
from tests.transforms.coding import draw_for
from transforms.degrade import Clip, apply_stages
from transforms.pixels import to_float, to_uint8
from transforms.resize import resize
from transforms.streams import make_stream, split_at_last_codec

VID4 = Path(__file__).parents[3] / "shared" / "data" / "vid4"
CLIPS = ("calendar", "city", "foliage", "walk")

pytestmark = pytest.mark.skipif(not VID4.is_dir(), reason=f"needs Vid4 in {VID4}")


@cache
def ground_truth(clip: str) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB."""
    return np.stack(
        [np.array(Image.open(f).convert("RGB")) for f in sorted((VID4 / clip).iterdir())]
    )


@cache
def downscaled(clip: str) -> np.ndarray:
    hr = ground_truth(clip)
    size = (hr.shape[1] // 4, hr.shape[2] // 4)
    return np.stack([to_uint8(resize(to_float(frame), *size, "bd")) for frame in hr])


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of BT.601, 16 to 235, not rounded."""
    return 16 + rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def cubic_psnr(lr: np.ndarray, hr: np.ndarray) -> float:
    """Mean over the frames, dB."""
    values = []
    for small, large in zip(lr, hr, strict=True):
        size = (large.shape[1], large.shape[0])
        enlarged = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        values.append(10 * np.log10(255**2 / np.mean((luma(enlarged) - luma(large)) ** 2)))
    return float(np.mean(values))


def test_bd_gives_the_anchor_of_the_uncompressed_clips() -> None:
    found = np.mean([cubic_psnr(downscaled(clip), ground_truth(clip)) for clip in CLIPS])
    assert found == pytest.approx(23.55, abs=0.02)


@pytest.mark.parametrize(("crf", "anchor"), [(15, 23.38), (25, 22.84), (35, 21.38)])
def test_x264_at_its_defaults_gives_the_anchors_of_the_compressed_clips(
    crf: int, anchor: float
) -> None:
    values = []
    for clip in CLIPS:
        lr = downscaled(clip)
        draw = draw_for("h264", rate_value=crf, b_frames=3)
        stages = sized(draw, (lr.shape[1], lr.shape[2]))
        before = apply_stages(Clip(list(lr), []), split_at_last_codec(stages)[0]).frames
        frames = np.stack([f if f.dtype == np.uint8 else to_uint8(f) for f in before])
        made = make_stream(frames, StreamDraw(stages=stages), 0, "x264")
        values.append(cubic_psnr(made.decoded, ground_truth(clip)))
    assert np.mean(values) == pytest.approx(anchor, abs=0.05)
