import math

import numpy as np
import pytest

from tests.training.conftest import pan_frames
from training.evaluating.measure import METRICS, Meter, value_names
from training.evaluating.protocol import PROTOCOLS

HR = pan_frames(6, seed=0)


def test_metrics_have_a_value_for_each_choice_of_channels() -> None:
    assert value_names(["tof", "ssim", "psnr"], ["rgb", "y"]) == [
        "psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "tof",
    ]  # fmt: skip
    assert value_names(["psnr", "psnr"], ["y", "y"]) == ["psnr_y"]


def test_a_perfect_restoration_has_perfect_values() -> None:
    names = [name for name in METRICS if name not in ("lpips", "niqe")]
    meter = Meter(HR, names, PROTOCOLS["cavsr"], {})
    values = meter(HR)
    assert values["psnr_y"] == values["psnr_rgb"] == [100] * 6
    assert values["ssim_y"] == values["ssim_rgb"] == pytest.approx([1] * 6)
    assert values["tof"] == [0] * 5
    assert values["warp"] == meter.truth()["warp"] and len(values["warp"]) == 5
    assert list(meter.truth()) == ["warp"]


def test_only_what_the_protocol_keeps_counts() -> None:
    spoiled = HR.copy()
    spoiled[[0, 1, 4, 5]] = 0
    spoiled[:, :16] = spoiled[:, -16:] = 0
    names = ["psnr_y", "ssim_y"]
    values = Meter(HR, names, PROTOCOLS["comisr"], {})(spoiled)
    assert values["psnr_y"] == [100, 100]
    assert values["ssim_y"] == pytest.approx([1, 1])
    assert max(Meter(HR, names, PROTOCOLS["cavsr"], {})(spoiled)["psnr_y"]) < 30


def test_frames_without_a_value_are_left_out() -> None:
    def brightness(restored: np.ndarray, target: np.ndarray) -> float:
        return float(restored.mean()) or math.nan

    restored = HR.copy()
    restored[2] = 0
    values = Meter(HR, ["niqe"], PROTOCOLS["cavsr"], {"niqe": brightness})(restored)
    assert len(values["niqe"]) == 5
