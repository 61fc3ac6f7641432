from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from schemas.sample import FrameType, SampleKind
from tests.training.conftest import SCALE, Clip, pan_frames, write_dataset
from training.batch import Batch
from training.config import StreamSettings
from training.dataset import SampleStream
from training.models.cavsr import Cavsr, CavsrConfig
from training.models.encoder import CompressionEncoder, EncoderConfig
from training.models.layers import to_channels_last, warp
from training.models.modulation import Affine
from training.resample import bicubic
from training.validation import super_resolve

TINY = CavsrConfig(channels=8, trunk_blocks=1, modulation_blocks=1, encoder=EncoderConfig(width=4))


def inputs(frames: int = 4, height: int = 16, width: int = 20) -> tuple[Tensor, ...]:
    """LR, frame types with a B frame, and vectors both ways."""
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(2, frames, 3, height, width, generator=generator)
    frame_type = torch.tensor([0, 1, 2, 1])[:frames].expand(2, frames)
    flow = torch.randn(2, 2, frames, 2, height, width, generator=generator)
    return lr, frame_type, flow[0], flow[1]


def trained(config: CavsrConfig = TINY, steps: int = 4) -> Cavsr:
    """A network that has left its start, where some layers put out nothing."""
    torch.manual_seed(0)
    model = Cavsr(config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        lr, *metadata = inputs()
        target = torch.rand(2, 4, 3, 64, 80, generator=torch.Generator().manual_seed(1))
        (model(lr, *metadata) - target).abs().mean().backward()
        optimizer.step()
    return model


def test_the_default_is_as_small_as_planned() -> None:
    size = sum(p.numel() for p in Cavsr(CavsrConfig()).parameters())
    assert 100_000 < size < 130_000


def test_training_starts_from_bicubic_interpolation() -> None:
    lr, *metadata = inputs()
    base = bicubic(lr.flatten(0, 1), 4)
    restored = Cavsr(TINY)(lr, *metadata)
    assert torch.allclose(restored.flatten(0, 1), base, atol=1e-6)


def test_gradients_reach_every_parameter() -> None:
    model = trained()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 20), (2, 7, 5), (3, 1, 1)])
def test_any_length_size_and_scale(scale: int, frames: int, height: int, width: int) -> None:
    model = Cavsr(TINY.model_copy(update={"scale": scale}))
    restored = model(*inputs(frames, height, width))
    assert restored.shape == (2, frames, 3, scale * height, scale * width)
    assert restored.isfinite().all()


def test_metadata_may_be_missing() -> None:
    model, (lr, *_) = trained(), inputs()
    zeros = torch.zeros(2, 4, 2, 16, 20)
    assert torch.equal(model(lr), model(lr, None, zeros, zeros))


@pytest.mark.parametrize("argument", [1, 2, 3])
def test_all_metadata_matter(argument: int) -> None:
    model, arguments = trained(), list(inputs())
    before = model(*arguments)
    arguments[argument] = arguments[argument].flip(1)
    assert (model(*arguments) - before).abs().max() > 1e-5


def test_b_frames_carry_half_of_the_old_state() -> None:
    """With the type code silenced, the type of frame 1 can act on other frames only."""
    model, (lr, frame_type, *flows) = trained(), inputs()
    assert model.encoder is not None
    for parameter in model.encoder.frame_type.parameters():
        nn.init.zeros_(parameter)
    as_b = frame_type.clone()
    as_b[:, 1] = FrameType.B.code
    changed = (model(lr, as_b, *flows) - model(lr, frame_type, *flows)).abs().amax((0, 2, 3, 4))
    assert changed[2] > 0 and changed[3] > 0


def test_information_flows_both_ways_through_a_clip() -> None:
    model, (lr, *metadata) = trained(), inputs()
    before = model(lr, *metadata)
    for source, target in [(0, 3), (3, 0)]:
        other = lr.clone()
        other[:, source] = 1 - other[:, source]
        assert (model(other, *metadata) - before)[:, target].abs().max() > 1e-6


def test_nothing_passes_between_frames_of_a_pseudo_video(tmp_path: Path) -> None:
    clip = Clip("pack", "train", SampleKind.PSEUDO_VIDEO, pan_frames(4, seed=0))
    dataset = write_dataset(tmp_path / "dataset", [clip])
    settings = StreamSettings(frames=4, crop=16, batch_size=1)
    (batch,) = SampleStream(dataset, "train", settings)
    batch = batch.to(torch.device("cpu"))
    model = trained()
    before = super_resolve(model, batch)
    batch.lr[2] = 1 - batch.lr[2]
    changed = (super_resolve(model, batch) - before).abs().amax((1, 2, 3, 4))
    assert changed[2] > 0
    assert not changed[[0, 1, 3]].any()


def test_warp_reads_where_the_vector_points() -> None:
    x = torch.arange(6 * 5, dtype=torch.float32).reshape(1, 1, 6, 5)
    flow = torch.zeros(1, 2, 6, 5)
    flow[:, 0], flow[:, 1] = 1, -2
    warped = warp(x, flow)
    assert torch.allclose(warped[0, 0, 2:, :-1], x[0, 0, :-2, 1:], atol=1e-4)
    assert torch.allclose(warped[0, 0, :2, :-1], x[0, 0, :1, 1:].expand(2, 4), atol=1e-4)
    flow[:, 0], flow[:, 1] = 0.25, 0
    assert torch.allclose(warp(x, flow)[0, 0, :, :-1], x[0, 0, :, :-1] + 0.25, atol=1e-4)


def test_warp_keeps_half_precision_features_and_full_precision_coordinates() -> None:
    x = torch.arange(300.0).expand(1, 1, 2, 300).bfloat16()
    warped = warp(x, torch.zeros(1, 2, 2, 300))
    assert warped.dtype == torch.bfloat16
    assert torch.equal(warped, x)


def test_bfloat16_autocast_changes_little() -> None:
    model, arguments = trained(), inputs()
    exact = model(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*arguments)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.01 * exact.abs().mean()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # torch warns of itself, which would end its compiler
def test_compiled_parts_give_the_same() -> None:
    model, arguments = trained(), inputs()
    model.zero_grad()
    expected = model(*arguments)
    expected.mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    counters.clear()
    model.compile_steps()
    found = model(*arguments)
    found.mean().backward()
    assert torch.allclose(found, expected, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-4)
    parts = ["modulation", "backward step", "forward step", "fusion", "head"]
    assert counters["stats"]["unique_graphs"] == len(parts)
    assert not counters["graph_break"]


def test_modulation_starts_as_the_identity_and_depends_on_the_code() -> None:
    affine = Affine(8, 16)
    x, code = torch.randn(1, 8, 9, 6), torch.randn(1, 16, 3, 2)
    assert torch.equal(affine(x, code), x)
    last = affine.gamma[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.normal_(last.weight)
    assert not torch.allclose(affine(x, code), affine(x, -code))


def test_the_code_tells_frame_types_apart() -> None:
    encoder = CompressionEncoder(EncoderConfig(width=4))
    lr = torch.rand(1, 3, 9, 6).expand(3, -1, -1, -1)
    codes = encoder(lr, torch.arange(3))
    assert codes.shape == (3, 16, 3, 2)
    assert not torch.allclose(codes[0], codes[1]) and not torch.allclose(codes[1], codes[2])


def test_a_batch_overfits(pan_dataset: Path) -> None:
    settings = StreamSettings(frames=3, crop=16, batch_size=2)
    batch = first_clip_batch(pan_dataset, settings)
    torch.manual_seed(0)
    model = Cavsr(CavsrConfig(scale=SCALE))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = (super_resolve(model, batch) - batch.hr).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def first_clip_batch(dataset: Path, settings: StreamSettings) -> Batch:
    stream = SampleStream(dataset, "train", settings)
    batch = next(batch for batch in stream if batch.lr.shape[1] == settings.frames)
    return batch.to(torch.device("cpu"))


def test_nothing_is_copied_to_the_device_on_the_way() -> None:
    """Each copy from the CPU would wait for all that a GPU still has to do."""
    devices = set[str]()

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(
            self, op: Any, _: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            devices.update(x.device.type for x in args if isinstance(x, Tensor) and x.dim())
            return op(*args, **(kwargs or {}))

    network = Cavsr(TINY).to("meta")
    given = [x.to("meta") for x in inputs()]
    with Copies():
        network(*given).mean().backward()
    assert devices == {"meta"}


def test_vectors_that_are_no_numbers_do_no_harm() -> None:
    x, flow = torch.rand(1, 16, 16, 16, requires_grad=True), torch.full((1, 2, 16, 16), torch.nan)
    warp(x, flow.requires_grad_()).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_the_recurrence_keeps_channels_side_by_side() -> None:
    model, seen = Cavsr(TINY), list[bool]()
    to_channels_last(model)

    def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].is_contiguous(memory_format=torch.channels_last))

    for step in (model.backward_step, model.forward_step):
        for part in (step, step.alignment, step.alignment.correction, step.trunk):
            part.register_forward_pre_hook(look)
    model(*inputs(frames=3))
    assert len(seen) == 18 and all(seen)
