import cv2
import numpy as np
import pytest

from training.evaluating.temporal import farneback_flows, flow_errors, motions, warping_errors


def pan(frames: int, step: int) -> np.ndarray:
    """A smooth random texture that moves `step` pixels a frame to the left."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 160, 3)).astype(np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    return np.stack([texture[:64, step * t : step * t + 96] for t in range(frames)])


def test_tof_is_the_distance_of_motions() -> None:
    still, slow, fast = (list(farneback_flows(pan(3, step))) for step in (0, 1, 3))
    assert flow_errors(slow, slow) == [0, 0]
    assert flow_errors(slow, still) == pytest.approx([1, 1], abs=0.15)
    assert flow_errors(fast, slow) == pytest.approx([2, 2], abs=0.3)


def test_a_clip_that_moves_as_it_should_has_no_warping_error() -> None:
    clip = pan(3, 2)
    truth = list(motions(clip))
    assert len(truth) == 2
    assert np.median(truth[0].flow[truth[0].visible], axis=0) == pytest.approx([2, 0], abs=0.1)
    assert truth[0].visible.mean() > 0.5
    assert not truth[0].visible[:, -1].any()  # came in from outside
    assert max(warping_errors(clip, truth)) < 1e-4


def test_flicker_is_a_warping_error() -> None:
    clip = pan(3, 2) // 2
    flickering = clip.copy()
    flickering[1] += 51
    errors = warping_errors(flickering, list(motions(clip)))
    assert errors == pytest.approx([0.04, 0.04], rel=0.05)  # (51 / 255)^2


def test_a_single_frame_has_no_values() -> None:
    assert list(farneback_flows(pan(1, 0))) == []
    assert warping_errors(pan(1, 0), list(motions(pan(1, 0)))) == []
