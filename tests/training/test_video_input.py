from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from schemas.sample import FrameType
from tests.training.movies import B_FRAMES, TICK, tone, write_movie
from training.config import UserError
from training.inference import TileOptions
from training.video_input import Window, WindowReader, open_video
from transforms.bitstream import frame_records
from transforms.codec import Packet, decode_with_side_data
from transforms.motion import coded_flow, extract_blocks

WINDOWS = TileOptions(frames=6, overlap_frames=1)


def windows_of(path: Path, options: TileOptions = WINDOWS) -> list[Window]:
    with open_video(path) as video:
        return list(WindowReader(video, options))


def kept(windows: list[Window], name: str) -> np.ndarray:
    """A field of the kept frames of all windows, one behind the other."""
    parts = []
    for window in windows:
        flow = window.clip.flow
        fields = {"lr": window.clip.lr, "frame_type": window.clip.frame_type}
        if flow is not None:
            fields |= {"previous": flow.previous, "next": flow.next}
        field = fields[name]
        assert field is not None
        parts.append(field[window.kept])
    return np.concatenate(parts)


def reference(path: Path, codec: str) -> tuple[list[int], np.ndarray]:
    """Frame types and blocks of a whole file, by the functions that datasets are made with."""
    with av.open(str(path)) as container:
        demuxed = [packet for packet in container.demux(video=0) if packet.size]
    times = sorted(packet.pts or 0 for packet in demuxed)
    coded = [
        Packet(
            data=bytes(packet),
            pts=times.index(packet.pts or 0),
            key_frame=packet.is_keyframe,
            encoder_qp=-1,
        )
        for packet in demuxed
    ]
    frames = decode_with_side_data(coded, codec)
    records = frame_records(coded, [0] * len(coded), frames)
    blocks = extract_blocks(frames, records, codec, anchors_only=codec != "h264")
    return [record.frame_type.code for record in records], blocks


@pytest.mark.parametrize(
    ("suffix", "codec", "encoder", "options"),
    [
        # Parameter sets in the stream, so that its packets decode by themselves.
        ("h264.ts", "h264", "libx264", B_FRAMES),
        ("mpeg2.ts", "mpeg2video", "mpeg2video", {"bf": "2"}),
    ],
)
def test_windows_tell_what_the_whole_stream_tells(
    tmp_path: Path, suffix: str, codec: str, encoder: str, options: dict[str, str]
) -> None:
    path = write_movie(
        tmp_path / f"ä.{suffix}", 27, codec=encoder, options=options, time_base=Fraction(1, 25)
    )
    types, blocks = reference(path, codec)
    windows = windows_of(path)
    assert len(windows) > 4
    assert kept(windows, "frame_type").tolist() == types
    assert FrameType.B.code in types
    whole = coded_flow(blocks, 48, 64, 0, len(types))
    # The MPEG decoders hand out their last frame without vectors.
    known = slice(None) if codec == "h264" else slice(-2)
    assert np.abs(whole.previous).max() > 1
    assert np.array_equal(kept(windows, "previous")[known], whole.previous[known])
    assert np.array_equal(kept(windows, "next")[known], whole.next[known])


def test_vectors_reach_across_a_key_frame_of_an_open_gop(tmp_path: Path) -> None:
    options = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=8:min-keyint=8:scenecut=0"}
    path = write_movie(tmp_path / "a.mp4", 24, options=options)
    flow = kept(windows_of(path), "next")
    assert np.isfinite(flow).all()
    # Content moves by (x, y) = (2, 1) a frame; B frames before a key frame see it coming.
    before_keys = [5, 6, 7, 13, 14, 15]
    middle = np.median(flow[before_keys, 16:-16, 16:-16], axis=(1, 2))
    assert np.abs(middle - [2, 1]).max() < 0.1


@pytest.mark.parametrize("frames", [1, 2, 6, 7, 10, 11])
def test_every_frame_is_kept_once(tmp_path: Path, frames: int) -> None:
    path = write_movie(tmp_path / "a.mp4", frames, 33, 50, pixel_format="yuv444p")
    windows = windows_of(path)
    assert [time for window in windows for time, _ in window.times] == [
        TICK * index for index in range(frames)
    ]
    assert kept(windows, "lr").shape == (frames, 33, 50, 3)
    (whole,) = windows_of(path, TileOptions(frames=50))
    assert np.array_equal(kept(windows, "lr"), whole.clip.lr)


def test_a_codec_without_vectors_has_types_alone(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.webm", 5, codec="libvpx-vp9", options={"deadline": "realtime"})
    (window,) = windows_of(path)
    assert window.clip.flow is None
    assert window.clip.frame_type is not None
    assert window.clip.frame_type.tolist() == [0, 1, 1, 1, 1]


def test_no_more_frames_are_held_of_a_longer_video(tmp_path: Path) -> None:
    most = []
    for frames in (40, 120):
        path = write_movie(tmp_path / f"{frames}.mp4", frames, 32, 32)
        with open_video(path) as video:
            reader = WindowReader(video, WINDOWS)
            held = [(len(reader._frames), len(reader._blocks)) for _ in reader]
        most.append(max(held))
    assert most[0] == most[1]
    assert most[0][0] <= WINDOWS.frames + 8 + 5 + 2


def test_a_stream_without_times_gets_them(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.h264", 6)
    (window,) = windows_of(path)
    pts = [time for time, _ in window.times]
    assert len(set(np.diff(pts))) == 1
    assert pts[1] > pts[0]


def damaged(path: Path) -> Path:
    """The file with the bytes in its middle overwritten."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    return path


def test_frames_of_an_avi_are_shown_one_after_the_other(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.avi", 20, time_base=Fraction(1, 25))
    with open_video(path) as video:
        pts = [frame.picture.pts or 0 for frame in video.frames()]
    assert pts == list(range(pts[0], pts[0] + 20))


def test_damage_is_counted_and_what_can_be_shown_is(tmp_path: Path) -> None:
    path = damaged(write_movie(tmp_path / "a.mkv", 30, options={**B_FRAMES, "crf": "10"}))
    with open_video(path) as video:
        windows = list(WindowReader(video, WINDOWS))
        assert video.damaged_packets + video.damaged_frames > 0
    assert 20 <= sum(len(window.times) for window in windows) <= 30


def test_a_video_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    small = write_movie(tmp_path / "a.ts", 3).read_bytes()
    large = write_movie(tmp_path / "b.ts", 3, 64, 80).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    with pytest.raises(UserError, match="changes from 64x48 to 80x64"):
        windows_of(path)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(UserError, match="neither a picture nor a video"):
        windows_of(path)
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    with pytest.raises(UserError, match=r"no video"):
        windows_of(path)
    whole = write_movie(tmp_path / "b.mp4")
    path.write_bytes(whole.read_bytes()[:2000])  # the index is at its end
    with pytest.raises(UserError, match=r"no video that can be opened"):
        windows_of(path)
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48000)
        for frame in tone(0.1, 1024):
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(UserError, match=r"has no video stream"):
        windows_of(path)


def test_hdr_is_refused(tmp_path: Path) -> None:
    tags = {"color_trc": 16, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = write_movie(tmp_path / "a.mp4", 2, tags=tags)
    with pytest.raises(UserError, match=r"smpte2084.*convert it to BT.709 first"):
        windows_of(path)
