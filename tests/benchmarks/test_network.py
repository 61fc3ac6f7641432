import torch

from benchmarks.anchors.cavsr_network import ReleasedCavsr
from training.models.configs import CONFIGS, build


def smaller() -> tuple[ReleasedCavsr, torch.nn.Module]:
    torch.manual_seed(0)
    released = ReleasedCavsr(repaired=True).eval()
    for parameter in released.modulations.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    ours = build(CONFIGS["paper-compat"]).eval()
    ours.load_state_dict(released.state_dict())
    return released, ours


def test_reading_the_code_at_its_own_size_changes_nothing() -> None:
    released, ours = smaller()
    arguments = torch.rand(1, 2, 3, 9, 6), torch.tensor([[0, 2]]), *torch.randn(2, 1, 2, 2, 9, 6)
    with torch.inference_mode():
        expected, found = released(*arguments), ours(*arguments)
        released._is_repaired = False
        assert (released(*arguments) - expected).abs().max() > 1e-3
    assert torch.allclose(found, expected, atol=1e-5)
