"""The benchmark of packing: what it reads is what was coded."""

import json
from pathlib import Path

import av.logging
import numpy as np
import pytest
from PIL import Image

from benchmarks.packing import main, parse_report
from tests.pictures import moving_clip, texture
from tests.synthetic import write_video

LOG = """using cpu capabilities: MMX2 SSE2Fast SSSE3 SSE4.2 AVX FMA3 BMI2 AVX2
profile High, level 1.0, 4:2:0, 8-bit
frame I:1     Avg QP:26.86  size:  2070
frame P:3     Avg QP:30.69  size:   166
frame B:28    Avg QP:32.38  size:    28
consecutive B-frames:  8.3%  0.0% 25.0% 66.7%
mb I  I16..4:  0.0% 100.0%  0.0%
mb P  I16..4:  0.5%  0.9%  1.1%  P16..4: 25.0%  5.6%  3.7%  0.0%  0.0%    skip:63.2%
mb B  I16..4:  0.0%  0.1%  0.0%  B16..8: 32.6%  0.3%  0.0%  direct: 0.0%  skip:67.0%  L0:68.9% L1:31.1% BI: 0.0%
8x8 transform intra:100.0% inter:90.6%
kb/s:46.52"""  # noqa: E501 - x264's own lines


def test_the_shares_are_read_from_the_encoders_log() -> None:
    report = parse_report(LOG.splitlines())
    assert report.frames == {"I": 1, "P": 3, "B": 28}
    assert report.intra == pytest.approx({"I": 1.0, "P": 0.025, "B": 0.001})
    assert report.skip == pytest.approx({"I": 0.0, "P": 0.632, "B": 0.67})


def test_a_clip_of_intra_frames_has_no_others() -> None:
    kept = [line for line in LOG.splitlines() if line.startswith(("frame I", "mb I"))]
    report = parse_report(kept)
    assert (report.frames, report.skip) == ({"I": 1}, {"I": 0.0})


def test_a_log_without_statistics_is_an_error() -> None:
    for lines in (LOG.splitlines()[:2], LOG.splitlines()[:5]):
        with pytest.raises(ValueError, match="no closing statistics of x264"):
            parse_report(lines)


def test_camera_packs_are_predicted_and_patches_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        Image.fromarray(texture(220, 260, number)).save(tmp_path / f"{number}-{'abcd'[number]}.png")
    write_video(tmp_path / "clip.mp4", moving_clip(12, 160, 160), options={"crf": "12"})
    options = ["--frames=12", "--patch=128", "--samples=2", "--crf=24"]
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    assert main([f"--input={tmp_path}", *options, "--json"]) == 0
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before
    rows = {row["packing"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["samples"] for name, row in rows.items()} == {
        "patches": 1, "intra": 1, "camera": 2, "camera 1px": 2, "clips": 1,
    }  # fmt: skip
    assert rows["intra"]["i_frames"] == 1
    for name in ("camera", "camera 1px", "clips"):
        assert rows[name]["p_intra"] < 0.2
        assert rows[name]["bytes_per_pixel"] < rows["patches"]["bytes_per_pixel"] / 2
    patches = rows["patches"]
    assert patches["i_frames"] > 0.5 or patches["p_intra"] > 0.6
    for row in rows.values():
        # Two witnesses: the encoder's statistics are rounded, the decoder's vectors are counted.
        for kind in "pb":
            assert row[f"{kind}_intra"] == pytest.approx(row[f"{kind}_intra_exported"], abs=0.02)
        assert np.isclose(sum(row[f"{kind}_frames"] for kind in "ipb"), 1)


def test_the_table_leaves_out_what_there_is_no_input_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(texture(140, 140)).save(tmp_path / "photo.png")
    options = ["--frames=4", "--patch=128", "--packings", "clips", "intra"]
    assert main([f"--input={tmp_path}", *options]) == 0
    table = capsys.readouterr().out
    assert "CRF 26" in table and "\nintra" in table and "\nclips" not in table
