import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipelines import cpu_limit
from pipelines.errors import MediaError
from pipelines.images import read_image
from pipelines.media import file_sha256, read_clip, sniff
from pipelines.video import (
    OPEN_OPTIONS,
    color_of,
    frame_rotation,
    iter_video_frames,
    planes_crc32,
    to_rgb,
)
from schemas.plan import Span
from schemas.source import Source, SourceKind
from tests.synthetic import gradient, write_video

RGB = gradient(1, 24, 40)[0]


def _refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(MediaError) as caught:
        action()
    return caught.value.reason


# What a file is


def test_hashing_is_progress_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(data := bytes(3 * 2**20 + 1))
    signs: list[int] = []
    monkeypatch.setattr(cpu_limit, "renew", lambda: signs.append(1))
    assert file_sha256(str(tmp_path / "large")) == hashlib.sha256(data).hexdigest()
    assert len(signs) == 4


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_images_are_told_by_content(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}")
    shutil.move(tmp_path / f"a.{suffix}", tmp_path / "a.mp4")
    assert sniff(str(tmp_path / "a.mp4")) == "image"
    assert read_image(str(tmp_path / "a.mp4")).shape == RGB.shape


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"),
        ("mkv", "libx264"),
        ("avi", "mpeg4"),
        ("ts", "mpeg2video"),
        ("mpg", "mpeg2video"),
        ("flv", "libx264"),
        ("nut", "ffv1"),
        ("h264", "libx264"),
        ("webm", "libvpx-vp9"),
        ("y4m", "wrapped_avframe"),
    ],
)
def test_videos_are_told_by_content(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", gradient(3, 32, 48), codec=codec)
    named_wrongly = path.rename(tmp_path / "a.jpg")
    assert sniff(str(named_wrongly)) == "video"
    assert len(list(iter_video_frames(str(named_wrongly)))) == 3


@pytest.mark.parametrize(
    "content", [b"", b"text\n", b"GIF89a" + bytes(50), b"ID3" + bytes(50), bytes(500)]
)
def test_anything_else_is_no_media(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert sniff(str(path)) is None


@pytest.mark.parametrize("suffix", ["m3u8", "ffconcat", "mp4"])
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nreal.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile real.mp4\n",
    ],
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, suffix: str, playlist: str) -> None:
    write_video(tmp_path / "real.mp4", gradient(2, 32, 48))
    path = tmp_path / f"list.{suffix}"
    path.write_text(playlist)
    assert sniff(str(path)) is None
    assert _refusal(lambda: list(iter_video_frames(str(path)))) == "not_media"
    with pytest.raises(av.error.FFmpegError):  # nor would FFmpeg, if it were asked
        av.open(str(path), options=OPEN_OPTIONS)


# Videos


def _source(frames: list[Any], kind: SourceKind = SourceKind.VIDEO) -> Source:
    color = color_of(frames[0])
    size = (frames[0].height, frames[0].width)
    height, width = size if frame_rotation(frames[0]) % 180 == 0 else size[::-1]
    return Source(
        source_id="x",
        kind=kind,
        uris=[],
        group="",
        split="",
        licence="",
        attribution="",
        size=0,
        width=width,
        height=height,
        color_matrix=color.matrix,
        color_range=color.range,
        rotation=frame_rotation(frames[0]),
    )


def _span(frames: list[Any], start: int, count: int) -> Span:
    return Span(
        source_id="x",
        start=start,
        count=count,
        start_pts=frames[start].pts or 0,
        start_crc32=planes_crc32(frames[start]),
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.mp4", {"options": {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
        ("a.mkv", {"pts": [*range(5), *range(9, 28)]}),
        ("a.ts", {"codec": "mpeg2video"}),
        ("a.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
        ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("a.h264", {}),  # has no times, so that seeking cannot help
        ("turned.mp4", {"rotation": 90}),
        ("a.nut", {"codec": "ffv1"}),
    ],
)
def test_a_clip_is_what_plain_decoding_gives(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    path = str(write_video(tmp_path / name, gradient(24, 48, 64), **arguments))
    frames = list(iter_video_frames(path))
    source = _source(frames)
    look = (source.color_matrix, source.color_range, source.rotation)
    plain = np.stack([to_rgb(frame, *look) for frame in frames])
    assert len(plain) == 24
    for start in range(0, 24, 5):
        count = min(5, 24 - start)
        clip = read_clip([path], source, _span(frames, start, count))
        assert np.array_equal(clip, plain[start : start + count])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.mp4", {}),
        ("a.ts", {}),
        ("a.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}),
        ("a.mpg", {"codec": "mpeg2video", "options": {"bf": "2"}}),
        ("a.mp4", {"options": {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
        ("a.ts", {"options": {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
        ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=4"}}),
    ],
)
def test_a_late_clip_does_not_cost_the_video_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Any]
) -> None:
    pictures = np.tile(gradient(40, 64, 64), (10, 1, 1, 1))
    path = str(write_video(tmp_path / name, pictures, gop_frames=20, **arguments))
    frames = list(iter_video_frames(path))
    decoded: list[av.VideoFrame] = []

    def counted(*arguments: Any) -> Iterator[av.VideoFrame]:
        for frame in iter_video_frames(*arguments):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr("pipelines.media.iter_video_frames", counted)
    for start in range(300, 340, 3):
        clip = read_clip([path], _source(frames), _span(frames, start, 2))
        assert np.array_equal(clip[0], to_rgb(frames[start], "bt601", "tv", 0))
    assert len(decoded) < 14 * 80  # by count they are 14 * 320


def test_a_clip_that_nothing_leads_to_is_not_looked_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_video(tmp_path / "a.mp4", gradient(90, 48, 64), gop_frames=1000))
    frames = list(iter_video_frames(path))
    monkeypatch.setattr("pipelines.media.MAX_LEAD_FRAMES", 20)
    for start in (20, 40):
        read_clip([path], _source(frames), _span(frames, start, 2))
    assert _refusal(lambda: read_clip([path], _source(frames), _span(frames, 42, 2))) == "changed"


def test_a_clip_is_found_by_count_where_its_time_misleads(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4", gradient(20, 48, 64)))
    frames = list(iter_video_frames(path))
    span = _span(frames, 12, 3).model_copy(update={"start_pts": frames[3].pts})
    clip = read_clip([path], _source(frames), span)
    assert np.array_equal(clip[0], to_rgb(frames[12], "bt601", "tv", 0))


def test_other_frames_than_those_probed_are_refused(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4", gradient(12, 48, 64)))
    frames = list(iter_video_frames(path))
    source, span = _source(frames), _span(frames, 4, 4)
    write_video(tmp_path / "a.mp4", gradient(12, 48, 64, start=50))
    assert _refusal(lambda: read_clip([path], source, span)) == "changed"


def test_missing_frames_are_noticed(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4", gradient(12, 48, 64)))
    frames = list(iter_video_frames(path))
    span = _span(frames, 10, 3)
    assert _refusal(lambda: read_clip([path], _source(frames), span)) == "truncated"


def test_frames_of_a_folder_are_read_in_order(tmp_path: Path) -> None:
    frames = gradient(5, 16, 24)
    paths = [str(tmp_path / f"{index}.png") for index in range(5)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    video = write_video(tmp_path / "a.mp4", frames)
    source = _source(list(iter_video_frames(str(video))), SourceKind.FRAMES)
    checksum = zlib.crc32(frames[1].tobytes())
    span = Span(source_id="x", start=1, count=3, start_crc32=checksum)
    assert np.array_equal(read_clip(paths, source, span), frames[1:4])
    Image.fromarray(frames[2, :8]).save(paths[2])
    assert _refusal(lambda: read_clip(paths, source, span)) == "changed"
    other = span.model_copy(update={"start_crc32": checksum ^ 1})
    assert _refusal(lambda: read_clip(paths, source, other)) == "changed"


def test_a_rotation_tag_turns_frames_counter_clockwise(tmp_path: Path) -> None:
    rgb = np.zeros((2, 32, 48, 3), np.uint8)
    rgb[:, :16, 24:] = 255  # the top right corner
    path = str(write_video(tmp_path / "a.mp4", rgb, rotation=90))
    frames = list(iter_video_frames(path))
    clip = read_clip([path], _source(frames), _span(frames, 0, 2))
    assert clip.shape == (2, 48, 32, 3)
    assert clip[0, :20, :12].mean() > 240  # is at the top left now
    assert clip[0, 28:].mean() < 15


def test_lossless_rgb_video_is_exact(tmp_path: Path) -> None:
    rgb = gradient(3, 16, 24)
    options = {"qp": "0"}
    path = write_video(
        tmp_path / "a.mkv", rgb, codec="libx264rgb", pixel_format="rgb24", options=options
    )
    frames = list(iter_video_frames(str(path)))
    clip = read_clip([str(path)], _source(frames), _span(frames, 0, 3))
    assert np.array_equal(clip, rgb)
