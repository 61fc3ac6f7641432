import numpy as np
import pytest
from pydantic import TypeAdapter

from benchmarks.proof import report
from benchmarks.proof.corpus import measured_recipe, picture_recipe, rank_recipe, video_recipe
from benchmarks.proof.intervals import interval
from benchmarks.proof.scores import AS_IT_IS, ClipScore
from benchmarks.proof.variants import FULL, PICTURES, VIDEO
from benchmarks.proof.wiring import measure_wiring
from training.models.cavsr import CavsrConfig


def test_an_interval_holds_the_mean_and_grows_with_the_spread_between_clips() -> None:
    narrow = interval(np.array([[0.1, 0.2, 0.1], [0.2, 0.1, 0.2]]))
    wide = interval(np.array([[-1.0, 2.0, 0.1], [-1.1, 2.1, 0.2]]))
    assert narrow.mean == pytest.approx(0.15)
    assert 0.1 - 1e-9 <= narrow.low < narrow.mean < narrow.high <= 0.2 + 1e-9
    assert wide.low < 0 < wide.high
    assert interval(np.array([[0.3]])) == pytest.approx((0.3, 0.3, 0.3))


def test_frames_are_not_taken_for_independent() -> None:
    """Two clips that disagree stay uncertain, however many seeds agree on each."""
    clips = np.array([[0.0, 1.0]] * 50)
    assert interval(clips).high - interval(clips).low == pytest.approx(1)


def score(clip: str, psnr: list[float], stream: str = "15", other: str = AS_IT_IS) -> ClipScore:
    types = "IPB"[: len(psnr)]
    return ClipScore(clip=clip, stream=stream, representation=other, frame_types=types, psnr_y=psnr)


def test_differences_are_paired_by_seed_and_clip() -> None:
    here = [[score("a", [30, 28, 26]), score("b", [20, 20, 20])]]
    there = [[score("a", [29, 27, 22]), score("b", [20, 20, 20])]]
    found = report.differences("x", here, there, streams=["15"])
    assert found.values["15"].mean == pytest.approx((2 + 0) / 2)
    of_b = report.differences("x", here, there, "B", streams=["15"])
    assert of_b.values["15"].mean == pytest.approx((4 + 0) / 2)


def test_another_representation_is_compared_with_the_own_one() -> None:
    scores = [[score("a", [30]), score("a", [29], other="25"), score("a", [25], stream="25")]]
    scores[0] += [score("a", [24.5], "25", "15"), score("a", [28], other="35")]
    scores[0] += [score("a", [20], "25", "35"), score("a", [20], "35")]
    scores[0] += [score("a", [19], "35", "15"), score("a", [18], "35", "25")]
    fed_15, fed_25, fed_35 = report.other_code_differences(scores)
    assert fed_15.values["25"].mean == pytest.approx(0.5)
    assert fed_25.values["15"].mean == pytest.approx(1)
    assert fed_35.values["15"].mean == pytest.approx(2)
    assert "25" not in fed_25.values


def test_scores_come_back_from_json() -> None:
    scores = [score("größe", [30.5, 28])]
    adapter = TypeAdapter(list[ClipScore])
    assert adapter.validate_json(adapter.dump_json(scores)) == scores


def test_variants_differ_from_the_full_one_in_one_thing() -> None:
    full = VIDEO[FULL]
    for name, variant in VIDEO.items():
        changed = [a != b for a, b in zip(variant, full, strict=True)]
        without_encoder = isinstance(variant.model, CavsrConfig) and not (
            variant.model.modulation_blocks
        )
        assert sum(changed) == (0 if name == FULL else 2 if without_encoder else 1), name
    assert len({variant.stream for variant in PICTURES.values()}) == len(PICTURES)


def test_the_recipes_are_valid() -> None:
    assert video_recipe("cavsr").hr.pre_downscale == 1.5
    assert rank_recipe().pseudo_video.packing == "camera"
    assert [s.name for s in picture_recipe().streams] == ["codecs", "jpeg", "clean"]
    assert [s.name for s in measured_recipe().streams][-2:] == ["jpeg", "clean"]


def test_every_weight_takes_part() -> None:
    found = measure_wiring("xs", side=8)
    assert found.without_gradient == 0
    assert min(found.changes.values()) > 1e-3
