"""The cubic rows of Vid4, where it is at hand, against values measured independently of this code.

Those are COMISR's chain (FFmpeg's command), OpenCV's cubic interpolation, PSNR and SSIM of Y.
"""

from pathlib import Path

import pytest

from training.evaluate import main
from training.evaluating.clips import find_clips
from training.evaluating.degradation import Condition, degrade
from training.evaluating.measure import Meter
from training.evaluating.methods import cubic
from training.evaluating.protocol import PROTOCOLS
from training.evaluating.report import comparable
from training.evaluating.results import Results

VID4 = Path(__file__).parents[4] / "shared" / "data" / "vid4"
ANCHORS = {
    "clean": (23.55, 0.621),
    "CRF 15 4:2:0": (23.38, 0.605),
    "CRF 25 4:2:0": (22.85, 0.563),
    "CRF 35 4:2:0": (21.39, 0.475),
}

pytestmark = pytest.mark.skipif(not VID4.is_dir(), reason=f"needs Vid4 in {VID4}")


def test_a_whole_clip_gives_its_anchor() -> None:
    (city,) = (clip for clip in find_clips(VID4) if clip.name == "city")
    hr = city.read()
    (coded,) = degrade(hr, [Condition(25)])
    psnrs = Meter(hr, ["psnr_y"], PROTOCOLS["cavsr"], {})(cubic(coded))["psnr_y"]
    assert len(psnrs) == 34
    assert sum(psnrs) / 34 == pytest.approx(24.44, abs=0.02)


@pytest.mark.long
def test_the_whole_set_gives_all_anchors(tmp_path: Path) -> None:
    assert main(["--data", str(VID4), "--output", str(tmp_path)]) == 0
    results = Results.model_validate_json((tmp_path / "results.json").read_bytes())
    assert comparable(results) is not None
    for condition, (psnr, ssim) in ANCHORS.items():
        assert results.mean("psnr_y", "cubic", condition) == pytest.approx(psnr, abs=0.02)
        assert results.mean("ssim_y", "cubic", condition) == pytest.approx(ssim, abs=0.002)
