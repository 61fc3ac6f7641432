from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.pictures import texture
from tests.training.movies import B_FRAMES, TICK, packets, read_pictures, times, write_movie
from tests.training.test_checkpoint import CONFIG, new_state
from training import restore
from training.checkpoint import load_model, save_checkpoint
from training.inference import Clip, restore_clip
from training.restore import main
from training.video_input import WindowReader, open_video

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder, CONFIG, new_state())
    return folder


def restored(run: Path, path: Path, output: Path, *options: str) -> Path:
    given = [str(path), str(output), "--weights", str(run), "--device", "cpu", *options]
    assert main(given) == 0
    assert not list(output.parent.glob("*.part"))
    return output


def refusal(
    run: Path, path: Path, output: Path, caplog: pytest.LogCaptureFixture, *options: str
) -> str:
    """The one line that a command says that is refused."""
    caplog.clear()
    assert main([str(path), str(output), "--weights", str(run), "--device", "cpu", *options]) == 2
    assert not output.exists() or output.is_dir() or output.stat().st_size == 1
    assert not list(output.parent.glob("*.part"))
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "\n" not in record.getMessage()
    return record.getMessage()


# --- Video ------------------------------------------------------------------------------------


def test_a_video_keeps_times_sound_shape_and_tags(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pts = [TICK * t for t in (0, 1, 3, 4, 7, 8, 9, 14, 15, 16, 17, 18)]
    tags = {"colorspace": 5, "color_range": 2, "color_trc": 6, "color_primaries": 5}
    path = write_movie(
        tmp_path / "ein Fünf.mp4",
        len(pts),
        pts=pts,
        tags=tags,
        aspect=Fraction(4, 3),
        rotation=90,
        audio="aac",
    )
    output = restored(run, path, tmp_path / "neu" / "größer.mp4", "--frames", "5")
    assert "damaged" not in caplog.text
    assert times(output) == times(path)
    assert times(path) == [t / 25 for t in (0, 1, 3, 4, 7, 8, 9, 14, 15, 16, 17, 18)]
    assert packets(output, "audio") == packets(path, "audio")
    assert len(packets(path, "audio")) > 5
    old, new = read_pictures(path)[0], read_pictures(output)[0]
    assert (new.width, new.height) == (4 * 64, 4 * 48)
    assert new.rotation == old.rotation != 0
    for name in tags:
        assert int(getattr(new, name)) == tags[name]
    with av.open(str(path)) as source, av.open(str(output)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        seconds = [
            float((x.duration or 0) * (x.time_base or 0))
            for x in (source.streams.video[0], container.streams.video[0])
        ]
        assert seconds[0] == seconds[1]
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_pictures_are_those_of_the_network(run: Path, tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", 5)
    output = restored(run, path, tmp_path / "b.mp4", "--crf", "1")
    with open_video(path) as video:
        (window,) = WindowReader(video, restore.TileOptions())
    expected = restore_clip(load_model(run), window.clip, CPU)
    with open_video(output) as video:
        (window,) = WindowReader(video, restore.TileOptions())
    difference = np.abs(window.clip.lr.astype(int) - expected)
    assert difference.mean() < 2  # x264 at its best, and 4:2:0
    assert window.clip.lr.shape == expected.shape == (5, 4 * 48, 4 * 64, 3)


class Spy(nn.Module):
    """Enlarges pixels, and keeps what it was given."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.config = SimpleNamespace(scale=scale)
        self.given: list[tuple[Tensor, Any, Any, Any]] = []

    def forward(self, lr: Tensor, frame_type: Any, previous: Any, following: Any) -> Tensor:
        self.given.append((lr, frame_type, previous, following))
        scale = self.config.scale
        return lr.repeat_interleave(scale, 3).repeat_interleave(scale, 4)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    model = Spy()
    monkeypatch.setattr(restore, "load_model", lambda _: model)
    return model


def test_the_network_is_given_the_bitstreams_metadata(spy: Spy, run: Path, tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", 20)
    restored(run, path, tmp_path / "b.mkv")
    ((lr, frame_type, previous, following),) = spy.given
    assert lr.shape == (1, 20, 3, 48, 64)
    # I, and B frames between P frames, as the encoder was told to make them.
    assert "".join("IPB"[code] for code in frame_type[0]) == "IBBBPBBBPPIBBBPBBBPP"
    inner = (0, slice(1, 9), slice(None), slice(16, 32), slice(16, 48))
    for flow, (x, y) in ((previous, (-2, -1)), (following, (2, 1))):
        middle = flow[inner].flatten(2).median(2).values
        assert (middle - torch.tensor([x, y])).abs().max() < 0.3


def test_an_odd_size_and_a_single_frame(spy: Spy, run: Path, tmp_path: Path) -> None:
    spy.config.scale = 3
    path = write_movie(tmp_path / "a.mp4", 1, 33, 51, pixel_format="yuv444p")
    (picture,) = read_pictures(restored(run, path, tmp_path / "b.mp4"))
    assert (picture.width, picture.height) == (154, 100)  # 153 x 99, made even
    spy.config.scale = 1
    (picture,) = read_pictures(restored(run, path, tmp_path / "c.mov"))
    assert (picture.width, picture.height) == (52, 34)


def test_colours_come_through(spy: Spy, run: Path, tmp_path: Path) -> None:
    for matrix, color_range in ((1, 1), (6, 2), (2, 0)):
        tags = {"colorspace": matrix, "color_range": color_range}
        path = write_movie(tmp_path / "a.mp4", 2, 96, 96, tags=tags)
        output = restored(run, path, tmp_path / "b.mp4", "--crf", "4", "--overwrite")
        clips = []
        for place in (path, output):
            with open_video(place) as video:
                (window,) = WindowReader(video, restore.TileOptions())
                clips.append(window.clip.lr.astype(float).mean((0, 1, 2)))
        assert np.abs(clips[0] - clips[1]).max() < 1.5


def test_sound_that_does_not_fit_is_told(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, spy: Spy
) -> None:
    path = write_movie(tmp_path / "a.mkv", 4, audio="tta")
    told = refusal(run, path, tmp_path / "b.mp4", caplog)
    assert "cannot hold audio stream 1 (tta): write to .mkv, or leave it out" in told
    assert packets(restored(run, path, tmp_path / "b.mkv"), "audio") == packets(path, "audio")
    output = restored(run, path, tmp_path / "c.mp4", "--drop", "audio")
    with av.open(str(output)) as container:
        assert not container.streams.audio


SUBTITLES = b"""1
00:00:00,040 --> 00:00:00,400
Guten Tag

2
00:00:00,500 --> 00:00:00,700
Auf Wiedersehen
"""


def with_subtitles(path: Path, output: Path) -> Path:
    """The video of a file, and two subtitles."""
    srt = path.with_suffix(".srt")
    srt.write_bytes(SUBTITLES)
    with av.open(str(path)) as video, av.open(str(srt)) as text, av.open(str(output), "w") as out:
        inputs = (video, text)
        copies = [out.add_stream_from_template(x.streams[0], opaque=True) for x in inputs]
        copies[1].metadata["language"] = "deu"
        for container, copy in zip(inputs, copies, strict=True):
            for packet in container.demux():
                if packet.dts is not None:
                    packet.stream = copy
                    out.mux(packet)
    return output


def test_subtitles_are_kept(
    spy: Spy, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_subtitles(write_movie(tmp_path / "a.mp4", 20), tmp_path / "b.mkv")
    output = restored(run, path, tmp_path / "c.mkv")
    kept = packets(output, "subtitle")
    assert [text for text, _, _ in kept] == [b"Guten Tag", b"Auf Wiedersehen"]
    assert kept == packets(path, "subtitle")
    with av.open(str(output)) as container:
        assert container.streams.subtitles[0].language in ("deu", "ger")
    told = refusal(run, path, tmp_path / "d.mp4", caplog)
    assert "cannot hold subtitle stream 1 (srt): write to .mkv, or leave it out" in told
    restored(run, path, tmp_path / "d.mp4", "--drop", "subtitles")


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p"])
def test_hevc_and_other_pixel_formats(
    spy: Spy, run: Path, tmp_path: Path, pixel_format: str
) -> None:
    path = write_movie(tmp_path / "a.mp4", 3, 96, 96)
    path = converted(path, tmp_path / "b.mkv", pixel_format)
    output = restored(run, path, tmp_path / "c.mp4", "--codec", "hevc")
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.name == "hevc"
    for old, new in zip(read_pictures(path), read_pictures(output), strict=True):
        difference = (
            old.to_ndarray(format="gray").astype(int)
            - new.reformat(width=96, height=96, format="gray").to_ndarray()
        )
        assert np.abs(difference).mean() < 4


def converted(path: Path, output: Path, pixel_format: str) -> Path:
    """The same video in another pixel format, without loss."""
    with av.open(str(output), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 96, pixel_format
        for index, picture in enumerate(read_pictures(path)):
            frame = picture.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output


def test_damage_is_told_and_the_rest_is_restored(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, spy: Spy
) -> None:
    path = write_movie(tmp_path / "a.mkv", 30, options={**B_FRAMES, "crf": "10"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    assert len(times(restored(run, path, tmp_path / "b.mkv"))) >= 20
    assert "damaged" in caplog.text


def test_an_end_that_is_missing_is_told(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, spy: Spy
) -> None:
    path = write_movie(tmp_path / "a.mkv", 60, options={**B_FRAMES, "crf": "10"}, audio="aac")
    restored(run, path, tmp_path / "b.mp4")
    assert "ends" not in caplog.text
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    restored(run, path, tmp_path / "c.mp4")
    assert "s earlier than it says: get a whole copy" in caplog.text


def test_mistakes_are_one_message(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_movie(tmp_path / "a.mp4", 2)
    there = tmp_path / "there.mp4"
    there.write_bytes(b"x")
    out = tmp_path / "out.mp4"
    assert "is there already: give --overwrite" in refusal(run, path, there, caplog)
    assert there.read_bytes() == b"x"
    assert "is input and output" in refusal(run, there, there, caplog, "--overwrite")
    assert "does not exist" in refusal(run, tmp_path / "no.mp4", out, caplog)
    assert "suffix '.avi'" in refusal(run, path, tmp_path / "out.avi", caplog)
    assert "holds no run" in refusal(tmp_path, path, out, caplog)
    assert "enlarges 4 times" in refusal(run, path, out, caplog, "--scale", "2")
    assert "multiples of 8" in refusal(run, path, out, caplog, "--tile", "100")
    assert "neither a picture nor a video" in refusal(run, there, out, caplog)
    assert "neither a picture nor a video" in refusal(run, there, tmp_path / "out.png", caplog)
    assert "--clip takes a folder" in refusal(run, path, out, caplog, "--clip")
    assert "cannot be made" in refusal(run, path, there / "out.mp4", caplog)
    wide = write_movie(tmp_path / "wide.mp4", 1, 32, 4112)
    assert "16384 a side at most" in refusal(run, wide, out, caplog)
    if not torch.cuda.is_available():
        assert "finds no GPU" in refusal(run, path, out, caplog, "--device", "cuda")


def test_an_output_that_fails_midway_leaves_what_was_there(
    run: Path, tmp_path: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = write_movie(tmp_path / "a.mp4", 20), tmp_path / "b.mp4"
    output.write_bytes(b"x")

    def forward(*_: object) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(spy, "forward", forward)
    given = [str(path), str(output), "--weights", str(run), "--device", "cpu", "--overwrite"]
    assert main(given) == 130
    assert output.read_bytes() == b"x"
    assert not list(tmp_path.glob("*.part"))


def test_a_half_loaded_file_of_the_outputs_name_stays(spy: Spy, run: Path, tmp_path: Path) -> None:
    write_movie(tmp_path / "b.mp4", 2).rename(tmp_path / "b.mp4.part")
    Image.fromarray(texture(8, 8)).save(tmp_path / "c.png")
    (tmp_path / "c.png").rename(tmp_path / "c.png.part")
    for name in ("b.mp4", "c.png"):
        path = tmp_path / f"{name}.part"
        data = path.read_bytes()
        given = [str(path), str(tmp_path / name), "--weights", str(run), "--device", "cpu"]
        assert main(given) == 0
        assert path.read_bytes() == data and (tmp_path / name).exists()
    assert len(list(tmp_path.iterdir())) == 4
    restored(run, tmp_path / "b.mp4", tmp_path / "new" / f"{'x' * 251}.mp4")


# --- Pictures ---------------------------------------------------------------------------------


def picture_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_is_a_clip_of_one_i_frame(run: Path, tmp_path: Path) -> None:
    pixels = texture(21, 34)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    output = restored(run, tmp_path / "a.png", tmp_path / "b.png")
    clip = Clip(lr=pixels[None], frame_type=np.zeros(1, np.int64))
    assert np.array_equal(picture_of(output), restore_clip(load_model(run), clip, CPU)[0])


def test_the_way_up_grey_and_transparency(spy: Spy, run: Path, tmp_path: Path) -> None:
    pixels = texture(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.webp", lossless=True, exif=exif)
    turned = picture_of(restored(run, tmp_path / "turned.webp", tmp_path / "turned.png"))
    assert np.array_equal(turned[::2, ::2], np.rot90(pixels, -1))

    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png", icc_profile=b"profile")
    grey = restored(run, tmp_path / "grey.png", tmp_path / "grey.webp")
    assert np.array_equal(picture_of(grey)[::2, ::2, 0], pixels[:, :, 0])
    grey = restored(run, tmp_path / "grey.png", tmp_path / "grey2.png")
    with Image.open(grey) as image:
        assert image.mode == "L"
        assert image.info["icc_profile"] == b"profile"

    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:, :15] = 0
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "alpha.png")
    clear = picture_of(restored(run, tmp_path / "alpha.png", tmp_path / "clear.webp"))
    assert clear.shape == (40, 60, 4)
    assert (clear[:, :26, 3] == 0).all() and (clear[:, 34:, 3] == 255).all()
    assert np.array_equal(clear[::2, 34::2, :3], pixels[:, 17:])


def test_a_picture_that_cannot_be_written_so_is_refused(
    spy: Spy, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("LA", (8, 8)).save(tmp_path / "a.png")
    told = refusal(run, tmp_path / "a.png", tmp_path / "b.jpg", caplog)
    assert "cannot hold the transparency" in told
    told = refusal(run, tmp_path / "a.png", tmp_path / "b.mp4", caplog)
    assert "suffix '.mp4', of a restored picture it can be .png" in told
    Image.new("L", (8192, 8192)).save(tmp_path / "large.png")
    spy.config.scale = 4
    told = refusal(run, tmp_path / "large.png", tmp_path / "b.png", caplog)
    assert "would become 32768x32768 pixels" in told
    Image.fromarray(texture(20, 20)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:600])
    assert "cannot be read" in refusal(run, tmp_path / "cut.png", tmp_path / "b.png", caplog)


def test_a_folder_is_restored_picture_by_picture(
    spy: Spy, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "Bilder"
    folder.mkdir()
    for number, size in enumerate([(8, 10), (9, 7)]):
        Image.fromarray(texture(*size, seed=number)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    output = restored(run, folder, tmp_path / "out" / "new")
    assert sorted(path.name for path in output.iterdir()) == ["0.png", "1.png"]
    assert np.array_equal(picture_of(output / "1.png")[::2, ::2], texture(9, 7, seed=1))
    assert [given[0].shape[1] for given in spy.given] == [1, 1]
    assert "is there already" in refusal(run, folder, output, caplog)
    assert "name a folder" in refusal(run, folder, tmp_path / "out.mp4", caplog)
    assert "2 sizes" in refusal(run, folder, tmp_path / "clip", caplog, "--clip")
    Image.fromarray(texture(8, 8)).save(folder / "1.webp")
    assert "not the only picture" in refusal(run, folder, tmp_path / "clip", caplog)
    assert not (tmp_path / "clip").exists()


def test_numbered_frames_are_a_clip_where_that_is_said(spy: Spy, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(texture(8, 10, seed=number)).save(folder / f"frame_{number + 7}.png")
    output = restored(run, folder, tmp_path / "out", "--clip", "--frames", "5")
    for number, frame in enumerate(spy.given[0][0][0]):
        expected = torch.from_numpy(texture(8, 10, seed=number)).movedim(-1, 0) / 255
        assert torch.equal(frame, expected)
    assert [given[0].shape[1] for given in spy.given] == [5, 4]
    assert all(given[1] is None and given[2] is None for given in spy.given)
    for number in range(7):
        picture = picture_of(output / f"frame_{number + 7}.png")
        assert np.array_equal(picture[::2, ::2], texture(8, 10, seed=number))
