import errno
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.training.movies import write_movie
from training.config import UserError
from training.evaluating import clips
from training.evaluating.clips import find_clips


def write_pictures(folder: Path, names: Sequence[str], size: tuple[int, int] = (24, 32)) -> None:
    """Pictures whose red is their position among the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[..., 0] = 10 * number
        Image.fromarray(pixels).save(folder / name)


def write_video(path: Path, frames: int, size: tuple[int, int] = (24, 32)) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for number in range(frames):
            pixels = np.full((*size, 3), 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def found(data: Path, most_frames: int | None = None) -> dict[str, int]:
    return {clip.name: clip.frames for clip in find_clips(data, most_frames)}


def refusal(data: Path, most_frames: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        find_clips(data, most_frames)
    return str(caught.value)


def test_folders_are_clips_of_their_frames_in_the_order_of_numbers(tmp_path: Path) -> None:
    write_pictures(tmp_path / "Größe 夜", ["f1.png", "f2.webp", "f10.png"])
    write_pictures(tmp_path / "b", ["x.png"])
    (tmp_path / "Größe 夜" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    assert found(tmp_path) == {"Größe 夜": 3, "b": 1}
    clip = next(clip for clip in find_clips(tmp_path) if clip.frames == 3).read()
    assert clip.shape == (3, 24, 32, 3)
    assert clip[0, 0, 0, 0] == 0 and clip[2, 0, 0, 0] == 20


def test_numbered_pictures_are_one_clip_others_are_clips_of_their_own(tmp_path: Path) -> None:
    write_pictures(tmp_path / "numbered", ["00000001.png", "00000002.png"])
    write_pictures(tmp_path / "named", ["kodim01.png", "kodim02.png", "butterfly.png"])
    assert found(tmp_path / "numbered") == {"numbered": 2}
    assert found(tmp_path / "named") == {"butterfly": 1, "kodim01": 1, "kodim02": 1}
    write_pictures(tmp_path / "sizes", ["0801.png"])
    write_pictures(tmp_path / "sizes", ["0802.png"], size=(32, 24))
    assert found(tmp_path / "sizes") == {"0801": 1, "0802": 1}


def test_what_is_no_clip_is_passed_over_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "text.mp4").write_text("hello")
    assert [clip.name for clip in find_clips(tmp_path)] == ["a"]
    assert "text.mp4" in caplog.text and "a.png" not in caplog.text


def test_a_video_is_a_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "夜.mkv", 3)
    (clip,) = find_clips(tmp_path)
    assert (clip.name, clip.frames, clip.height, clip.width) == ("夜", 3, 24, 32)
    assert clip.read()[:, 0, 0, 0].tolist() == [0, 40, 80]
    assert found(tmp_path, 2) == {"夜": 2}


def test_a_damaged_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        for pixels in np.random.default_rng(0).integers(0, 256, (5, 64, 80, 3), np.uint8):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert found(tmp_path) == {"cut": 5}
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = b"\xff" * third
    path.write_bytes(data)
    assert "damaged" in refusal(tmp_path)


def test_a_video_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mkv", 60)
    assert found(tmp_path) == {"a": 60}
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    assert "its end is damaged or missing" in refusal(tmp_path)


def test_names_are_unique(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png", "a.webp", "b.png", "v1.0.png"])
    write_pictures(tmp_path / "v1.0", ["1.png"])
    assert set(found(tmp_path)) == {"a.png", "a.webp", "b", "v1.0.png", "v1.0"}
    folder = tmp_path / "vid"
    write_pictures(folder, ["1.png", "2.png"])
    write_pictures(folder / "vid", ["1.png"])
    assert found(folder) == {str(folder.resolve()): 2, "vid": 1}


def test_sides_are_cropped_to_multiples_of_the_scale(tmp_path: Path) -> None:
    write_pictures(tmp_path / "odd", ["1.png"], size=(27, 35))
    (clip,) = find_clips(tmp_path)
    assert clip.read().shape == (1, 24, 32, 3)


def test_no_more_frames_are_taken_than_asked_for(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", [f"{n}.png" for n in range(5)])
    assert found(tmp_path, 2) == {"a": 2}


def test_all_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mixed", ["1.png"])
    write_pictures(tmp_path / "mixed", ["2.png"], size=(8, 8))
    write_pictures(tmp_path / "broken", ["1.png"])
    data = (tmp_path / "broken" / "1.png").read_bytes()
    (tmp_path / "broken" / "1.png").write_bytes(data[:20])
    (tmp_path / "cut.mkv").write_bytes(b"\x1aE\xdf\xa3" + bytes(50))
    told = refusal(tmp_path)
    assert "3 clips" in told and "frames of 2 sizes" in told
    assert "broken: cannot be read" in told and "cut.mkv is no video" in told


def test_long_clips_are_refused_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "MAX_CLIP_BYTES", 3 * 24 * 32 * 3 - 1)
    write_pictures(tmp_path / "a", ["1.png", "2.png", "3.png"])
    write_video(tmp_path / "b.mkv", 4)
    told = refusal(tmp_path)
    assert "a: 3 frames of 32x24" in told and "b: " in told and "--frames" in told
    assert found(tmp_path, 2) == {"a": 2, "b": 2}


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iterdir(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert "cannot be read (Permission denied)" in refusal(tmp_path)


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no picture")
    assert "holds no clip" in refusal(tmp_path)
