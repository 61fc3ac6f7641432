"""One optimizer step: what is minimised, how fast, and the average of the weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.checkpoint import TrainingState
from training.config import OptimizerSettings, TrainConfig
from training.metrics import psnr_rgb, to_8_bits
from training.models.configs import Network

_CHARBONNIER_EPS = 1e-3
_SHARE_OF_AUXILIARY = 0.25  # CAVSR's release, train.yml
_EMA_STEPS_TO_BEGIN = 10


class Objective(nn.Module):
    """A network and what is minimised, as one module: what DistributedDataParallel wraps.

    Args:
        network: what is trained.
        precision: of its convolutions.
    """

    def __init__(self, network: Network, precision: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self._precision = precision

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the restored clips, (N, T, 3, S * h, S * w) float32, not clamped.

        With auxiliary heads the loss is that of CAVSR's release: half of it is the output's, a
        quarter that of the forward features, and a quarter that of the backward features, which
        are to give HR's structure only: HR halved and doubled by bilinear interpolation.
        """
        is_half = self._precision is not torch.float32
        with torch.autocast(batch.lr.device.type, self._precision, enabled=is_half):
            metadata = batch.frame_type, batch.flow_previous, batch.flow_next
            restored, *auxiliary = self.network.restorations(batch.lr, *metadata)
        loss = charbonnier(restored.float(), batch.hr)
        if auxiliary:
            forward, backward = (x.float() for x in auxiliary)
            others = charbonnier(forward, batch.hr) + charbonnier(backward, structure(batch.hr))
            loss = (1 - 2 * _SHARE_OF_AUXILIARY) * loss + _SHARE_OF_AUXILIARY * others
        if batch.lr.shape[1] == 1:
            # Single frames are aligned with nothing, and other processes may have clips now:
            # every parameter takes part in every loss, as DistributedDataParallel asks for.
            loss = loss + 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        return loss, restored.float()


def training_step(
    state: TrainingState, objective: nn.Module, batch: Batch, config: TrainConfig
) -> Tensor:
    """Take one optimizer step.

    Args:
        state: what is changed.
        objective: of the state's network, perhaps wrapped for several processes.
        batch: on the network's device.
        config: the schedule, and limits.

    Returns:
        (3,) float64 on the batch's device: the loss, the PSNR on RGB in dB, and the gradient's norm
        before it was shortened.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    loss, restored = objective(batch)
    state.optimizer.zero_grad()
    loss.backward()
    # A recurrence multiplies gradients through time; one bad clip must not undo the rest.
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
    state.optimizer.step()
    state.step += 1
    average(state.average, state.model, config.ema_decay, state.step)
    with torch.no_grad():
        pictures = [to_8_bits(x.flatten(0, 1)) for x in (restored, batch.hr)]
        return torch.stack([loss.double(), psnr_rgb(*pictures).mean(), norm.double()])


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Take the weights after a step, counted from 1, into their moving average.

    The average reaches back over few steps at first, so that nothing of the random start stays.
    """
    decay = min(decay, (step - 1) / (step - 1 + _EMA_STEPS_TO_BEGIN))
    old, new = list(averaged.state_dict().values()), list(model.state_dict().values())
    is_float = [x.is_floating_point() for x in old]
    floats = [x for x, chosen in zip(old, is_float, strict=True) if chosen]
    torch._foreach_lerp_(
        floats, [x for x, chosen in zip(new, is_float, strict=True) if chosen], 1 - decay
    )
    for a, b, chosen in zip(old, new, is_float, strict=True):
        if not chosen:  # counts of batches
            a.copy_(b)


def charbonnier(x: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2), eps = 0.001: L1 that is smooth at 0 (LapSRN, section 3.2)."""
    return ((x - target).square() + _CHARBONNIER_EPS**2).sqrt().mean()


def structure(hr_BTCHW: Tensor) -> Tensor:
    """HR without its finest details: halved and doubled by bilinear interpolation."""
    hr_NCHW = hr_BTCHW.flatten(0, 1)
    half = F.interpolate(hr_NCHW, scale_factor=0.5, mode="bilinear", align_corners=False)
    double = F.interpolate(half, hr_NCHW.shape[-2:], mode="bilinear", align_corners=False)
    return double.unflatten(0, hr_BTCHW.shape[:2])


def learning_rate(config: OptimizerSettings, step: int) -> float:
    """Of the step that follows `step` steps: a line up, then half a cosine down to 0."""
    warm_up_steps = round(config.warm_up * config.steps)
    if step < warm_up_steps:
        return config.learning_rate * (step + 1) / warm_up_steps
    progress = (step - warm_up_steps) / (config.steps - warm_up_steps)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
