"""Windows of streams: the same pixels as those of the whole, and no more decoded than they take."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from schemas.draw import ColorDraw
from schemas.encoders import ENCODERS
from schemas.sample import Stream
from tests.pictures import moving_clip
from tests.transforms.chains import make
from tests.transforms.coding import CODECS, draw_for
from tests.transforms.test_generations import codec, sample_of
from transforms import color as color_module
from transforms.codec import CodecError
from transforms.decode import decode_lr

DATA = Path(os.environ.get("VCSR_TEST_MEDIA", Path(__file__).parents[3] / "shared" / "data"))
"""Real media beside the checkout or where the variable says, as `video/clips`; without it, tests
are skipped."""


class Window(NamedTuple):
    start: int
    num: int
    top: int
    left: int
    height: int
    width: int

    def of(self, frames: np.ndarray) -> np.ndarray:
        rows, columns = (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )
        return frames[self.start : self.start + self.num, rows, columns]


def windows(shape: tuple[int, ...], number: int, seed: int = 0) -> Iterator[Window]:
    """All, single frames in the corners, and some anywhere."""
    frames, rows, columns = shape[:3]
    rng = np.random.default_rng(seed)
    yield Window(0, frames, 0, 0, rows, columns)
    for start, top, left in [(0, 0, 0), (frames - 1, rows - 9, 0), (frames // 2, 3, columns - 12)]:
        yield Window(start, 1, top, left, 9, 12)
    for _ in range(number):
        counts = [int(rng.integers(1, size + 1)) for size in (frames, rows, columns)]
        firsts = [
            int(rng.integers(size - count + 1))
            for size, count in zip((frames, rows, columns), counts, strict=True)
        ]
        yield Window(firsts[0], counts[0], firsts[1], firsts[2], counts[1], counts[2])


def check_windows(stream: Stream, member: bytes, number: int = 8) -> None:
    whole = decode_lr(stream, member)
    for window in windows(whole.shape, number):
        part = decode_lr(stream, member, *window)
        assert part.flags.c_contiguous and part.dtype == np.uint8
        assert np.array_equal(part, window.of(whole)), window


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(64, 96), (45, 61)])
def test_a_window_of_any_codec_is_a_part_of_the_whole(name: str, size: tuple[int, int]) -> None:
    made = make(moving_clip(14, *size), draw_for(name, gop_frames=1 if name == "mjpeg" else 6))
    check_windows(made.stream, made.nut)


@pytest.mark.parametrize("name", ["h264", "hevc", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("b_frames", [1, 3, 4])
def test_every_window_in_time_is_a_part_of_the_whole(name: str, b_frames: int) -> None:
    made = make(moving_clip(11, 96, 96), draw_for(name, b_frames=b_frames, gop_frames=12))
    assert sum(f.frame_type == "B" for f in made.stream.frames) >= 3
    whole = decode_lr(made.stream, made.nut)
    for start in range(11):
        for count in range(1, 12 - start):
            part = decode_lr(made.stream, made.nut, start, count, 8, 16, 16, 24)
            assert np.array_equal(part, whole[start : start + count, 8:24, 16:40])


@pytest.mark.parametrize("pixel_format", ENCODERS["h264"].pixel_formats)
@pytest.mark.parametrize("scaler", ["exact", "fast"])
@pytest.mark.parametrize("read_range", ["tv", "pc"])
def test_the_grid_and_the_colours_of_a_stream_do_not_matter(
    pixel_format: str, scaler: str, read_range: str
) -> None:
    read = {"read_matrix": "bt601", "read_location": "topleft", "read_range": read_range}
    color = ColorDraw.model_validate({**read, "scaler": scaler})
    draw = draw_for("h264", pixel_format=pixel_format, color=color)
    made = make(moving_clip(4, 53, 70), draw, top=5, left=3)
    assert [step.op for step in made.stream.post_steps] == ["crop"]
    check_windows(made.stream, made.nut, number=20)


def test_a_window_of_a_stream_without_codec_is_a_part_of_it() -> None:
    lr = moving_clip(5, 45, 61)
    made = make(lr, None)
    for window in windows(lr.shape, 20):
        assert np.array_equal(decode_lr(made.stream, made.nut, *window), window.of(lr))


@pytest.mark.parametrize(
    "steps",
    [
        [codec(crf=30, width_ratio={"down": 1, "keep": 0, "down_factor": 0.8})],
        [codec(), {"op": "noise", "kinds": {"gaussian": 1}, "sigma": 20}],
        [codec(grid_shift=7), {"op": "still", "quality": 50}, {"op": "blur", "sigma": 2.0}],
    ],
)
def test_steps_that_act_on_whole_frames_do(steps: list[dict[str, Any]]) -> None:
    made = sample_of(*steps)
    assert {step.op for step in made.sample.streams[0].post_steps} - {"crop"}
    check_windows(made.sample.streams[0], made.members["lr0.nut"])


def test_a_window_of_a_stream_with_gaps_is_a_part_of_the_whole() -> None:
    lossy = codec(crf=30, slices=4, loss=0.3, presets={"medium": 1}, b_frames=0)
    made = sample_of(lossy)
    stream = made.sample.streams[0]
    assert stream.lost_slices
    check_windows(stream, made.members["lr0.nut"])


@pytest.mark.parametrize(
    "window", [{"top": -1}, {"left": 40, "width": 25}, {"height": 0}, {"top": 64}, {"width": 65}]
)
def test_a_window_beyond_the_picture_is_refused(window: dict[str, int]) -> None:
    made = make(moving_clip(3, 64, 64), draw_for("h264"))
    with pytest.raises(ValueError, match="does not fit"):
        decode_lr(made.stream, made.nut, **window)


def test_only_the_window_and_its_margins_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(moving_clip(6, 128, 160), draw_for("h264"))
    sizes = set()
    convert = color_module._convert

    def watched(frame: av.VideoFrame, target: str, options: str) -> av.VideoFrame:
        sizes.add((frame.height, frame.width))
        return convert(frame, target, options)

    monkeypatch.setattr(color_module, "_convert", watched)
    for top, left in [(0, 0), (41, 57), (96, 128), (95, 3)]:
        decode_lr(made.stream, made.nut, 0, 6, top, left, 32, 32)
    # One size, wherever the window lies, and so one graph.
    assert len(sizes) == 1 and max(*sizes.pop()) <= 48


def garbled(stream: Stream, member: bytes, spoilt: set[int]) -> bytes:
    """The member with nothing left of some frames but the first six bytes of their packets."""
    data = bytearray(member)
    for frame in stream.frames:
        if frame.display_index in spoilt:
            start, end = frame.packet_position + 6, frame.packet_position + frame.packet_bytes
            data[start:end] = bytes(max(0, end - start))
    return bytes(data)


def test_frames_that_no_frame_of_the_window_needs_are_not_decoded() -> None:
    draw = draw_for("h264", b_frames=3, b_pyramid=False)
    made = make(moving_clip(24, 64, 64), draw)
    whole = decode_lr(made.stream, made.nut)
    window = set(range(12, 16))
    last = max(made.stream.frames[t].coding_index for t in window)
    unneeded = {
        f.display_index
        for f in made.stream.frames
        if f.coding_index > last or (f.frame_type == "B" and f.display_index not in window)
    }
    assert len(unneeded) > 10
    spoilt = garbled(made.stream, made.nut, unneeded)
    assert np.array_equal(decode_lr(made.stream, spoilt, 12, 4), whole[12:16])
    with pytest.raises(CodecError):
        decode_lr(made.stream, spoilt)


def test_a_stream_that_is_not_what_its_record_says_is_told() -> None:
    made = make(moving_clip(5, 64, 64), draw_for("h264"))
    larger = made.stream.model_copy(update={"coded_height": 128})
    with pytest.raises(CodecError, match=r"5 frames of \['64x64'\], not 5 of 64x128"):
        decode_lr(larger, made.nut)
    twice = made.stream.frames[3].model_copy(update={"display_index": 4})
    fewer = made.stream.model_copy(update={"frames": [*made.stream.frames[:3], twice, twice]})
    with pytest.raises(CodecError, match="frames_lost"):
        decode_lr(fewer, made.nut, 3, 1)


@pytest.mark.skipif(not DATA.is_dir(), reason="no real media beside the checkout")
@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("clip", ["husky.mp4", "road.mp4"])
def test_windows_of_real_footage_are_parts_of_the_whole(name: str, clip: str) -> None:
    with av.open(str(DATA / "video" / "clips" / clip)) as container:
        frames = [next(container.decode(video=0)).to_ndarray(format="rgb24") for _ in range(16)]
    lr = np.stack(frames)[:, ::4, ::4]
    rate = {"rate_value": 30.0} if "crf" in ENCODERS[draw_for(name).codec].rate_modes else {}
    made = make(np.ascontiguousarray(lr), draw_for(name, **rate), top=2, left=6)
    check_windows(made.stream, made.nut, number=12)
