"""One optimizer step: what is minimised, and how fast."""

import math

import torch
from torch import Tensor

from training.batch import Batch
from training.checkpoint import TrainingState
from training.metrics import psnr_rgb, to_8_bits
from training.validation import super_resolve

_CHARBONNIER_EPS = 1e-3
_MAX_GRADIENT_NORM = 1.0


def training_step(state: TrainingState, batch: Batch, learning_rate: float) -> Tensor:
    """Take one optimizer step.

    Returns:
        (2,) float64 on the batch's device: the loss, and the PSNR on RGB in dB.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    restored = super_resolve(state.model, batch)
    loss = charbonnier(restored, batch.hr)
    state.optimizer.zero_grad()
    loss.backward()
    # A recurrence multiplies gradients through time; one bad clip must not undo the rest.
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), _MAX_GRADIENT_NORM)
    state.optimizer.step()
    state.step += 1
    with torch.no_grad():
        pictures = [to_8_bits(x.flatten(0, 1)) for x in (restored, batch.hr)]
        return torch.stack([loss.double(), psnr_rgb(*pictures).mean()])


def charbonnier(x: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2), eps = 0.001: L1 that is smooth at 0 (LapSRN, section 3.2)."""
    return ((x - target).square() + _CHARBONNIER_EPS**2).sqrt().mean()


def cosine(learning_rate: float, step: int, steps: int) -> float:
    """Half a cosine from `learning_rate` at step 0 to 0 at step `steps`."""
    return learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
