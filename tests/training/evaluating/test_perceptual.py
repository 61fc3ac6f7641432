import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from training.config import UserError
from training.evaluating.perceptual import load_perceptual

CPU = torch.device("cpu")
WHITE = np.full((4, 6, 3), 255, np.uint8)
GRAY = np.full((4, 6, 3), 51, np.uint8)


def difference(restored: Tensor, target: Tensor) -> Tensor:
    assert restored.shape == target.shape == (1, 3, 4, 6)
    return (restored - target).abs().mean()


def level(restored: Tensor) -> Tensor:
    return restored.mean()


def test_nothing_is_imported_for_other_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert load_perceptual(["psnr_y", "tof"], CPU) == {}


def test_without_pyiqa_the_message_tells_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install pyiqa"):
        load_perceptual(["lpips"], CPU)


def test_metrics_get_pictures_between_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"lpips": difference, "niqe": level}
    fake = SimpleNamespace(create_metric=lambda name, device: made[name])
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    metrics = load_perceptual(["psnr_y", "lpips", "niqe"], CPU)
    assert metrics["lpips"](WHITE, GRAY) == pytest.approx(0.8)
    assert metrics["niqe"](GRAY, WHITE) == pytest.approx(0.2)


def test_weights_that_cannot_be_downloaded_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, device: torch.device) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=offline))
    with pytest.raises(UserError, match="weights of niqe"):
        load_perceptual(["niqe"], CPU)
