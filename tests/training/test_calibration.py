from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.encoders import ENCODERS
from schemas.shard import MemberParts
from tests.training.test_work import work_of
from training import calibration
from training.calibration import Coding, codings_of, measure_rates, seconds_by_term
from training.draw import Cut
from training.samples import read_window
from training.shards import Shards


def test_rates_are_found_from_runs_that_differ() -> None:
    rates = {"pixels": 3e-9, "bytes": 2e-8, "windows": 1e-3}
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(6):
        work = dict(zip(rates, rng.uniform([1e4, 1e3, 1], [1e6, 1e5, 2]).tolist(), strict=True))
        runs.append(calibration._Run(work, sum(seconds_by_term(work, rates).values())))
    assert calibration._solve(runs) == pytest.approx(rates)


@pytest.mark.parametrize("jpeg_quality", [None, 95])
def test_every_kind_of_work_gets_a_rate(ruler_dataset: Path, jpeg_quality: int | None) -> None:
    work = work_of(ruler_dataset)
    codings = codings_of(work)
    assert codings == {Coding("lossless", "rgb"), Coding("h264", "exact-tv")}
    threads = torch.get_num_threads()
    rates = measure_rates(codings, jpeg_quality)
    assert torch.get_num_threads() == threads
    assert rates.keys() == work.keys()
    assert all(rate >= 0 for rate in rates.values())
    assert 1e-5 < sum(seconds_by_term(work, rates).values()) < 10


def test_every_codec_and_reading_is_in_some_coding() -> None:
    names = ["lr_opened.h264", "lr_opened.vp9", "lr_opened.av1", "lr_pixels.exact-tv",
             "lr_pixels.fast-pc"]  # fmt: skip
    codings = codings_of(dict.fromkeys(names, 1.0))
    assert {coding.codec for coding in codings} == {"h264", "vp9", "av1"}
    assert {coding.reading for coding in codings} == {"exact-tv", "fast-pc"}
    assert len(codings) == 3
    assert codings_of({"lr_opened.lossless": 1.0}) == {Coding("lossless", "rgb")}


@pytest.mark.parametrize("reading", ["exact-tv", "fast-pc"])
def test_every_codec_can_be_measured(tmp_path: Path, reading: str) -> None:
    (tmp_path / "data").mkdir()
    codings = [Coding(codec, reading) for codec in ENCODERS]
    hr = calibration._smooth(2, 192)
    made = calibration._make_sample(tmp_path, "a", hr, codings, None)
    scaler, levels = reading.split("-")
    for stream, coding in zip(made.sample.streams, codings, strict=True):
        assert (stream.codec, stream.read_scaler) == (coding.codec, scaler)
        assert stream.read_range == levels


def test_a_codec_without_vectors_can_be_measured_alone() -> None:
    rates = measure_rates([Coding("vp8", "exact-tv")], None)
    assert rates["flow_blocks"] == 0
    assert rates["lr_coded_pixels.vp8"] + rates["lr_coded_bytes.vp8"] > 0


@pytest.mark.parametrize("quality", [None, 80])
def test_amounts_of_windows_are_those_of_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quality: int | None
) -> None:
    (tmp_path / "data").mkdir()
    coding = Coding("h264", "exact-tv")
    made = calibration._make_sample(tmp_path, "a", calibration._busy(6, 192), [coding], quality)
    asked, read = [], MemberParts.__getitem__

    def counting_read(parts: MemberParts, part: slice) -> bytes:
        asked.append(len(read(parts, part)))
        return read(parts, part)

    monkeypatch.setattr(MemberParts, "__getitem__", counting_read)
    for start, side in ((1, 40), (2, 96)):
        cut = Cut(stream=0, start=start, count=3, top=0, left=0, height=side, width=side)
        asked.clear()
        read_window(Shards(tmp_path, []), made.entry, cut)
        work = calibration._window_work(made, coding, cut)
        assert work["read_bytes"] == sum(asked)
        assert work["hr_tiles"] == (3 * 1 if side == 40 else 3 * 4)
