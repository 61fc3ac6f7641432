"""PyAV, as the pipeline uses it, against FFmpeg's command line."""

from fractions import Fraction

import av
import numpy as np
import pytest

from benchmarks.reference import reference_decode, reference_encode, reference_round_trip

HEIGHT, WIDTH, NUM_FRAMES = 96, 128, 12
OPTIONS = {"crf": "25", "preset": "medium", "x264-params": "cpu-independent=1"}


@pytest.fixture(scope="module")
def planes() -> np.ndarray:
    """(T, H * 3 / 2, W) uint8, the planes of yuv420p: waves that drift by two pixels a frame."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    shift = 2 * np.arange(NUM_FRAMES)[:, None, None]
    luma = 128 + 60 * np.sin((columns + shift) / 7) + 30 * np.sin(rows * (columns + shift) / 300)
    chroma = 128 + 40 * np.sin((rows + columns + shift)[:, : HEIGHT // 2] / 20)
    return np.concatenate([luma, chroma], axis=1).astype(np.uint8)


def encode_with_pyav(planes: np.ndarray) -> list[bytes]:
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    context.thread_count = 1
    context.options = dict(OPTIONS)
    context.open()
    packets = []
    for index, array in enumerate(planes):
        frame = av.VideoFrame.from_ndarray(array, "yuv420p")
        frame.pts = index
        packets += context.encode(frame)
    return [bytes(packet) for packet in packets + context.encode(None)]


def decode_with_pyav(packets: list[bytes]) -> np.ndarray:
    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1
    frames = []
    for data in packets:
        packet = av.Packet(len(data))
        packet.update(data)
        frames += context.decode(packet)
    return np.stack([frame.to_ndarray() for frame in frames + context.decode(None)])


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def as_planes(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT * 3 // 2, WIDTH)


def test_both_decode_the_same_stream_to_the_same_bits(planes: np.ndarray) -> None:
    packets = encode_with_pyav(planes)
    reference = as_planes(reference_decode(b"".join(packets), "h264"))
    np.testing.assert_array_equal(decode_with_pyav(packets), reference)


def test_both_encode_to_the_same_quality(planes: np.ndarray) -> None:
    bitstream = reference_encode(planes.tobytes(), HEIGHT, WIDTH, "libx264", OPTIONS)
    reference_db = psnr_db(as_planes(reference_decode(bitstream)), planes)
    pyav_db = psnr_db(decode_with_pyav(encode_with_pyav(planes)), planes)
    assert abs(pyav_db - reference_db) < 0.5


def test_a_round_trip_neither_shifts_nor_darkens() -> None:
    ramp = np.linspace(20, 230, WIDTH).astype(np.uint8)
    frames = np.broadcast_to(ramp[:, None], (3, HEIGHT, WIDTH, 3))
    _, decoded = reference_round_trip(frames, "libx264", {"crf": "1"})
    assert decoded.shape == frames.shape
    assert abs(np.mean(decoded.astype(float) - frames)) < 0.1


def test_a_refused_option_is_told_in_ffmpegs_words(planes: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="no-such-preset"):
        reference_encode(planes.tobytes(), HEIGHT, WIDTH, "libx264", {"preset": "no-such-preset"})
