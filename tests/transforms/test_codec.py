"""Each trap of codec use has a test that fails when its pin is taken away."""

import dataclasses
import itertools

import numpy as np
import pytest
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from tests.pictures import moving_clip
from tests.transforms.coding import (
    CODECS,
    code,
    coloured_waves,
    decoded_rgb,
    draw_for,
    mean_shift,
)
from transforms import codec
from transforms.codec import (
    CodecError,
    CodedFrame,
    coded_size,
    decode,
    decode_with_side_data,
    encode,
    encode_lossless,
)
from transforms.color import yuv_to_rgb
from transforms.settings import stream_settings


@pytest.mark.parametrize("fill", [0x00, 0x01, 0x80, 0xFF])
def test_what_lies_behind_a_packet_in_memory_is_not_decoded(fill: int) -> None:
    # T1: decoders read beyond a packet's end, where there must be zeros.
    packets = code(moving_clip(16, 96, 96), draw_for("mpeg4", rate_value=6))
    views = [
        CodedFrame(memoryview(p.data + bytes([fill]) * 64)[: len(p.data)], p.pts)  # type: ignore[arg-type]
        for p in packets
    ]
    decoded = yuv_to_rgb(list(decode(views, "mpeg4")))
    assert np.array_equal(decoded, decoded_rgb(packets, "mpeg4"))


@pytest.mark.parametrize("name", CODECS)
def test_codecs_shift_neither_position_nor_colour(name: str) -> None:
    # T2 and T3: swscale's defaults move chroma by half a pixel and darken by a level.
    frames = np.stack([coloured_waves(96, 128, phase) for phase in np.arange(12) / 2])
    decoded = decoded_rgb(code(frames, draw_for(name, rate_value=2)), name).astype(float)
    assert np.abs(mean_shift(frames, decoded)).max() < 0.05
    error = (decoded - frames).mean(axis=(0, 1, 2))
    assert np.abs(error).max() < 0.3, error


@pytest.mark.parametrize("size", [(64, 64), (90, 90), (90, 160), (180, 320)])
def test_x264_gives_one_stream_on_every_cpu(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # T4: without the pin AVX-512, AVX2 and SSE2 differ, and AVX-512 from one encode to the next.
    frames = moving_clip(20, *size)
    draw = draw_for("h264", rate_value=25, b_frames=3)
    streams = {b"".join(p.data for p in code(frames, draw)) for _ in range(6)}
    options = codec.encoder_options(draw)
    for level in ("SSE2", "AVX2"):
        masked = {**options, "x264-params": f"{options['x264-params']}:asm={level}"}
        monkeypatch.setattr(codec, "encoder_options", lambda *_, m=masked, **__: dict(m))
        streams.add(b"".join(p.data for p in code(frames, draw)))
    assert len(streams) == 1


def test_every_frame_is_one_slice() -> None:
    # T5: with threads, x264 and the MPEG encoders cut frames into slices, one a core.
    for packet in code(moving_clip(4, 128, 128), draw_for("h264")):
        assert _nal_types(packet.data).count(1) + _nal_types(packet.data).count(5) == 1


def _nal_types(data: bytes) -> list[int]:
    starts = [i + 3 for i in range(len(data) - 3) if data[i : i + 3] == b"\0\0\1"]
    return [data[start] & 0x1F for start in starts]


@pytest.mark.parametrize("name", ["h264", "mpeg4"])
def test_frame_types_of_the_source_are_not_forced_on_the_encode(name: str) -> None:
    # T6: a decoded frame carries its picture type, which an encoder takes for an order.
    intra = code(moving_clip(8, 96, 96), draw_for(name, gop_frames=1, b_frames=0))
    decoded = list(decode(intra, name))
    assert {frame.pict_type for frame in decoded} == {PictureType.I}
    again = decode_with_side_data(encode(decoded, draw_for(name)), name)
    assert [frame.pict_type for frame in again].count(PictureType.I) == 1


@pytest.mark.parametrize("name", ["mpeg4", "mpeg2video"])
@pytest.mark.parametrize("quantiser", [3, 8, 19])
def test_a_constant_quantiser_is_taken(name: str, quantiser: int) -> None:
    # T7: `qscale` as such is ignored.
    draw = draw_for(name, rate_value=quantiser)
    frames = decode_with_side_data(code(moving_clip(8, 96, 96), draw), name)
    settings = stream_settings(draw, frames)  # raises unless every macroblock has it
    assert settings.rate_value == quantiser


def test_an_option_that_nobody_takes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # T8, an unknown option.
    monkeypatch.setattr(codec, "encoder_options", lambda *_, **__: {"presett": "fast"})
    with pytest.raises(CodecError, match=r"setting_not_taken.*presett"):
        code(moving_clip(2, 96, 96), draw_for("h264"))


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_a_setting_that_is_silently_ignored_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # T8, an unknown key inside x264-params or x265-params: FFmpeg says nothing.
    draw = draw_for(name, rate_value=30.5)
    options = codec.encoder_options

    def mistyped(*arguments: object, **named: object) -> dict[str, str]:
        taken = options(*arguments, **named)  # type: ignore[arg-type]
        parameters = next(key for key in taken if key.endswith("-params"))
        taken[parameters] += f":cfr={taken.pop('crf')}"
        return taken

    monkeypatch.setattr(codec, "encoder_options", mistyped)
    frames = decode_with_side_data(code(moving_clip(4, 96, 96), draw), name)
    with pytest.raises(CodecError, match=r"setting_not_taken.*30\.5"):
        stream_settings(draw, frames)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_every_frame_of_every_codec_comes_back(name: str, b_frames: int) -> None:
    for num_frames in (1, 2, 5, 13):
        frames = moving_clip(num_frames, 96, 96)
        packets = code(frames, draw_for(name, b_frames=b_frames))
        decoded = decode_with_side_data(packets, name)
        assert [frame.pts for frame in decoded] == list(range(num_frames))
        assert _psnr(yuv_to_rgb(decoded), frames) > 25


@pytest.mark.parametrize("name", ["h264", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_the_last_frame_has_its_metadata_too(name: str, b_frames: int) -> None:
    frames = moving_clip(16, 96, 96)
    decoded = decode_with_side_data(code(frames, draw_for(name, b_frames=b_frames)), name)
    for frame in decoded:
        assert codec.side_data_of(frame, Type.VIDEO_ENC_PARAMS) is not None
        has_vectors = codec.side_data_of(frame, Type.MOTION_VECTORS) is not None
        assert has_vectors == (frame.pict_type != PictureType.I)


def test_lossless_storage_is_exact_for_odd_and_tiny_sizes() -> None:
    for height, width in ((64, 64), (17, 33), (16, 16), (90, 122)):
        frames = moving_clip(3, height, width)
        packets = encode_lossless(frames, 25)
        assert np.array_equal(decoded_rgb(packets, "h264"), frames)


def test_x265_streams_do_not_name_the_cpu() -> None:
    packets = code(moving_clip(2, 96, 96), draw_for("hevc"))
    assert b"cpuid" not in b"".join(p.data for p in packets)


def test_small_pictures_are_padded_for_x265() -> None:
    assert coded_size("hevc", 48, 48) == (96, 96)
    assert coded_size("h264", 45, 33) == (46, 34)
    assert coded_size("mpeg4", 100, 64) == (100, 64)


def test_decoding_may_start_at_a_later_key_frame() -> None:
    frames = moving_clip(24, 96, 96)
    packets = code(frames, draw_for("mpeg2video", gop_frames=8))
    whole = decoded_rgb(packets, "mpeg2video")
    first = next(i for i, p in enumerate(packets) if p.key_frame and p.pts >= 8)
    start = packets[first].pts
    tail = decode(packets[first:], "mpeg2video", skip_until=start)
    assert np.array_equal(yuv_to_rgb(list(itertools.islice(tail, 3))), whole[start : start + 3])


def test_a_broken_stream_is_a_codec_error() -> None:
    packets = code(moving_clip(3, 96, 96), draw_for("h264"))
    garbage = dataclasses.replace(packets[1], data=b"no packet" * 20)
    with pytest.raises(CodecError, match="decoder_failed"):
        decode_with_side_data([packets[0], garbage, packets[2]], "h264")


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))
