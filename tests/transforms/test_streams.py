import hashlib
import io

import av
import numpy as np
import pytest

from schemas.draw import ResizeDraw
from schemas.encoders import ENCODERS
from schemas.sample import FrameType, LrKind
from tests.pictures import moving_clip, texture
from tests.transforms.chains import make
from tests.transforms.coding import CODECS, coloured_waves, draw_for, mean_shift
from transforms.decode import decode_lr, decode_quantisers


@pytest.mark.parametrize("name", CODECS)
def test_byte_ranges_in_the_member_are_the_packets(name: str) -> None:
    made = make(moving_clip(9, 96, 96), draw_for(name))
    with av.open(io.BytesIO(made.nut), "r", format="nut") as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    in_coding_order = sorted(made.stream.frames, key=lambda frame: frame.coding_index)
    ranges = [(f.packet_position, f.packet_position + f.packet_bytes) for f in in_coding_order]
    assert [made.nut[start:end] for start, end in ranges] == packets
    assert made.stream.stream_bytes == sum(map(len, packets))


@pytest.mark.parametrize("name", CODECS)
def test_plain_ffmpeg_plays_the_member(name: str) -> None:
    made = make(moving_clip(9, 96, 96), draw_for(name))
    with av.open(io.BytesIO(made.nut), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == 9


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(64, 64), (90, 122), (46, 34)])
def test_the_reference_decoder_returns_what_was_hashed(name: str, size: tuple[int, int]) -> None:
    made = make(moving_clip(7, *size), draw_for(name))
    frames = decode_lr(made.stream, made.nut)
    assert frames.shape == (7, *size, 3)
    assert hashlib.sha256(frames.tobytes()).hexdigest() == made.stream.decoded_sha256
    assert np.array_equal(decode_lr(made.stream, made.nut, 2, 3), frames[2:5])


@pytest.mark.parametrize("name", CODECS)
def test_a_narrower_stored_picture_comes_back_square_and_in_place(name: str) -> None:
    lr = np.stack([coloured_waves(64, 96, phase) for phase in range(6)])
    finest = 3 if name == "h263p" else 2
    made = make(lr, draw_for(name, rate_value=finest, height=64, width=76))
    last = made.stream.post_steps[-1]
    assert isinstance(last, ResizeDraw) and (last.height, last.width) == ([64], [96])
    decoded = decode_lr(made.stream, made.nut).astype(float)
    assert np.abs(mean_shift(lr, decoded)).max() < (0.12 if name == "h263p" else 0.05)


@pytest.mark.parametrize("rate", [15, 23.4, 35])
def test_the_recorded_crf_is_what_the_bitstream_says(rate: float) -> None:
    made = make(moving_clip(5, 96, 96), draw_for("h264", rate_value=rate))
    assert f" crf={rate:.1f} ".encode() in made.nut
    assert (made.stream.rate_mode, made.stream.rate_value) == ("crf", rate)
    assert made.stream.settings_from == "bitstream"
    assert made.stream.encoder_build.startswith("x264 - core")


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_gop_b_frames_and_constant_quantisers_are_read_back(name: str) -> None:
    draw = draw_for(name, rate_mode="qscale", rate_value=31, gop_frames=5, b_frames=1)
    made = make(moving_clip(12, 96, 96), draw)
    assert (made.stream.gop_frames, made.stream.b_frames) == (5, 1)
    keys = [frame.display_index for frame in made.stream.frames if frame.key_frame]
    assert max(np.diff(keys)) <= 5
    types = "".join(frame.frame_type for frame in made.stream.frames)
    assert "BB" not in types and types[0] == "I"


@pytest.mark.parametrize("name", CODECS)
def test_a_bitrate_is_taken(name: str) -> None:
    clip = np.stack([texture(96, 96, seed) for seed in range(30)])
    rates = [2_000_000.0, 300_000.0]
    sizes = [
        make(clip, draw_for(name, rate_mode="bitrate", rate_value=rate)).stream.stream_bytes
        for rate in rates
    ]
    assert sizes[0] > 1.5 * sizes[1]


def test_h264_quantisers_rise_with_crf_and_come_from_the_decoder() -> None:
    means = []
    for rate in (15, 25, 35):
        made = make(moving_clip(9, 96, 96), draw_for("h264", rate_value=rate))
        assert made.stream.qp_from == "decoder"
        assert all(0 <= f.qp_min <= f.qp_mean <= f.qp_max <= 51 for f in made.stream.frames)
        means.append(np.mean([f.qp_mean for f in made.stream.frames]))
    assert means[0] + 5 < means[1] < means[2] - 5


def test_x265_quantisers_are_labelled_as_the_encoders() -> None:
    made = make(moving_clip(5, 96, 96), draw_for("hevc"))
    assert made.stream.qp_from == "encoder"
    assert all(f.qp_mean > 0 and f.qp_min == -1 for f in made.stream.frames)


def test_frames_are_joined_to_packets_across_reordering() -> None:
    made = make(moving_clip(12, 96, 96), draw_for("mpeg4", b_frames=2, gop_frames=250))
    frames = made.stream.frames
    assert [f.display_index for f in frames] == list(range(12))
    assert sorted(f.coding_index for f in frames) == list(range(12))
    for frame in frames:
        if frame.frame_type is FrameType.B:
            following = next(
                f for f in frames[frame.display_index :] if f.frame_type is not FrameType.B
            )
            assert following.coding_index < frame.coding_index
            assert frame.packet_bytes < frames[0].packet_bytes


def test_a_stream_without_codec_is_stored_exactly() -> None:
    lr = moving_clip(5, 64, 64)
    made = make(lr, None)
    assert made.stream.lr_kind is LrKind.LOSSLESS
    assert (made.stream.rate_mode, made.stream.color_matrix) == ("lossless", "rgb")
    assert np.array_equal(decode_lr(made.stream, made.nut), lr)


def test_equal_frames_give_equal_members() -> None:
    for name in CODECS:
        first, second = (make(moving_clip(9, 64, 64), draw_for(name)) for _ in range(2))
        assert first.nut == second.nut and first.stream == second.stream


def test_a_window_beyond_the_stream_is_refused() -> None:
    made = make(moving_clip(5, 64, 64), None)
    with pytest.raises(ValueError, match="does not fit"):
        decode_lr(made.stream, made.nut, 3, 3)


def test_quantisers_lie_under_the_lr_pixels_they_belong_to() -> None:
    lr = moving_clip(4, 64, 96)
    lr[:, :, 48:] = 128  # the flat half gets other quantisers
    made = make(lr, draw_for("h264", rate_value=30, height=64, width=76))
    maps = decode_quantisers(made.stream, made.nut, 1, 2)
    assert maps.shape == (2, 64, 96)
    assert maps.min() == made.stream.frames[1].qp_min or maps.min() == made.stream.frames[2].qp_min
    for index in range(2):
        columns = maps[index, :16].mean(axis=0)
        assert len(np.unique(columns[:20])) == 1  # 16 coded pixels are 20 LR pixels here
    constant = make(lr, draw_for("mpeg2video", rate_value=7))
    assert set(np.unique(decode_quantisers(constant.stream, constant.nut))) == {7}
    silent = make(lr, draw_for("hevc"))
    assert set(np.unique(decode_quantisers(silent.stream, silent.nut))) == {-1}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_frames_are_decoded_before_they_are_shown_and_one_a_tick(
    name: str, num_frames: int
) -> None:
    # libx265's own decoding times of such short clips are uninitialised memory.
    made = make(moving_clip(num_frames, 96, 96), draw_for(name, b_frames=4))
    frames = sorted(made.stream.frames, key=lambda frame: frame.coding_index)
    assert [frame.dts - frames[0].dts for frame in frames] == list(range(num_frames))
    assert min(frame.pts - frame.dts for frame in frames) == 0
    assert [frame.pts for frame in made.stream.frames] == list(range(num_frames))


@pytest.mark.parametrize("name", CODECS)
def test_times_in_the_member_are_those_of_the_record(name: str) -> None:
    # A muxer moves negative decoding times to 0, and everything else with them, if it may.
    made = make(moving_clip(12, 96, 96), draw_for(name, b_frames=2, fps=25))
    with av.open(io.BytesIO(made.nut), "r", format="nut") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    in_coding_order = sorted(made.stream.frames, key=lambda frame: frame.coding_index)
    if ENCODERS[draw_for(name).codec].max_b_frames:
        assert min(frame.dts for frame in in_coding_order) < 0
    times = [packet.pts * packet.time_base * 25 for packet in packets if packet.pts is not None]
    assert times == [frame.pts for frame in in_coding_order]
