"""What is minimised, where a network has auxiliary heads and where convolutions are bfloat16."""

from pathlib import Path

import pytest
import torch

from tests.training.models.test_cavsr import TINY, first_clip_batch, trained
from training.config import StreamSettings
from training.models.cavsr import Cavsr
from training.step import Objective, charbonnier, structure


def test_structure_has_no_detail_and_keeps_what_is_coarse() -> None:
    checkers = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert torch.allclose(structure(checkers.float().expand(1, 1, 3, 8, 8)), torch.tensor(0.5))
    flat = torch.full((2, 3, 3, 8, 8), 0.25)
    assert torch.allclose(structure(flat), flat)


def test_auxiliary_heads_share_the_loss_in_training_only(pan_dataset: Path) -> None:
    batch = first_clip_batch(pan_dataset, StreamSettings(frames=3, crop=16, batch_size=1))
    network = Cavsr(TINY.model_copy(update={"auxiliary_heads": True}))
    with torch.no_grad():
        for number in range(2):  # else all three are bicubic at first
            network.get_parameter(f"auxiliary.{number}.0.bias").fill_(0.1 * (number + 1))
    given = batch.lr, batch.frame_type, batch.flow_previous, batch.flow_next
    restored, forward, backward = network.restorations(*given)
    expected = 0.5 * charbonnier(restored, batch.hr) + 0.25 * charbonnier(forward, batch.hr)
    expected = expected + 0.25 * charbonnier(backward, structure(batch.hr))
    loss, output = Objective(network, torch.float32)(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(output, restored)
    loss.backward()
    for weight in network.auxiliary.parameters():
        assert weight.grad is not None and weight.grad.any()
    assert len(network.eval().restorations(*given)) == 1


def test_half_precision_changes_little_and_gives_full_precision(pan_dataset: Path) -> None:
    batch = first_clip_batch(pan_dataset, StreamSettings(frames=3, crop=16, batch_size=1))
    network = trained()
    exact, _ = Objective(network, torch.float32)(batch)
    rounded, restored = Objective(network, torch.bfloat16)(batch)
    assert restored.dtype == rounded.dtype == torch.float32
    assert 0 < abs(rounded.item() - exact.item()) < 0.02 * exact.item()
