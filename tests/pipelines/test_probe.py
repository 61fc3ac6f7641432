import hashlib
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.corpus import akin, discover
from pipelines.media import read_clip
from pipelines.probe import Probed
from pipelines.video import iter_video_frames
from schemas.record import Status
from schemas.source import SourceKind
from tests.pipelines.probing import PATCH, probe_all, probe_one
from tests.synthetic import gradient, write_video


def _save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def _save_frames(folder: Path, frames: np.ndarray) -> Path:
    for index, frame in enumerate(frames):
        _save(folder / f"{index:04d}.png", frame)
    return folder


def _outcome(probed: Probed) -> tuple[Status, str, str]:
    assert bool(probed.spans) == (probed.source.status is Status.OK)
    return probed.source.status, probed.source.stage, probed.source.reason


def _filtered(reason: str) -> tuple[Status, str, str]:
    return Status.FILTERED, "probe", reason


def _failed(reason: str) -> tuple[Status, str, str]:
    return Status.FAILED_PERMANENT, "probe", reason


def _retryable(reason: str) -> tuple[Status, str, str]:
    return Status.FAILED_RETRYABLE, "probe", reason


# Images


def test_an_image_is_known_by_its_content(tmp_path: Path) -> None:
    path = _save(tmp_path / "ä.png", gradient(1, 70, 100)[0])
    source = probe_one(path).source
    assert source.source_id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (source.kind, source.codec, source.pixel_format) == (SourceKind.IMAGE, "png", "RGB")
    assert (source.width, source.height, source.num_frames) == (100, 70, 1)
    assert (source.uris, source.size) == (["ä.png"], path.stat().st_size)
    assert (source.status, source.detail) == (Status.OK, "")


def test_cells_of_an_image_are_spans_without_the_flat_ones(tmp_path: Path) -> None:
    pixels = gradient(1, 2 * PATCH, 4 * PATCH)[0]  # an exact grid of 2 x 4 cells
    pixels[:PATCH, PATCH : 2 * PATCH] = 99
    spans = probe_one(_save(tmp_path / "a.png", pixels)).spans
    assert [(span.start, span.count) for span in spans] == [(0, 1), (2, 6)]
    few = probe_one(tmp_path / "a.png", pseudo_video={"patches_per_image": 3}).spans
    assert [(span.start, span.count) for span in few] == [(0, 1), (2, 2)]


def test_cells_are_counted_after_pre_downscale(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", gradient(1, 4 * PATCH, 4 * PATCH)[0])
    assert sum(span.count for span in probe_one(path).spans) == 16
    assert sum(span.count for span in probe_one(path, hr={"pre_downscale": 2}).spans) == 4


def test_whole_images_are_one_cell(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", gradient(1, 70, 90)[0])
    probed = probe_one(path, hr={"patch_height": 0, "patch_width": 0})
    assert [(span.start, span.count) for span in probed.spans] == [(0, 1)]


def test_a_flat_image_is_left_out(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.full((64, 64, 3), 90, np.uint8))
    assert _outcome(probe_one(path)) == _filtered("flat")


def test_a_small_image_is_left_out(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", gradient(1, PATCH - 1, 200)[0])
    probed = probe_one(path)
    assert _outcome(probed) == _filtered("too_small")
    assert "200x31" in probed.source.detail
    path = _save(tmp_path / "b.png", gradient(1, PATCH, PATCH)[0])
    assert probe_one(path).source.status is Status.OK
    assert _outcome(probe_one(path, hr={"pre_downscale": 1.5})) == _filtered("too_small")


def test_files_that_are_no_use_become_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "readme.png").write_text("hello")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cut_off = _save(tmp_path / "cut.jpg", noise)
    cut_off.write_bytes(cut_off.read_bytes()[:1500])
    moving = [Image.fromarray(frame) for frame in gradient(2, 64, 64)]
    moving[0].save(tmp_path / "moving.webp", save_all=True, append_images=moving[1:])
    os.symlink(tmp_path / "nowhere", tmp_path / "broken.png")
    assert _outcome(probe_one(tmp_path / "empty.png")) == _failed("empty_file")
    assert _outcome(probe_one(tmp_path / "readme.png")) == _filtered("not_media")
    assert _outcome(probe_one(cut_off)) == _failed("corrupt")
    assert _outcome(probe_one(tmp_path / "moving.webp")) == _filtered("multi_frame_image")
    assert _outcome(probe_one(tmp_path / "broken.png")) == _retryable("unreadable")
    (tmp_path / "headless.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    assert _outcome(probe_one(tmp_path / "headless.png")) == _failed("corrupt")
    assert probe_one(cut_off).source.source_id


# Videos


def test_a_video_is_described(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", gradient(20, 48, 64), rotation=90)
    source = probe_one(path).source
    assert (source.kind, source.codec) == (SourceKind.VIDEO, "h264")
    assert (source.width, source.height, source.rotation) == (48, 64, 90)
    assert (source.num_frames, source.fps) == (20, 25)
    look = (source.color_matrix, source.color_range, source.color_from, source.pixel_format)
    assert look == ("bt601", "tv", "assumed", "yuv420p")
    assert not source.variable_frame_rate
    assert not source.interlaced


def test_every_span_of_a_video_can_be_read(tmp_path: Path) -> None:
    frames = np.concatenate([gradient(21, 48, 64), 255 - gradient(12, 48, 64) // 3])
    path = write_video(tmp_path / "a.mp4", frames, gop_frames=9, tags={"colorspace": 1})
    probed = probe_one(path, clips={"frames": 10, "min_frames": 5})
    assert [(span.start, span.count) for span in probed.spans] == [(0, 10), (10, 11), (21, 12)]
    for span in probed.spans:
        clip = read_clip([str(path)], probed.source, span).astype(float)
        assert np.abs(clip - frames[span.start : span.start + span.count]).mean() < 4


def test_a_single_frame_is_a_clip(tmp_path: Path) -> None:
    (span,) = probe_one(write_video(tmp_path / "a.mp4", gradient(1, 48, 64))).spans
    assert (span.start, span.count) == (0, 1)


def test_uneven_times_are_noticed(tmp_path: Path) -> None:
    pts = [0, 1, 2, 5, 6, 12, 13, 14]
    uneven = write_video(tmp_path / "a.mp4", gradient(8, 48, 64), pts=pts)
    assert probe_one(uneven).source.variable_frame_rate
    even = write_video(tmp_path / "b.mkv", gradient(8, 48, 64))
    assert not probe_one(even).source.variable_frame_rate


def test_interlaced_video_is_left_out_unless_wanted(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme"}
    frames = gradient(4, 64, 64)
    path = write_video(tmp_path / "a.mpg", frames, codec="mpeg2video", options=options)
    assert _outcome(probe_one(path)) == _filtered("interlaced")
    kept = probe_one(path, hr={"keep_interlaced": True}).source
    assert (kept.status, kept.interlaced) == (Status.OK, True)


@pytest.mark.parametrize(("rows", "is_left_out"), [(2, False), (12, True)])
def test_black_bars_are_noticed(tmp_path: Path, rows: int, is_left_out: bool) -> None:
    frames = gradient(6, 96, 64)
    frames[:, :rows] = frames[:, -rows:] = 0
    path = write_video(tmp_path / "a.mp4", frames, options={"crf": "30"})
    probed = probe_one(path, hr={"max_bar_share": 0.1})
    assert probed.source.reason == ("letterboxed" if is_left_out else "")
    image = probe_one(_save(tmp_path / "a.png", frames[0]), hr={"max_bar_share": 0.1})
    assert image.source.reason == probed.source.reason


def test_bars_at_the_sides_count(tmp_path: Path) -> None:
    frames = gradient(6, 64, 96)
    frames[:, :, :20] = 0
    path = write_video(tmp_path / "a.mp4", frames)
    assert _outcome(probe_one(path)) == _filtered("letterboxed")


def test_videos_that_are_no_use_become_rows(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.mp4", gradient(2, 16, 64))
    hdr = write_video(tmp_path / "hdr.mp4", gradient(2, 48, 64), tags={"color_trc": 16})
    cut_off = write_video(tmp_path / "cut.mp4", gradient(24, 96, 128))
    cut_off.write_bytes(cut_off.read_bytes()[: cut_off.stat().st_size // 2])
    flicker = np.concatenate(
        [gradient(1, 48, 64, start=40 * i) // (1 + i % 2 * 3) for i in range(9)]
    )
    short = write_video(tmp_path / "short.mp4", flicker)
    assert _outcome(probe_one(small)) == _filtered("too_small")
    assert _outcome(probe_one(hdr)) == _filtered("hdr")
    assert _outcome(probe_one(cut_off)) == _failed("corrupt")
    clips = {"frames": 8, "min_frames": 8, "scene_cut_score": 0.1}
    assert _outcome(probe_one(short, clips=clips)) == _filtered("too_short")


@pytest.mark.parametrize(
    ("name", "gop_frames", "starts"),
    [
        ("a.mp4", 8, [0, 10, 20, 30, 40, 50]),
        ("a.mp4", 30, [0, 10, 20, 30, 40, 50]),
        ("a.mp4", 1000, [0, 10, 20]),
        ("a.h264", 8, [0, 10, 20]),  # has no times to be sought by
    ],
)
def test_clips_far_behind_a_key_frame_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gop_frames: int, starts: list[int]
) -> None:
    path = write_video(tmp_path / name, gradient(60, 48, 64), gop_frames=gop_frames)
    monkeypatch.setattr("pipelines.probe.MAX_LEAD_FRAMES", 20)
    assert [span.start for span in probe_one(path, clips={"frames": 10}).spans] == starts


def test_a_video_whose_clips_are_all_far_behind_a_key_frame_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.concatenate([gradient(5, 48, 64), 255 - gradient(20, 48, 64) // 3])
    options = {"sc_threshold": "0"}
    path = write_video(tmp_path / "a.mp4", frames, gop_frames=1000, options=options)
    monkeypatch.setattr("pipelines.probe.MAX_LEAD_FRAMES", 4)
    assert _outcome(probe_one(path, clips={"frames": 10})) == _filtered("sparse_keyframes")


def test_a_video_without_end_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", gradient(20, 48, 64))
    for name, limit in (("MAX_FRAMES", 19), ("MAX_VIDEO_PIXELS", 20 * 48 * 64 - 1)):
        with monkeypatch.context() as patched:
            patched.setattr(f"pipelines.survey.{name}", limit)
            assert _outcome(probe_one(path)) == _failed("too_long")
            patched.setattr(f"pipelines.survey.{name}", limit + 1)
            assert probe_one(path).source.num_frames == 20


# Frame folders


def test_a_folder_of_frames_is_one_source(tmp_path: Path) -> None:
    folder = _save_frames(tmp_path / "clip", gradient(10, 48, 64))
    (entry,) = discover([str(folder)])
    (probed,) = probe_all(entry)
    source = probed.source
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in entry.paths]
    assert source.source_id == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert (source.kind, source.num_frames, source.fps) == (SourceKind.FRAMES, 10, 0)
    assert (source.width, source.height, source.codec) == (64, 48, "png")
    assert source.size == sum(Path(path).stat().st_size for path in entry.paths)
    (span,) = probed.spans
    assert np.array_equal(read_clip(entry.paths, source, span), gradient(10, 48, 64))


def _strangers(count: int) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.mark.parametrize("flaw", ["strangers", "sizes", "text", "nothing"])
def test_numbered_files_that_are_no_clip_are_taken_one_by_one(tmp_path: Path, flaw: str) -> None:
    frames = _strangers(6) if flaw == "strangers" else gradient(6, 64, 64)
    folder = _save_frames(tmp_path / "in", frames)
    if flaw == "sizes":
        _save(folder / "0005.png", gradient(1, 64, 80)[0])
    elif flaw == "text":
        (folder / "0005.png").write_text("x")
    elif flaw == "nothing":
        (folder / "0005.png").write_bytes(b"")
    (entry,) = discover([str(folder)])
    probed = probe_all(entry)
    assert [item.source.uris for item in probed] == [[f"in/{i:04d}.png"] for i in range(6)]
    assert {item.source.kind for item in probed[:5]} == {SourceKind.IMAGE}
    expected = {"text": "not_media", "nothing": "empty_file"}.get(flaw, "")
    assert probed[5].source.reason == expected
    assert akin(probed[0].source.uris[0]) == "in/0000"


def test_a_clip_with_a_damaged_frame_fails_as_a_whole(tmp_path: Path) -> None:
    folder = _save_frames(tmp_path / "clip", gradient(6, 64, 64))
    path = folder / "0003.png"
    path.write_bytes(path.read_bytes()[:400])
    (entry,) = discover([str(folder)])
    (probed,) = probe_all(entry)
    assert _outcome(probed) == _failed("corrupt")
    assert probed.source.detail.startswith("0003.png: ")


def test_numbered_videos_are_probed_as_videos(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(2):
        write_video(tmp_path / f"in/{index}.mp4", gradient(4, 48, 64, start=9 * index))
    (entry,) = discover([str(tmp_path / "in")])
    kinds = [item.source.kind for item in probe_all(entry)]
    assert kinds == [SourceKind.VIDEO, SourceKind.VIDEO]


def test_equal_content_has_equal_names_wherever_it_lies(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.mp4", gradient(4, 48, 64))
    second = shutil.copy(first, tmp_path / "b.webm")
    one, other = probe_one(first), probe_one(Path(second))
    assert one.source.source_id == other.source.source_id
    assert one.spans == other.spans
    crc = zlib.crc32(next(iter_video_frames(str(first))).to_ndarray().tobytes())
    assert one.spans[0].start_crc32 == crc
