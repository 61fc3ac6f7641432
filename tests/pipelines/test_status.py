"""The command that tells how far a dataset is."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.layout import Layout
from pipelines.status import DatasetStatus, _Log, _rate, main, read_status
from schemas.manifest import Shard, read_manifest
from schemas.plan import PlannedSample
from schemas.tables import read_table
from tests.pictures import moving_clip
from tests.pipelines.killing import Attempt
from tests.pipelines.small import changed, make_corpus, synthesize
from tests.synthetic import write_video

RECIPE = changed(("variants = 1", "variants = 1\nshard_mib = 0.02"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several shards, one source and one sample left out."""
    folder = tmp_path_factory.mktemp("status ü")
    corpus = make_corpus(folder / "corpus")
    (corpus / "notes.txt").write_text("no picture")
    return synthesize(corpus, folder / "set", RECIPE)


def planned(dataset: Path) -> list[str]:
    return [row.shard for row in read_table(str(Layout(dataset).plan), PlannedSample)]


def told(dataset: Path, tmp_path: Path, status: int) -> DatasetStatus:
    report = tmp_path / "status.json"
    assert main([str(dataset), "--json", str(report)]) == status
    return DatasetStatus.model_validate_json(report.read_bytes())


def test_a_finished_dataset(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = told(dataset, tmp_path, 0)
    shards = read_manifest(dataset).shards
    assert status.is_finished and len(shards) > 2
    assert status.shards_done == status.shards == len(shards)
    assert status.samples_done == status.samples == sum(shard.num_samples for shard in shards)
    assert status.remaining_seconds == status.samples_begun == 0 < status.samples_per_second
    assert [(one.reason, one.count) for one in status.sources_left_out] == [("not_media", 1)]
    printed = capsys.readouterr().out
    assert "finished" in printed and "1 not_media" in printed and "4 of 5 usable" in printed


def test_an_unfinished_dataset(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    layout, names = Layout(copy), planned(copy)
    layout.manifest.unlink()
    missing, damaged = sorted(set(names))[:2]
    layout.marker(missing).unlink()
    layout.marker(damaged).write_text("{")
    layout.progress.mkdir()
    (layout.progress / missing).write_text("1")
    (layout.progress / damaged).write_text("")  # caught while it was written
    (layout.progress / "probe-000000").write_text("64")  # of sources that are being added
    status = told(copy, tmp_path, 1)
    left = names.count(missing) + names.count(damaged)
    assert not status.is_finished and status.shards_done == status.shards - 2
    assert status.samples_done == len(names) - left and status.samples_begun == 1
    expected = (left - 1) / status.samples_per_second
    assert status.remaining_seconds == pytest.approx(expected)
    assert 0 <= status.quiet_seconds < 60
    printed = capsys.readouterr().out
    assert "not finished" in printed and "1 begun" in printed and "remaining" in printed


def test_samples_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    moving = moving_clip(6, 72, 80)
    flat = np.full_like(moving, 99)
    (tmp_path / "corpus").mkdir()
    write_video(tmp_path / "corpus" / "half.mp4", np.concatenate([moving, flat]))
    output = synthesize(tmp_path / "corpus", tmp_path / "set", RECIPE)
    status = read_status(output)
    assert [(one.status, one.reason, one.count) for one in status.samples_left_out] == [
        ("filtered", "flat", 1)
    ]
    assert status.samples_done == status.samples == 2


def test_a_run_that_was_killed(dataset: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    output, corpus = tmp_path / "set", dataset.parent / "corpus"
    arguments = [f"--input={corpus}", f"--output={output}", f"--recipe={recipe}", "--workers=1"]
    Attempt(arguments, output, last=200).wait()
    status = read_status(output)
    markers = list(Layout(output).marker("any").parent.glob("*.json"))
    done = [Shard.model_validate_json(marker.read_bytes()) for marker in markers]
    assert 0 < status.shards_done == len(done) < status.shards
    assert status.samples_done == sum(s.num_samples + s.num_left_out for s in done)
    assert not status.is_finished and status.remaining_seconds > 0
    synthesize(corpus, output, RECIPE)
    assert read_status(output).samples_done == status.samples


def test_probing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(tmp_path / "set")
    layout.entries(0, 0).parent.mkdir(parents=True)
    layout.probed(0, 0).parent.mkdir(parents=True)
    layout.entries(0, 0).write_text(json.dumps([[], [], []]))
    layout.entries(0, 1).write_text(json.dumps([[]]))
    layout.probed(0, 2).touch()
    status = told(layout.root, tmp_path, 1)
    assert (status.batches_probed, status.batches, status.shards) == (1, 4, 0)
    assert "probing    1 of 4 batches of sources" in capsys.readouterr().out


def test_without_logs_there_is_no_rate(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    shutil.rmtree(copy / "logs")
    assert main([str(copy)]) == 0
    assert "rate" not in capsys.readouterr().out
    assert read_status(copy).quiet_seconds == -1


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_folder_without_a_dataset(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    if kind == "empty":
        place.mkdir()
    elif kind == "file":
        place.touch()
    assert main([str(place)]) == 2
    assert "holds no dataset" in capsys.readouterr().err


def test_a_damaged_plan_is_told(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    os.truncate(Layout(copy).plan, 100)
    assert main([str(copy)]) == 2
    assert "plan.parquet is missing or damaged" in capsys.readouterr().err


def test_the_rate_is_that_of_the_last_stretch_of_work() -> None:
    now = time.time()

    def made(ago: float, took: float) -> tuple[_Log, int]:
        return _Log(f"{ago}", now - ago, took), 10

    # Two workers side by side, an hour after others.
    logs = [made(3600, 5), made(20, 10), made(18, 12), made(10, 10), made(0, 15)]
    assert _rate(logs) == (pytest.approx(40 / 30), 4)
    assert _rate(logs[:1]) == (pytest.approx(2), 1)
    assert _rate([]) == (0.0, 0)
