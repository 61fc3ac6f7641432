from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.conftest import SCALE
from training.models.cavsr import Cavsr, CavsrConfig
from training.report import score_table
from training.resample import bicubic
from training.validation import read_validation_set, validate


@pytest.mark.parametrize(
    ("factor", "golden"),
    [(0.25, [0.436591, 0.486158, 0.540380]), (0.5, [0.305352, 0.489842, 0.576151])],
)
def test_bicubic_is_matlabs(factor: float, golden: list[float]) -> None:
    x = np.random.default_rng(2).random((32, 48, 3)).astype(np.float32)
    resized = bicubic(torch.from_numpy(x).movedim(-1, 0)[None], factor)[0].movedim(0, -1)
    assert resized.shape == (32 * factor, 48 * factor, 3)
    found = [resized[0, 0, 0], resized[3, 5, 1], resized[-1, -1, 2]]
    assert [value.item() for value in found] == pytest.approx(golden, abs=2e-6)


def test_bicubic_takes_pictures_smaller_than_its_border() -> None:
    assert torch.allclose(bicubic(torch.full((1, 3, 3, 2), 0.5), 4), torch.tensor(0.5))


class Bicubic(nn.Module):
    """A network that is the baseline."""

    def forward(self, lr: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return bicubic(lr.flatten(0, 1), SCALE).unflatten(0, lr.shape[:2])


def test_the_baseline_gains_nothing_over_itself(pan_dataset: Path) -> None:
    chosen = read_validation_set(pan_dataset)
    scores, examples = validate(Bicubic(), chosen, torch.device("cpu"))
    assert [(s.stream, s.clips, s.frames) for s in scores] == [("clean", 2, 10), ("crf35", 2, 10)]
    for score in scores:
        assert score.model_psnr_rgb == score.bicubic_psnr_rgb
        assert score.model_psnr_y == score.bicubic_psnr_y
    assert scores[0].model_psnr_y > scores[1].model_psnr_y
    assert [example.stream for example in examples] == ["clean", "crf35"]
    for example in examples:
        assert example.hr.shape == example.lr.shape == (4 * 32, 4 * 40, 3)
        assert (example.model == example.bicubic).all()
        assert (example.lr[::4, ::4] == example.lr[3::4, 3::4]).all()


def test_the_table_has_a_line_per_stream(pan_dataset: Path) -> None:
    model = Cavsr(CavsrConfig(scale=SCALE))
    table = score_table(validate(model, read_validation_set(pan_dataset), torch.device("cpu"))[0])
    assert [line.split()[0] for line in table.splitlines()[-2:]] == ["clean", "crf35"]
    assert "no validation split" in score_table([])
