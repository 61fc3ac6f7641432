"""Motion fields as others make them, on a stream of two hand-written vectors."""

import numpy as np

from benchmarks.anchors.cavsr import anchor_flow, no_flow, released_flow
from schemas.motion import MOTION_DTYPE
from schemas.sample import Frame, FrameType, Stream
from transforms.motion import dense_flow

TYPES = "IBP"


def stream() -> Stream:
    frames = [
        Frame.model_construct(frame_type=FrameType(kind), key_frame=kind == "I") for kind in TYPES
    ]
    return Stream.model_construct(frames=frames, post_steps=[], coded_height=16, coded_width=16)


def blocks() -> np.ndarray:
    """P moves by 7 quarter pixels from I, B by 3 from P."""
    rows = [(1, 1, 8, 8, 16, 16, 3, 0), (2, -2, 8, 8, 16, 16, -7, 4)]
    return np.array(rows, MOTION_DTYPE)


def test_nothing_is_known_without_motion() -> None:
    flow = no_flow(blocks(), stream(), 16, 16, 1, 2, columns=slice(4, 9))
    assert flow.previous.shape == flow.next.shape == (2, 16, 5, 2)
    assert not flow.previous.any() and not flow.valid.any()


def test_the_released_loader_keeps_whole_pixels_and_forgets_the_distance() -> None:
    flow = released_flow(1)(blocks(), stream(), 16, 16, 0, 3)
    assert flow.previous[2, 0, 0].tolist() == [0, 0]  # what the B frame has ahead: 3 / 4 px, cut
    assert flow.next[1, 0, 0].tolist() == [1, -1]  # P's own vector, of two frames, for one
    assert flow.next[1, 15, 0].tolist() == flow.next[1, 0, 15].tolist() == [0, 0]  # left out
    assert released_flow(4)(blocks(), stream(), 16, 16, 0, 3).next[1, 0, 0].tolist() == [
        0.25,
        -0.25,
    ]


def test_the_reference_is_the_nearest_anchor() -> None:
    wrong = blocks()
    wrong["ref_distance"] = [4, -9]
    found = anchor_flow(wrong, stream(), 16, 16, 0, 3)
    expected = dense_flow(blocks(), stream(), 16, 16, 0, 3)
    assert (found.previous == expected.previous).all() and (found.next == expected.next).all()
