from typing import Any

import pytest

from training.evaluating.published import KNOWN_SETS
from training.evaluating.report import comparable, report
from training.evaluating.results import TRUTH, ClipScore, Results

VID4 = dict(KNOWN_SETS[0].frames)
LABELS = ["clean", "CRF 25 4:2:0"]


def results_of(**changes: Any) -> Results:
    fields: dict[str, Any] = {
        "data": "vid4",
        "frames": VID4,
        "whole": True,
        "protocol": "cavsr",
        "conditions": LABELS,
        "metrics": ["psnr_y", "ssim_y"],
        "methods": ["cubic"],
        "weights": {},
        "tiled": False,
        "device": "cpu",
        "encoder": "x264",
        "libraries": {},
    }
    fields |= changes
    values = {"psnr_y": [20.0, 22.0], "ssim_y": [0.5], "psnr_rgb": [19.0], "warp": [0.002]}
    scores = [
        ClipScore(
            method=method,
            clip=clip,
            condition=label,
            values={name: values[name] for name in fields["metrics"]},
        )
        for method, labels in [("cubic", fields["conditions"]), (TRUTH, [""])]
        for clip in fields["frames"]
        for label in labels
        if method != TRUTH or fields["metrics"] == ["warp"]
    ]
    return Results(**fields, scores=scores)


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_published_rows_stand_beside_measured_ones() -> None:
    told = report(results_of())
    assert line(told, "| *CAVSR") == "| *CAVSR, published* | – | 25.65 / 0.742 |"
    assert line(told, "| *BasicVSR") == "| *BasicVSR (BD), published* | 27.98 / 0.856 | – |"
    assert line(told, "| cubic |") == "| cubic | 21.00 / 0.500 | 21.00 / 0.500 |"
    assert "not measured here: Vid4 as published" in told


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "comisr"},
        {"whole": False},
        {"frames": {**VID4, "walk": 46}},
        {"frames": {"calendar": 41}},
        {"metrics": ["psnr_rgb"]},
        {"conditions": ["CRF 20 4:2:0"]},
    ],
)
def test_what_was_measured_otherwise_stands_alone(changes: dict[str, Any]) -> None:
    assert "published*" not in report(results_of(**changes))


def test_published_values_stand_under_the_papers_subsampling() -> None:
    told = report(results_of(conditions=["CRF 25 4:2:0", "CRF 25 4:4:4"]))
    assert line(told, "| *FTVSR") == "| *FTVSR, published* | – | 25.51 / 0.732 |"


def test_test_sets_are_told_by_names_and_lengths() -> None:
    found = comparable(results_of(frames={name.upper(): n for name, n in VID4.items()}))
    assert found is not None and found.name == "Vid4"
    reds4 = comparable(results_of(frames=dict.fromkeys(("000", "011", "015", "020"), 100)))
    assert reds4 is not None and (reds4.name, reds4.channels) == ("REDS4", "rgb")


def test_means_are_over_frames_then_over_clips() -> None:
    scores = [
        ClipScore(method="m", clip="a", condition="clean", values={"psnr_y": [30.0], "tof": []}),
        ClipScore(method="m", clip="b", condition="clean", values={"psnr_y": [10, 20.0, 30.0]}),
    ]
    results = results_of().model_copy(update={"scores": scores})
    assert results.mean("psnr_y", "m", "clean") == 25
    assert results.mean("psnr_y", "m", "clean", "b") == 20
    assert results.mean("tof", "m", "clean") is None


def test_the_ground_truth_has_a_row_where_it_has_a_value() -> None:
    told = report(results_of(metrics=["warp"]))
    assert line(told, "| ground truth") == "| ground truth | 2.000 | 2.000 |"
    assert "lower is better" in told
    assert "ground truth" not in report(results_of())


def test_names_do_not_break_the_table() -> None:
    told = report(results_of(frames={"a|b": 1, "c": 1}, data="x\ny"))
    assert r"| a\|b |" in told and "# Evaluation of x y" in told
