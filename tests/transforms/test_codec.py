"""Each trap of codec use has a test that fails when its pin is taken away."""

import dataclasses

import numpy as np
import pytest
from av.sidedata.sidedata import Type
from av.video.frame import PictureType

from benchmarks.reference import reference_decode, reference_round_trip
from schemas.draw import CodecDraw, ColorDraw
from schemas.encoders import ENCODERS
from tests.pictures import moving_clip
from tests.transforms.coding import (
    CODECS,
    code,
    coloured_waves,
    decoded_rgb,
    draw_for,
    mean_shift,
    psnr_db,
)
from transforms import codec
from transforms.bitstream import mux_nut, packet_positions
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
    traits = ENCODERS[name]  # type: ignore[index]
    for pixel_format in traits.pixel_formats:
        draw = draw_for(name, pixel_format=pixel_format, color=traits.default_color)
        draw = draw.model_copy(update={"rate_value": max(2, traits.qscale[0])})
        decoded = decoded_rgb(code(frames, draw), name, draw).astype(float)
        # The finest quantiser of H.263 is coarse, and bends waves a little by itself.
        most = 0.1 if name == "h263p" else 0.05
        assert np.abs(mean_shift(frames, decoded)).max() < most, pixel_format
        error = (decoded - frames).mean(axis=(0, 1, 2))
        assert np.abs(error).max() < 0.3, (pixel_format, error)


def test_every_frame_is_one_slice() -> None:
    # T4 is in test_codec_determinism. T5: with threads, x264 and the MPEG encoders cut frames
    # into slices, one a core.
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


@pytest.mark.parametrize("name", ["mpeg4", "mpeg2video", "mpeg1video", "h263p"])
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
        assert len(packets) == num_frames
        decoded = decode_with_side_data(packets, name)
        assert [frame.pts for frame in decoded] == list(range(num_frames))
        assert psnr_db(yuv_to_rgb(decoded), frames) > 25


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("name", ["h264", "mpeg4", "mpeg2video", "mpeg1video", "h263p"])
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


@pytest.mark.parametrize(
    ("name", "pixel_format", "size", "expected"),
    [
        ("h264", "yuv420p", (45, 33), (46, 34)),
        ("h264", "yuv422p", (45, 33), (45, 34)),
        ("h264", "yuv444p10le", (45, 33), (45, 33)),
        ("h264", "yuv420p", (1, 200), (16, 200)),
        ("hevc", "yuv420p", (48, 48), (96, 96)),
        ("hevc", "yuv420p", (97, 200), (98, 200)),
        ("h263p", "yuv420p", (90, 98), (92, 100)),
        ("mpeg4", "yuv420p", (100, 64), (100, 64)),
        ("vp9", "yuv444p", (99, 65), (99, 65)),
        ("av1", "yuv420p10le", (99, 65), (100, 66)),
    ],
)
def test_pictures_get_a_size_that_the_encoder_takes(
    name: str, pixel_format: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert coded_size(name, pixel_format, *size) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CODECS)
def test_the_smallest_and_odd_sizes_come_back_whole(name: str) -> None:
    for pixel_format in ENCODERS[name].pixel_formats:  # type: ignore[index]
        for size in ((1, 1), (1, 70), (101, 99)):
            height, width = coded_size(name, pixel_format, *size)  # type: ignore[arg-type]
            draw = draw_for(name, pixel_format=pixel_format, height=height, width=width)
            frames = moving_clip(3, height, width)
            assert psnr_db(decoded_rgb(code(frames, draw), name), frames) > 24


@pytest.mark.parametrize("name", CODECS)
def test_one_frame_is_a_clip(name: str) -> None:
    frames = moving_clip(1, 96, 96)
    (packet,) = code(frames, draw_for(name))
    assert (packet.pts, packet.key_frame) == (0, True)


@pytest.mark.parametrize("name", CODECS)
def test_containers_keep_the_bytes_and_times_of_packets(name: str) -> None:
    # VP9 and AV1 packets hold hidden frames besides the one that is shown.
    packets = code(moving_clip(20, 96, 96), draw_for(name, b_frames=3))
    nut = mux_nut(packets, name, 25, 96, 96)
    for packet, position in zip(packets, packet_positions(nut, packets, 25), strict=True):
        assert nut[position : position + len(packet.data)] == packet.data
    assert nut == mux_nut(packets, name, 25, 96, 96)


# What each codec's bitstream has room to say: ITU-T H.273 numbers, FFmpeg's for ranges.
TAGGED = ("h264", "hevc", "mpeg2video", "vp9", "av1")


@pytest.mark.parametrize("name", TAGGED)
@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
@pytest.mark.parametrize("color_range", ["tv", "pc"])
def test_streams_are_tagged_with_what_the_reader_believes(
    name: str, matrix: str, color_range: str
) -> None:
    if (name, color_range) == ("mpeg2video", "pc"):
        return  # has no such tag
    color = ColorDraw.model_validate({"read_matrix": matrix, "read_range": color_range})
    draw = draw_for(name, color=color)
    (frame,) = decode(code(moving_clip(1, 96, 96), draw), name)
    assert frame.colorspace in {"bt709": (1,), "bt601": (5, 6)}[matrix]
    assert frame.color_range == {"tv": 1, "pc": 2}[color_range]


def test_motion_jpeg_is_jfif_unless_the_reader_is_wrong() -> None:
    clip = moving_clip(2, 96, 96)
    jfif = draw_for("mjpeg", color=ENCODERS["mjpeg"].default_color)
    limited = ENCODERS["mjpeg"].default_color.model_copy(update={"read_range": "tv"})
    wrong = jfif.model_copy(update={"color": limited})
    assert {f.color_range for f in decode(code(clip, jfif), "mjpeg")} == {2}
    assert {f.color_range for f in decode(code(clip, wrong), "mjpeg")} == {1}
    # The same YUV, taken for another range: blacks are crushed and whites blown out.
    contrast = [decoded_rgb(code(clip, d), "mjpeg", d).std() for d in (jfif, wrong)]
    assert contrast[1] > 1.1 * contrast[0]


def cli_options(draw: CodecDraw) -> dict[str, str]:
    options = {**codec.encoder_options(draw), "g": str(draw.gop_frames)}
    if draw.codec in ("vp8", "vp9"):
        return {**options, "b:v": "0"}
    return options if draw.codec == "av1" else {**options, "bf": str(draw.b_frames)}


@pytest.mark.parametrize("name", [name for name in CODECS if name not in ("mjpeg", "av1")])
def test_the_command_line_gives_the_same_quality(name: str) -> None:
    # Its SVT-AV1 is another version, and reads the same settings otherwise.
    draw = draw_for(name, rate_value=24 if "crf" in ENCODERS[name].rate_modes else 6)  # type: ignore[index]
    frames = moving_clip(12, 96, 128)
    encoder = ENCODERS[draw.codec].encoder
    _, reference = reference_round_trip(frames, encoder, cli_options(draw))
    here = decoded_rgb(code(frames, draw), name)
    assert abs(psnr_db(here, frames) - psnr_db(reference, frames)) < 0.05


@pytest.mark.parametrize("name", CODECS)
def test_the_command_line_decodes_our_streams_to_the_same_bits(name: str) -> None:
    packets = code(moving_clip(9, 96, 128), draw_for(name))
    planes = reference_decode(mux_nut(packets, name, 25, 96, 128))
    here = b"".join(frame.to_ndarray().tobytes() for frame in decode(packets, name))
    assert planes == here


def test_decoding_may_start_at_a_later_key_frame() -> None:
    frames = moving_clip(24, 96, 96)
    packets = code(frames, draw_for("mpeg2video", gop_frames=8))
    whole = decoded_rgb(packets, "mpeg2video")
    first = next(i for i, p in enumerate(packets) if p.key_frame and p.pts >= 8)
    start = packets[first].pts
    tail = decode(packets[first:], "mpeg2video", window=range(start, start + 3))
    assert np.array_equal(yuv_to_rgb(list(tail)), whole[start : start + 3])


def test_a_broken_stream_is_a_codec_error() -> None:
    packets = code(moving_clip(3, 96, 96), draw_for("h264"))
    garbage = dataclasses.replace(packets[1], data=b"no packet" * 20)
    with pytest.raises(CodecError, match="decoder_failed"):
        decode_with_side_data([packets[0], garbage, packets[2]], "h264")
