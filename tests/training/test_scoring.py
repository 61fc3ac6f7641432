import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from schemas.sample import FrameType
from tests.training.test_ranking import B, I, P, coding
from training.drawing import FRAME_TYPE_COLORS
from training.models.encoder import EncoderConfig
from training.pretraining import Ranker
from training.score_plot import PLOT_NAME, write_plot
from training.scoring import (
    StreamScores,
    accuracies,
    accuracy_table,
    score_held_out,
    score_table,
    type_means,
    write_scores,
)

CPU = torch.device("cpu")


def found(score_N4: Tensor, *frames: tuple[float, int, int]) -> dict[tuple[str, str], tuple]:
    rows = accuracies(score_N4, coding(*frames))
    return {(row.pairs, row.frame_types): (row.num_pairs, row.accuracy) for row in rows}


def of_scores(*scores: float) -> Tensor:
    """The same whatever type is fed."""
    return torch.tensor(scores)[:, None].repeat(1, 4)


def test_accuracies_count_pairs_in_the_right_order() -> None:
    frames = [(-1.0, P, 0), (20.0, P, 0), (23.0, P, 0), (30.0, P, 0), (10.0, P, 1)]
    rows = found(of_scores(0, 1, 3, 2, 2), *frames)
    assert rows["CRF, within clips", "given"] == (3, pytest.approx(2 / 3))
    assert rows["CRF at least 5 apart, within clips", "given"] == (2, 0.5)
    assert ("CRF at least 5 apart, one frame of a clip", "given") not in rows
    assert rows["uncompressed and any CRF, within clips", "given"] == (3, 1)
    assert rows["CRF, across clips", "given"] == (3, pytest.approx(1 / 3))  # a tie is wrong
    assert rows["uncompressed and any CRF, across clips", "given"] == (1, 1)
    assert ("types, within clips", "given") not in rows


def test_the_very_same_picture_is_a_kind_of_its_own() -> None:
    rows = found(of_scores(2, 1, 0, 3), (20.0, P, 0), (25.0, P, 0), (30.0, B, 0), (30.0, P, 0))
    assert rows["CRF at least 5 apart, one frame of a clip", "given"] == (1, 0)
    assert rows["CRF at least 5 apart, within clips", "given"] == (3, pytest.approx(2 / 3))


def test_accuracies_tell_what_the_type_does_from_what_the_picture_does() -> None:
    frames = [(20.0, I, 0), (20.0, P, 0), (20.0, B, 0)]
    by_type = found(torch.tensor([[0.0, 1, 2, 0]] * 3), *frames)
    by_picture = found(of_scores(0, 1, 2), *frames)
    pairs, one = "types, within clips", "types, one picture fed as both"
    assert [by_type[pairs, fed][1] for fed in ("given", "none", "reversed")] == [1, 0, 0]
    assert [by_picture[pairs, fed][1] for fed in ("given", "none", "reversed")] == [1, 1, 1]
    assert by_type[one, "given"] == (9, 1) and by_picture[one, "given"] == (9, 0)


def test_a_table_has_what_the_network_says_of_every_type() -> None:
    torch.manual_seed(0)
    ranker = Ranker(EncoderConfig(width=4, batch_norm=True)).train()
    lr = torch.randint(0, 256, (9, 3, 7, 5), dtype=torch.uint8)
    table = score_table(ranker, lr, CPU)
    assert ranker.training
    ranker.eval()
    with torch.no_grad():
        for code in range(3):
            expected = ranker(lr / 255, torch.full((9,), code))
            assert torch.allclose(table[:, code], expected, atol=1e-5)
        assert torch.allclose(table[:, 3], ranker(lr / 255, None), atol=1e-5)


def test_every_held_out_frame_is_scored_and_drawn(pan_dataset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    held_out = score_held_out(Ranker(EncoderConfig(width=4)), pan_dataset, CPU)
    assert [(x.clip, x.stream, x.crf) for x in held_out.streams] == [
        ("pan5", "clean", -1), ("pan5", "crf35", 35), ("pan6", "clean", -1), ("pan6", "crf35", 35)
    ]  # fmt: skip
    assert all(len(x.scores) == len(x.frame_types) == 5 for x in held_out.streams)
    write_scores(tmp_path, 7, held_out)
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["step"] == 7
    assert [StreamScores(**x) for x in stored["streams"]] == held_out.streams
    assert "uncompressed and any CRF, within clips" in accuracy_table(held_out.accuracies)
    write_plot(tmp_path, held_out.streams)
    pixels = np.asarray(Image.open(tmp_path / PLOT_NAME))
    assert (pixels == FRAME_TYPE_COLORS[FrameType.I]).all(-1).sum() > 100


def test_means_are_of_one_type_and_ascend_in_crf() -> None:
    def stream(crf: float | None, types: str, *scores: float) -> StreamScores:
        return StreamScores(
            clip="a", stream="s", crf=crf, frame_types=types, scores=list(scores),
            scores_without_types=list(scores),
        )  # fmt: skip

    streams = [stream(30, "IPP", 1, 2, 4), stream(20, "IP", 0, 5), stream(None, "P", 9)]
    assert type_means(streams, FrameType.P)["a"].tolist() == [[20, 5], [30, 3]]
    assert type_means(streams, FrameType.B) == {}


def test_without_scores_there_is_no_plot(tmp_path: Path) -> None:
    write_plot(tmp_path, [])
    assert not list(tmp_path.iterdir())
    assert "no validation split" in accuracy_table([])
