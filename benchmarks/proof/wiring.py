"""P0: every weight takes part, and everything that is told of the bitstream is listened to."""

from typing import NamedTuple

import torch
from torch import Tensor

from training.models.cavsr import Cavsr
from training.models.configs import CONFIGS, build

_STEPS = 4  # from the start, where some layers put out nothing


class Wiring(NamedTuple):
    """What reaches what in a network."""

    config: str
    parameters: int
    without_gradient: int
    """weights whose gradient is 0 everywhere in their tensor"""
    changes: dict[str, float]
    """largest change of the output, in levels of 255, by what was changed"""


def measure_wiring(name: str, side: int = 16) -> Wiring:
    """Train a network of clips for a few steps on noise, then look."""
    torch.manual_seed(0)
    network = build(CONFIGS[name])
    assert isinstance(network, Cavsr)
    lr, target = torch.rand(1, 4, 3, side, side), torch.rand(1, 4, 3, 4 * side, 4 * side)
    types, flows = torch.tensor([[0, 1, 2, 1]]), torch.randn(2, 1, 4, 2, side, side)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        restored = network.restorations(lr, types, *flows)
        torch.stack([(x - target).abs().mean() for x in restored]).sum().backward()
        optimizer.step()
    silent = [p for p in network.parameters() if p.grad is None or not p.grad.any()]
    network.eval()
    changes = _changes(network, lr, types, flows)
    return Wiring(
        config=name,
        parameters=sum(p.numel() for p in network.parameters()),
        without_gradient=sum(p.numel() for p in silent),
        changes=changes,
    )


@torch.no_grad()
def _changes(network: Cavsr, lr: Tensor, types: Tensor, flows: Tensor) -> dict[str, float]:
    before = network(lr, types, *flows)

    def change(after: Tensor) -> float:
        return 255 * float((after - before).abs().max())

    changes = {
        "frame types": change(network(lr, types.flip(1), *flows)),
        "motion": change(network(lr, types, *flows.flip(2))),
    }
    assert network.encoder is not None
    handle = network.encoder.register_forward_hook(lambda *call: call[-1] + 1)
    changes["representation"] = change(network(lr, types, *flows))
    handle.remove()
    return changes
