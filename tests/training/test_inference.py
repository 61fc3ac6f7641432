from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.synthetic import gradient
from training.config import UserError
from training.inference import Clip, TileOptions, restore_clip, spans
from training.metrics import to_8_bits
from training.models.cavsr import Cavsr, CavsrConfig
from training.models.encoder import EncoderConfig
from transforms.motion import Flow

CPU = torch.device("cpu")
SMALL_TILES = TileOptions(tile=24, overlap=8, frames=5, overlap_frames=1)


def network() -> Cavsr:
    """A network whose every part has a say."""
    torch.manual_seed(0)
    config = CavsrConfig(
        scale=2, channels=4, trunk_blocks=1, modulation_blocks=1, encoder=EncoderConfig(width=2)
    )
    model = Cavsr(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def whole_clip(frames: int, height: int, width: int) -> Clip:
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(2, frames, height, width, 2)).astype(np.float32)
    return Clip(
        lr=gradient(frames, height, width),
        frame_type=np.arange(frames) % 3,
        flow=Flow(flow[0], flow[1], np.full((frames, height, width), 3, np.uint8)),
    )


def direct(model: nn.Module, clip: Clip) -> np.ndarray:
    lr = torch.from_numpy(clip.lr).movedim(-1, 1).contiguous()[None].float() / 255
    metadata: list[Tensor | None] = [None, None, None]
    if clip.frame_type is not None and clip.flow is not None:
        flows = (torch.from_numpy(f).movedim(-1, 1).contiguous()[None] for f in clip.flow[:2])
        metadata = [torch.from_numpy(clip.frame_type)[None], *flows]
    with torch.no_grad():
        restored = model(lr, *metadata)[0]
    return to_8_bits(restored).byte().movedim(1, -1).numpy()


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 9, 7), (3, 24, 23), (5, 11, 24)])
def test_what_fits_is_what_the_network_puts_out(size: tuple[int, int, int]) -> None:
    model, clip = network(), whole_clip(*size)
    assert np.array_equal(restore_clip(model, clip, CPU, SMALL_TILES), direct(model, clip))
    bare = Clip(lr=clip.lr)
    assert np.array_equal(restore_clip(model, bare, CPU, SMALL_TILES), direct(model, bare))


class Spy(nn.Module):
    """Enlarges pixels, adds a mark of the metadata, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(scale=3)
        self.sizes: list[torch.Size] = []

    def forward(
        self, lr: Tensor, frame_type: Tensor, flow_previous: Tensor, flow_next: Tensor
    ) -> Tensor:
        self.sizes.append(lr.shape)
        told = lr[:, :, 0] / 2 + frame_type[..., None, None] / 10
        marked = torch.stack([told, flow_previous[:, :, 0], flow_next[:, :, 1]], 2)
        return marked.repeat_interleave(3, 3).repeat_interleave(3, 4)


@pytest.mark.parametrize("size", [(1, 50, 9), (6, 24, 24), (17, 61, 40), (2, 25, 41)])
def test_tiles_and_windows_lie_side_by_side(size: tuple[int, int, int]) -> None:
    spy, clip = Spy(), whole_clip(*size)
    shares: list[float] = []
    restored = restore_clip(spy, clip, CPU, SMALL_TILES, shares.append)
    assert len(shares) == len(spy.sizes)
    assert sum(shares) == pytest.approx(1)
    assert len(spy.sizes) > 1
    assert all(s[1] <= 5 and max(s[3:]) <= 24 for s in spy.sizes)
    assert np.array_equal(restored, direct(spy, clip))


def test_overlap_brings_tiles_close_to_the_whole() -> None:
    model, clip = network(), whole_clip(7, 40, 33)
    whole = direct(model, clip).astype(int)
    bare = TileOptions(tile=24, overlap=0, frames=5, overlap_frames=0)
    without, with_overlap = (
        np.abs(restore_clip(model, clip, CPU, options) - whole).mean()
        for options in (bare, SMALL_TILES)
    )
    assert 0 < with_overlap < without / 2


@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_spans_keep_everything_once(overlap: int) -> None:
    for size in range(2 * overlap + 1, 2 * overlap + 5):
        for total in range(1, 40):
            pieces = list(spans(total, size, overlap))
            kept = [i for piece in pieces for i in range(total)[piece.kept]]
            assert kept == list(range(total))
            for piece in pieces:
                assert 0 < piece.stop - piece.start <= size
                assert piece.start == 0 or piece.kept_start - piece.start == overlap
                assert piece.stop == total or piece.stop - piece.kept_stop == overlap


def test_options_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="a tile of 32 pixels is all overlap"):
        TileOptions(tile=32)
    with pytest.raises(UserError, match="multiples of 8"):
        TileOptions(tile=100)
    with pytest.raises(UserError, match="a window of 8 frames is all overlap"):
        TileOptions(frames=8)


def test_arrays_that_are_no_clip_are_refused() -> None:
    lr = gradient(2, 8, 8)
    with pytest.raises(ValueError, match="expected uint8"):
        Clip(lr=lr / np.float32(255))
    with pytest.raises(ValueError, match="at least 1 pixel"):
        Clip(lr=lr[:0])
    with pytest.raises(ValueError, match="frame_type"):
        Clip(lr=lr, frame_type=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="flow"):
        Clip(lr=lr, flow=whole_clip(3, 8, 8).flow)
