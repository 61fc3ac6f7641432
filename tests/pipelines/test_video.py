import errno
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipelines.errors import MediaError
from pipelines.images import read_image
from pipelines.media import sniff
from pipelines.video import (
    Color,
    color_of,
    iter_video_frames,
    planes_crc32,
    read_video_header,
)
from tests.synthetic import gradient, write_video

RGB = gradient(1, 24, 40)[0]


def _refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(MediaError) as caught:
        action()
    return caught.value.reason


@pytest.mark.parametrize(
    ("height", "matrix"),
    [(576, "bt601"), (718, "bt601"), (720, "bt709"), (1080, "bt709")],
)
def test_an_untagged_matrix_goes_by_the_number_of_rows(
    tmp_path: Path, height: int, matrix: str
) -> None:
    path = write_video(tmp_path / "a.mp4", gradient(1, height, 32))
    frame = next(iter_video_frames(str(path)))
    assert color_of(frame) == Color(matrix=matrix, range="tv", origin="assumed")


def test_tags_win_over_the_number_of_rows(tmp_path: Path) -> None:
    tags = {"colorspace": 1, "color_range": 2, "color_trc": 1, "color_primaries": 1}
    path = write_video(tmp_path / "a.mp4", gradient(1, 48, 64), tags=tags)
    frame = next(iter_video_frames(str(path)))
    assert color_of(frame) == Color(matrix="bt709", range="pc", origin="tags")


def test_motion_jpeg_is_full_range(tmp_path: Path) -> None:
    frames = gradient(1, 48, 64)
    path = write_video(tmp_path / "a.avi", frames, codec="mjpeg", pixel_format="yuvj420p")
    assert color_of(next(iter_video_frames(str(path)))).range == "pc"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"color_trc": 16}, "hdr"),
        ({"color_trc": 18}, "hdr"),
        ({"color_trc": 14}, "hdr"),
        ({"color_primaries": 9, "color_trc": 1}, "wide_gamut"),
        ({"colorspace": 9, "color_trc": 1}, "wide_gamut"),
        ({"colorspace": 8}, "unsupported_matrix"),
    ],
)
def test_hdr_and_wide_gamut_are_refused(tmp_path: Path, tags: dict[str, int], reason: str) -> None:
    path = write_video(tmp_path / "a.mp4", gradient(1, 48, 64), tags=tags)
    assert _refusal(lambda: color_of(next(iter_video_frames(str(path))))) == reason


def test_a_disk_that_fails_is_the_videos_misfortune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", gradient(1, 48, 64))

    def fail(path: str) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr("pipelines.video._read_demuxer", fail)
    assert _refusal(lambda: list(iter_video_frames(str(path)))) == "unreadable"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("flags", ["faststart", ""])
def test_a_truncated_mp4_is_corrupt(tmp_path: Path, share: float, flags: str) -> None:
    options = {"movflags": flags} if flags else {}
    path = write_video(tmp_path / "a.mp4", gradient(48, 96, 128), options=options)
    content = path.read_bytes()
    data = content.index(b"mdat")
    path.write_bytes(content[: data + int((len(content) - data) * share)])
    reason = _refusal(lambda: list(iter_video_frames(str(path))))
    assert reason in ("corrupt", "unreadable", "not_media")


def test_a_damaged_video_is_corrupt_rather_than_concealed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", gradient(48, 96, 128))
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + 4000
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    assert _refusal(lambda: list(iter_video_frames(str(path)))) == "corrupt"


def test_a_video_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a.h264", gradient(3, 32, 48))
    large = write_video(tmp_path / "b.h264", gradient(3, 64, 96))
    small.write_bytes(small.read_bytes() + large.read_bytes())
    assert _refusal(lambda: list(iter_video_frames(str(small)))) == "format_changes"


def test_sound_alone_is_no_media(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mkv")
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert sniff(path) == "video"
    assert _refusal(lambda: read_video_header(path)) == "not_media"


def test_the_checksum_covers_what_is_visible_only(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", gradient(2, 17, 23), codec="ffv1")
    frames = list(iter_video_frames(str(path)))
    planes = [
        np.asarray(memoryview(plane)).reshape(-1, plane.line_size) for plane in frames[0].planes
    ]
    visible = [planes[0][:17, :23], planes[1][:9, :12], planes[2][:9, :12]]
    assert planes_crc32(frames[0]) == zlib.crc32(b"".join(plane.tobytes() for plane in visible))
    assert planes_crc32(frames[0]) != planes_crc32(frames[1])


def test_paths_need_not_be_ascii(tmp_path: Path) -> None:
    folder = tmp_path / "früh, 早い #1%"
    folder.mkdir()
    path = str(write_video(folder / "ü é 夜.mp4", gradient(2, 32, 48)))
    assert len(list(iter_video_frames(path))) == 2
    image = str(folder / "日.png")
    Image.fromarray(RGB).save(image)
    assert np.array_equal(read_image(image), RGB)


def test_a_name_is_never_taken_for_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "real.mp4", gradient(2, 32, 48))
    shutil.move("real.mp4", "concat:a.mp4")
    assert len(list(iter_video_frames("concat:a.mp4"))) == 2
