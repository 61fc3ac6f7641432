import numpy as np
import pytest

from tests.training.conftest import pan_frames
from training.evaluating.degradation import Condition, conditions_of, degrade
from transforms.pixels import to_float, to_uint8
from transforms.resize import resize


def test_conditions_are_told_and_come_once() -> None:
    conditions = conditions_of([None, 25, 25, 17.5], ["yuv420p", "yuv444p"])
    assert [condition.label for condition in conditions] == [
        "clean", "CRF 25 4:2:0", "CRF 17.5 4:2:0", "CRF 25 4:4:4", "CRF 17.5 4:4:4",
    ]  # fmt: skip


def test_without_compression_lr_is_the_bd_picture() -> None:
    hr = pan_frames(3, seed=0)
    (coded,) = degrade(hr, [Condition()])
    small = [to_uint8(resize(to_float(frame), 32, 40, "bd")) for frame in hr]
    assert np.array_equal(coded.lr, np.stack(small))
    assert coded.frame_types[0] == "I" and coded.frame_type.tolist()[0] == 0


def test_compression_goes_by_its_rate_factor_and_pixel_format() -> None:
    hr = pan_frames(6, seed=0)
    conditions = conditions_of([15, 35], ["yuv420p", "yuv444p"])
    made = {coded.condition.label: coded for coded in degrade(hr, conditions)}
    (clean,) = degrade(hr, [Condition()])

    def error(label: str) -> float:
        return float(np.square(made[label].lr.astype(float) - clean.lr).mean())

    for subsampling in ("4:2:0", "4:4:4"):
        assert error(f"CRF 15 {subsampling}") < error(f"CRF 35 {subsampling}")
    assert error("CRF 15 4:4:4") < error("CRF 15 4:2:0") / 2  # colours of the texture are random
    low, high = (made[f"CRF {crf} 4:2:0"].stream_bytes for crf in (35, 15))
    assert low < high


def test_motion_and_frame_types_are_those_of_the_bitstream() -> None:
    (coded,) = degrade(pan_frames(6, seed=0), [Condition(25)])
    assert coded.frame_types[0] == "I" and set(coded.frame_types[1:]) <= {"P", "B"}
    assert [("I", "P", "B")[code] for code in coded.frame_type] == list(coded.frame_types)
    # The texture moves by 4 HR pixels a frame to the left: what is here was 1 LR pixel further on.
    known = coded.flow.valid[1:] & 1 == 1
    assert np.median(coded.flow.previous[1:][known], axis=0).tolist() == [1, 0]


@pytest.mark.parametrize("size", [(44, 60), (12, 12)])
def test_single_and_tiny_and_odd_pictures_are_coded(size: tuple[int, int]) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    for coded in degrade(hr, conditions_of([None, 30], ["yuv420p"])):
        assert coded.lr.shape == (1, size[0] // 4, size[1] // 4, 3)
        assert coded.frame_types == "I"
        assert not coded.flow.valid.any()
