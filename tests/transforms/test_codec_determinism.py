"""The same frames and settings give the same bytes and pixels: always, everywhere, on every CPU.

CPUs are masked inside a child process, through the switches of FFmpeg and of each encoder.
"""

import platform

import pytest

from schemas.draw import CodecDraw
from schemas.encoders import ENCODERS
from tests.pictures import moving_clip
from tests.transforms.coding import CODECS, code, digest, digests_elsewhere, draw_for, needs_x86
from transforms.codec import coded_size

X264_SIZES = ((64, 64), (90, 90), (90, 160), (180, 320))
MORE_SIZES = ((48, 48), (54, 96), (72, 128), (128, 128), (144, 176), (136, 240))
# Rate control at work, where encoders look ahead and weigh: the hardest to repeat.
DRAWS = {
    "h264": {"rate_value": 25, "b_frames": 3},
    "hevc": {"rate_value": 28},
    "vp9": {"rate_value": 35},
    "av1": {"rate_value": 40},
}
needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="fills freed memory by a switch of glibc"
)


def draws_of(name: str) -> list[CodecDraw]:
    """A constant quality and a bitrate."""
    size = coded_size(name, "yuv420p", 90, 98)  # type: ignore[arg-type]
    common = {"height": size[0], "width": size[1]}
    usual = draw_for(name, **DRAWS.get(name, {"rate_value": 7}), **common)
    return [usual, usual.model_copy(update={"rate_mode": "bitrate", "rate_value": 100_000})]


def digests(draws: list[CodecDraw], *, frames: int = 6, times: int = 1) -> list[set[str]]:
    found = []
    for draw in draws:
        clip = moving_clip(frames, draw.height, draw.width)
        found.append({digest(code(clip, draw), draw) for _ in range(times)})
    return found


@pytest.mark.parametrize("name", CODECS)
def test_encodes_in_one_process_agree(name: str) -> None:
    assert [len(found) for found in digests(draws_of(name), times=4)] == [1, 1]


@needs_x86
def test_encodes_in_other_processes_and_on_lesser_cpus_agree() -> None:
    draws = [draw for name in CODECS for draw in draws_of(name)]
    here = digests(draws)
    jobs = [(draw, (draw.height, draw.width), 1) for draw in draws]
    for cpu in ("all", "c"):
        elsewhere = digests_elsewhere(jobs, cpu=cpu)
        differing = [
            (draw.codec, draw.rate_mode)
            for draw, a, b in zip(draws, here, elsewhere, strict=True)
            if a != b
        ]
        assert not differing, cpu


@needs_x86
@pytest.mark.parametrize("name", ["h264", "mpeg4", "mpeg2video", "mpeg1video", "h263p", "mjpeg"])
def test_without_the_pins_lesser_cpus_do_not_agree(name: str) -> None:
    # Which shows that the masks bite.
    jobs = [(draws_of(name)[0], (180, 320), 1)]
    found = [digests_elsewhere(jobs, frames=20, cpu=cpu, pinned=False) for cpu in ("all", "c")]
    assert found[0] != found[1]


@pytest.mark.slow
@needs_x86
@pytest.mark.parametrize("cpu", ["avx2", "sse2"])
def test_encodes_on_other_lesser_cpus_agree(cpu: str) -> None:
    draws = [draw for name in CODECS for draw in draws_of(name)]
    jobs = [(draw, (draw.height, draw.width), 2) for draw in draws]
    assert digests_elsewhere(jobs, cpu=cpu) == digests(draws)


@needs_glibc
def test_what_lay_in_memory_plays_no_part() -> None:
    draws = [draw for name in CODECS for draw in draws_of(name)]
    jobs = [(draw, (draw.height, draw.width), 1) for draw in draws]
    filled = [
        digests_elsewhere(jobs, environment={"MALLOC_PERTURB_": fill}) for fill in ("1", "165")
    ]
    assert filled[0] == filled[1]


def x264_jobs(
    sizes: tuple[tuple[int, int], ...], times: int
) -> list[tuple[CodecDraw, tuple[int, int], int]]:
    draw = draw_for("h264", rate_value=25, b_frames=3)
    return [(draw.model_copy(update={"height": h, "width": w}), (h, w), times) for h, w in sizes]


@needs_x86
def test_x264_gives_one_stream_at_four_sizes() -> None:
    here = digests([draw for draw, _, _ in x264_jobs(X264_SIZES, 1)], frames=20, times=5)
    for cpu in ("sse2", "c"):
        assert digests_elsewhere(x264_jobs(X264_SIZES, 1), frames=20, cpu=cpu) == here
    assert [len(found) for found in here] == [1] * len(X264_SIZES)


@pytest.mark.slow
@pytest.mark.long
@needs_x86
def test_x264_gives_one_stream_over_two_hundred_encodes_at_ten_sizes() -> None:
    sizes = X264_SIZES + MORE_SIZES
    here = digests([draw for draw, _, _ in x264_jobs(sizes, 1)], frames=20, times=20)
    assert [len(found) for found in here] == [1] * len(sizes)
    for cpu, times in (("all", 20), ("all", 20), ("avx2", 20), ("sse2", 5), ("c", 2)):
        assert digests_elsewhere(x264_jobs(sizes, times), frames=20, cpu=cpu) == here, cpu


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_the_smallest_sizes_are_safe(name: str) -> None:
    # In a child, since an encoder that writes beyond its buffers takes the process with it.
    jobs = []
    for pixel_format in ENCODERS[name].pixel_formats:  # type: ignore[index]
        for height, width in ((1, 1), (1, 200), (200, 1), (65, 65), (97, 131)):
            size = coded_size(name, pixel_format, height, width)  # type: ignore[arg-type]
            draw = draw_for(name, pixel_format=pixel_format, height=size[0], width=size[1])
            jobs.append((draw, size, 2))
    assert [len(found) for found in digests_elsewhere(jobs)] == [1] * len(jobs)
