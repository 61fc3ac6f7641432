import numpy as np
import pytest

from training.config import UserError
from training.evaluating.protocol import PROTOCOLS


def test_cavsr_leaves_nothing_out() -> None:
    clip = np.zeros((1, 11, 13, 3))
    assert PROTOCOLS["cavsr"].cut(clip).shape == clip.shape
    PROTOCOLS["cavsr"].check(1, 11, 13)


def test_comisr_leaves_out_ends_and_borders() -> None:
    t, y, x = np.indices((7, 576, 720))
    kept = PROTOCOLS["comisr"].cut(np.stack([t, y, x], -1))
    assert kept.shape[:3] == (3, 544, 704)
    assert kept[0, 0, 0].tolist() == [2, 16, 8]
    assert kept[-1, -1, -1].tolist() == [4, 559, 711]


@pytest.mark.parametrize(
    ("frames", "side", "cause"), [(4, 64, "2 at either end"), (5, 47, "too small")]
)
def test_clips_of_which_nothing_is_left_are_refused(frames: int, side: int, cause: str) -> None:
    PROTOCOLS["comisr"].check(5, 48, 48)
    with pytest.raises(UserError, match=cause):
        PROTOCOLS["comisr"].check(frames, side, 64)
    with pytest.raises(UserError, match="too small"):
        PROTOCOLS["cavsr"].check(1, 10, 64)
