"""Lost slices: what is left decodes, to as many frames, the same ones every time."""

import hashlib

import numpy as np
import pytest

from schemas.draw import CodecDraw, LostSlice
from schemas.encoders import ENCODERS
from tests.pictures import moving_clip
from tests.transforms.coding import (
    code,
    decoded_rgb,
    draw_for,
    losses_elsewhere,
    needs_x86,
    psnr_db,
)
from transforms.codec import CodecError, Packet, decode_with_side_data
from transforms.color import yuv_to_rgb
from transforms.packet_loss import count_slices, lose_slices

SIZES = ((96, 96), (90, 122), (48, 200))


def draws() -> list[CodecDraw]:
    return [
        draw_for("h264", slices=3, gop_frames=10, rate_value=25),
        draw_for("h264", slices=3, b_frames=0, refs=1, profile="baseline", rate_value=25),
        draw_for("mpeg2video", rate_value=6),
        draw_for("mpeg2video", rate_value=6, b_frames=0),
    ]


def some_lost(packets: list[Packet], draw: CodecDraw, seed: int) -> list[LostSlice]:
    """A quarter of all slices, but none of the first packet and not all of any."""
    rng = np.random.default_rng(seed)
    lost = []
    for index, packet in enumerate(packets[1:], start=1):
        is_lost = rng.random(count_slices(packet.data, draw.codec)) < 0.25
        is_lost[0] &= not is_lost.all()
        lost += [LostSlice(packet=index, slice=int(n)) for n in np.flatnonzero(is_lost)]
    return lost


@pytest.mark.parametrize("draw", draws(), ids=lambda d: f"{d.codec}-{d.b_frames}")
@pytest.mark.parametrize("size", SIZES)
def test_a_damaged_stream_gives_every_frame_and_always_the_same(
    draw: CodecDraw, size: tuple[int, int]
) -> None:
    clip = moving_clip(16, *size)
    packets = code(clip, draw)
    whole = decoded_rgb(packets, draw.codec)
    for seed in range(4):
        damaged = lose_slices(packets, draw.codec, some_lost(packets, draw, seed))
        decoded = [yuv_to_rgb(decode_with_side_data(damaged, draw.codec)) for _ in range(3)]
        # What a reader sees who asks for no side data.
        decoded.append(decoded_rgb(damaged, draw.codec))
        assert len({frames.tobytes() for frames in decoded}) == 1
        assert decoded[0].shape == clip.shape
        assert np.array_equal(decoded[0][0], whole[0])
        assert 12 < psnr_db(decoded[0], whole) < 60


@needs_x86
def test_gaps_are_concealed_alike_on_lesser_cpus() -> None:
    jobs, here = [], []
    for draw in draws():
        packets = code(moving_clip(12, 90, 122), draw)
        lost = some_lost(packets, draw, seed=7)
        decoded = decoded_rgb(lose_slices(packets, draw.codec, lost), draw.codec)
        here.append(hashlib.sha256(decoded.tobytes()).hexdigest())
        jobs.append((draw.model_copy(update={"lost": lost}), (90, 122)))
    for cpu in ("all", "sse2", "c"):
        assert losses_elsewhere(jobs, frames=12, cpu=cpu) == here, cpu


def test_only_the_slices_that_are_named_go() -> None:
    draw = draw_for("h264", slices=3)
    packets = code(moving_clip(6, 96, 96), draw)
    damaged = lose_slices(packets, "h264", [LostSlice(packet=2, slice=1)])
    counts = [count_slices(packet.data, "h264") for packet in damaged]
    assert counts == [3, 3, 2, 3, 3, 3]
    assert [p.data for i, p in enumerate(damaged) if i != 2] == [
        p.data for i, p in enumerate(packets) if i != 2
    ]
    assert [(p.pts, p.key_frame) for p in damaged] == [(p.pts, p.key_frame) for p in packets]
    # The headers in front of the first packet's slices stay too.
    first = lose_slices(packets, "h264", [LostSlice(packet=0, slice=0)])[0].data
    assert first[:64] == packets[0].data[:64]


def test_mpeg2_has_a_slice_a_row_of_blocks() -> None:
    for packet in code(moving_clip(4, 90, 122), draw_for("mpeg2video")):
        assert count_slices(packet.data, "mpeg2video") == 6


@pytest.mark.parametrize("name", ENCODERS)
def test_codecs_without_lost_slices_have_one_a_frame_or_none_to_find(name: str) -> None:
    traits = ENCODERS[name]  # type: ignore[index]
    draw = draw_for(name, slices=2) if "slices" in traits.takes else draw_for(name)
    packets = code(moving_clip(3, 96, 96), draw)
    found = min(count_slices(packet.data, draw.codec) for packet in packets)
    assert (found > 1) == ("lost" in traits.takes)


@pytest.mark.parametrize(
    "lost",
    [
        [LostSlice(packet=1, slice=3)],
        [LostSlice(packet=9, slice=0)],
        [LostSlice(packet=1, slice=n) for n in range(3)],
    ],
    ids=["no such slice", "no such packet", "a whole packet"],
)
def test_what_cannot_be_lost_is_an_error(lost: list[LostSlice]) -> None:
    packets = code(moving_clip(3, 96, 96), draw_for("h264", slices=3))
    with pytest.raises(CodecError, match="slice_not_there"):
        lose_slices(packets, "h264", lost)


def test_nothing_lost_leaves_any_codec_as_it_is() -> None:
    packets = code(moving_clip(3, 96, 96), draw_for("vp9"))
    assert lose_slices(packets, "vp9", []) == packets
