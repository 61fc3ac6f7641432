import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from training.config import UserError
from training.models.cavsr import Cavsr, CavsrConfig
from training.models.configs import CONFIGS, AnyConfig, build, choose_config
from training.models.encoder import CompressionEncoder, EncoderConfig, ScoreHead
from training.models.images import CompactConfig, RrdbConfig


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def compat() -> Cavsr:
    network = build(CONFIGS["paper-compat"])
    assert isinstance(network, Cavsr)
    return network


OFFICIAL_LIVE_SIZES = {
    "encoder.image": 287_904,
    "heads": 3_584,
    "modulations": 2_544_256,
    "backward_step.alignment": 222_658,
    "forward_step.alignment": 222_658,
    "backward_step.trunk": 1_957_056,
    "forward_step.trunk": 1_993_920,
    "fusion": 110_720,
    "upsample": 334_083,
    "auxiliary": 668_166,
}


@pytest.mark.parametrize("name", OFFICIAL_LIVE_SIZES)
def test_modules_have_the_official_sizes(compat: Cavsr, name: str) -> None:
    assert size(compat.get_submodule(name)) == OFFICIAL_LIVE_SIZES[name]


def test_nothing_but_the_type_branch_is_added_to_what_is_live_officially(compat: Cavsr) -> None:
    score_head, dead_deformable_convolutions = 10_369, 572_384
    assert size(ScoreHead(128)) == score_head
    assert (
        sum(OFFICIAL_LIVE_SIZES.values()) == 8_927_758 - dead_deformable_convolutions - score_head
    )
    assert compat.encoder is not None
    type_branch = size(compat.encoder.frame_type)
    assert size(compat) == sum(OFFICIAL_LIVE_SIZES.values()) + type_branch


def test_the_papers_size_differs_by_what_is_said() -> None:
    cavsr, shared = build(CONFIGS["cavsr"]), build(CONFIGS["cavsr-shared"])
    assert size(cavsr) - size(shared) == 1_272_128 + 1_792  # a modulation and a head
    look_at_the_frame, look_at_features, gate = 1_792, 110_784, 2
    compat_steps = 2 * 222_658 + 1_957_056 + 1_993_920
    expected = compat_steps + 2 * (look_at_the_frame - look_at_features + gate)
    assert isinstance(cavsr, Cavsr)
    assert size(cavsr.backward_step) + size(cavsr.forward_step) == expected


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("xs", 112_112),
        ("s", 253_320),
        ("m", 533_352),
        ("m-plus", 603_579),
        ("l", 1_212_728),
        ("cavsr", 7_492_267),
        ("compact", 171_984),
        ("rrdb", 16_697_987),  # as published
    ],
)
def test_sizes_of_the_configurations(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert size(build(CONFIGS[name])) == parameters


def test_the_encoder_is_the_published_one() -> None:
    encoder = CompressionEncoder(EncoderConfig(width=32, batch_norm=True))
    assert encoder(torch.rand(1, 3, 9, 6), None).shape == (1, 128, 3, 2)


def test_a_configuration_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "größe.toml"
    path.write_text('kind = "cavsr"\nscale = 2\nchannels = 24\n[encoder]\nwidth = 4\n')
    expected = CavsrConfig(scale=2, channels=24, encoder=EncoderConfig(width=4))
    assert choose_config(str(path)) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [("channels = 3", "kind"), ('kind = "cavsr"\nchannels = 0', "channels"), ("kind =", "Invalid")],
)
def test_files_that_are_none_are_refused(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=cause):
        choose_config(str(path))


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"--config giant .* xs, s, m"):
        choose_config("giant")


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at it while it traces
@pytest.mark.parametrize(
    ("config", "num_graphs"),
    [
        # the modulation, a step each way, the fusion and the head
        (CavsrConfig(channels=4, trunk_blocks=1, modulation_blocks=1, head="full"), 5),
        (CompactConfig(channels=4, blocks=1), 1),
        (RrdbConfig(channels=4, blocks=1, growth=2), 2),
    ],
)
def test_every_part_that_repeats_is_compiled(
    config: AnyConfig, num_graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = list[torch.fx.GraphModule]()

    def as_it_is(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=as_it_is))
    network = build(config)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)  # heads start at 0
    lr = torch.rand(1, 2, 3, 8, 8)
    plain = network.restorations(lr)
    network.compile_steps()
    compiled = network.restorations(lr)
    assert len(graphs) == num_graphs
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(plain, compiled, strict=True))
