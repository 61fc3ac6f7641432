"""`python -m pipelines.materialize`: a published dataset made again from its sources."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from pipelines.audit.dataset import open_dataset
from pipelines.finish import finish_dataset
from pipelines.layout import publish_bytes
from pipelines.materialize.__main__ import main
from pipelines.publish import main as publish
from pipelines.shards import describe_file
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.sample import SampleRow
from schemas.source import Source
from schemas.tables import TableWriter, read_group, read_table, write_table
from tests.pictures import moving_clip
from tests.pipelines.small import changed, make_corpus, samples, synthesize

Row = TypeVar("Row", PlannedSample, SampleRow)

SHARDS = changed(("validation_fraction = 0", "validation_fraction = 0\nshard_mib = 0.03"))


def digests(dataset: Path) -> dict[str, str]:
    """Hashes of everything but the logs."""
    return {
        path: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in dataset.rglob("*")
        if file.is_file() and not (path := file.relative_to(dataset).as_posix()).startswith("logs/")
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the published dataset in `published`, its sources elsewhere and renamed in `moved`."""
    folder = tmp_path_factory.mktemp("place")
    corpus = make_corpus(folder / "korpus ü")
    (corpus / "folge").mkdir()
    for number, frame in enumerate(moving_clip(6, 70, 72, seed=9)):
        Image.fromarray(frame).save(corpus / "folge" / f"im{number + 1}.png")
    dataset = synthesize(corpus, folder / "dataset", SHARDS)
    assert len(read_manifest(dataset).shards) > 2
    assert publish([str(dataset), f"--output={folder / 'published'}", "--workers=1"]) == 0
    (folder / "digests.json").write_text(json.dumps(digests(dataset)))
    shutil.rmtree(dataset)
    moved = folder / "woanders"
    corpus.rename(moved)
    (moved / "tief").mkdir()
    (moved / "long.mp4").rename(moved / "tief" / "ohne Endung")
    (moved / "photo-a.png").rename(moved / "foto.jpg")
    (moved / "folge").rename(moved / "clip")
    return folder


@pytest.fixture
def moved(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "woanders", tmp_path / "quellen")
    return tmp_path / "quellen"


def run(place: Path, inputs: Path, output: Path, *others: str) -> int:
    arguments = [str(place / "published"), f"--input={inputs}", f"--output={output}"]
    return main(["--runner=DirectRunner", *arguments, "--workers=1", *others])


def original(place: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((place / "digests.json").read_bytes())
    return found


def test_the_same_dataset_is_made_from_sources_elsewhere(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "wieder ä", tmp_path / "report.json"
    assert run(place, place / "woanders", output, f"--json={report}") == 0
    assert digests(output) == original(place)
    assert "\nEQUAL: every file" in capsys.readouterr().out
    fields = json.loads(report.read_bytes())
    assert fields["findings"] == []
    assert all(shard["is_identical"] for shard in fields["shards"])


def test_an_interrupted_run_goes_on(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run(place, place / "woanders", output) == 0
    first, *others = sorted((output / "data").iterdir())
    (output / "index" / "shards" / f"{first.stem}.json").unlink()
    first.unlink()
    (output / "manifest.json").unlink()
    before = {tar: tar.stat().st_mtime_ns for tar in others}
    assert run(place, place / "woanders", output) == 0
    assert digests(output) == original(place)
    assert {tar: tar.stat().st_mtime_ns for tar in others} == before


def test_missing_and_changed_sources_are_listed_before_work(
    place: Path, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((moved / "photo-b.png").read_bytes())
    data[-20] ^= 1
    (moved / "photo-b.png").write_bytes(data)
    (moved / "tief" / "ohne Endung").unlink()
    output = tmp_path / "out"
    assert run(place, moved, output) == 2
    told = capsys.readouterr().err
    assert "2 of 5 sources are not at hand" in told
    assert "korpus ü/long.mp4 is missing" in told
    assert f"korpus ü/photo-b.png changed: {moved / 'photo-b.png'} is other content" in told
    listed = (output / "logs" / "absent_sources.txt").read_text().splitlines()
    assert len(listed) == 2 and all(line in told for line in listed)
    assert not (output / "data").exists()


def test_what_can_be_made_is_made_and_the_rest_when_its_source_is_back(
    place: Path, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (moved / "tief" / "ohne Endung").rename(tmp_path / "beiseite")
    shutil.rmtree(moved / "clip")
    output, report = tmp_path / "out", tmp_path / "report.json"
    assert run(place, moved, output, "--allow-missing", f"--json={report}") == 1
    told = capsys.readouterr().out
    assert "\nNOT EQUAL: " in told and "korpus ü/long.mp4 is missing" in told
    published = {row.key: row for row in samples(place / "published")}
    fields = json.loads(report.read_bytes())
    missing = {key for shard in fields["shards"] for key in shard["missing"]}
    gone = {"korpus ü/long.mp4", "korpus ü/folge"}
    assert {published[key].num_frames for key in missing} == {6} and len(missing) == 3
    assert {
        f["detail"].split(" is ")[0] for f in fields["findings"] if f["check"] == "source"
    } == gone
    assert not any(shard["different"] for shard in fields["shards"])
    failures = read_manifest(output).failures
    assert failures == {"unreadable": 3}
    (tmp_path / "beiseite").rename(moved / "wieder da.mp4")
    shutil.copytree(place / "woanders" / "clip", moved / "clip")
    assert "with --retry failed-retryable makes the rest" in told
    assert run(place, moved, output) == 1
    assert run(place, moved, output, "--retry=failed-retryable") == 0
    assert digests(output) == original(place)
    assert not (output / "logs" / "absent_sources.txt").exists()


def forged(
    place: Path,
    folder: Path,
    *,
    plan: Callable[[PlannedSample], PlannedSample] = lambda row: row,
    source: Callable[[Source], Source] = lambda row: row,
    sample: Callable[[SampleRow], SampleRow] = lambda row: row,
    **of_job: Any,
) -> Path:
    """A publication of other rows, or another job, whose hashes all fit."""
    shutil.copytree(place / "published", folder / "published")
    dataset = open_dataset(folder / "published")
    layout = dataset.layout
    job = dataset.job(layout.root, 1).model_copy(update=of_job)
    write_table(str(layout.sources), Source, map(source, read_table(str(layout.sources), Source)))
    old_plan = read_table(str(layout.plan), PlannedSample)
    writer = TableWriter(str(layout.plan), PlannedSample)
    shards = []
    for shard in dataset.manifest.shards:
        rows = [plan(row) for row in old_plan if row.shard == shard.shard]
        writer.write_group(rows)
        table = str(layout.table("samples", shard.shard))
        write_table(table, SampleRow, map(sample, read_table(table, SampleRow)))
        tar, *tables = shard.files
        files = [tar, *(describe_file(layout.root / f.path, f.path, f.rows) for f in tables)]
        changes = {"files": files, "plan_sha256": job.plan_sha256(rows)}
        shards.append(shard.model_copy(update=changes))
        marker = layout.marker(shard.shard)
        publish_bytes(shards[-1].model_dump_json().encode(), marker, layout)
    writer.close()
    finish_dataset(job, shards)
    return folder


def with_other_library(place: Path, folder: Path, **of_job: Any) -> Path:
    """A publication that says it was made with another Pillow."""
    environment = read_manifest(place / "published").environment
    libraries = environment.libraries | {"pillow": "0.1"}
    other = environment.model_copy(update={"libraries": libraries})
    return forged(place, folder, environment=other, **of_job)


def test_other_libraries_are_refused_with_the_cure(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = with_other_library(place, tmp_path)
    assert run(other, place / "woanders", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "pillow: made with 0.1, here " in told and "  pip install pillow==0.1\n" in told
    assert not (tmp_path / "out").exists()


def test_other_libraries_may_be_tried(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, report = with_other_library(place, tmp_path), tmp_path / "report.json"
    arguments = ("--other-libraries", f"--json={report}")
    assert run(other, place / "woanders", tmp_path / "out", *arguments) == 1
    assert "\nNOT EQUAL: " in capsys.readouterr().out
    findings = json.loads(report.read_bytes())["findings"]
    assert any(finding["path"] == "manifest.json" for finding in findings)
    # Here the samples are the same all the same.
    assert not any(finding["check"] in ("different", "missing") for finding in findings)
    made = {path: digest for path, digest in digests(tmp_path / "out").items() if "data/" in path}
    assert made.items() <= original(place).items() and made


def test_a_sample_of_other_bytes_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another seed draws other stages, as other code would.
    other = with_other_library(place, tmp_path, seed=5)
    arguments = ("--other-libraries", f"--json={tmp_path / 'report.json'}")
    assert run(other, place / "woanders", tmp_path / "out", *arguments) == 1
    fields = json.loads((tmp_path / "report.json").read_bytes())
    named = {key for shard in fields["shards"] for key in shard["different"]}
    assert named == {row.key for row in samples(place / "published")}


def test_a_folder_of_something_else_is_never_touched(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    synthesize(place / "woanders", output, SHARDS)
    before = digests(output)
    assert run(place, place / "woanders", output) == 2
    assert "holds a dataset" in capsys.readouterr().err and digests(output) == before


def test_the_output_is_never_inside_the_publication_nor_around_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "published", tmp_path / "around" / "published")
    published = tmp_path / "around" / "published"
    (tmp_path / "link").symlink_to(published)
    before = digests(published)
    for output in (published, published / "out", tmp_path / "around", tmp_path / "link" / "out"):
        assert run(tmp_path / "around", place / "woanders", output) == 2
        assert "lie in one another" in capsys.readouterr().err
    assert digests(published) == before


@pytest.mark.parametrize("path", ["index/plan.parquet", "index/sources.parquet", "recipe.yaml"])
def test_a_damaged_publication_is_refused(
    place: Path, tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "published", tmp_path / "published")
    file = tmp_path / "published" / path
    data = np.frombuffer(file.read_bytes(), np.uint8).copy()
    data[len(data) // 2] ^= 1
    file.write_bytes(data.tobytes())
    assert run(tmp_path, place / "woanders", tmp_path / "out") == 2
    assert path in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_shard_names_never_lead_out_of_the_output(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "published", tmp_path / "published")
    fields = json.loads((tmp_path / "published" / "manifest.json").read_bytes())
    fields["shards"][0]["shard"] = "../../evil"
    (tmp_path / "published" / "manifest.json").write_text(json.dumps(fields))
    assert run(tmp_path, place / "woanders", tmp_path / "out") == 2
    assert "names a shard '../../evil'" in capsys.readouterr().err


def huge(row: Source) -> Source:
    return row.model_copy(update={"width": 10**6, "height": 10**6, "num_frames": 10**9})


def long_span(row: PlannedSample) -> PlannedSample:
    spans = [span.model_copy(update={"start": 10**6}) for span in row.spans]
    return row.model_copy(update={"spans": spans})


def of_no_source(row: PlannedSample) -> PlannedSample:
    spans = [span.model_copy(update={"source_id": "f" * 64}) for span in row.spans]
    return row.model_copy(update={"spans": spans})


def other_key(row: Row) -> Row:
    return row.model_copy(update={"key": f"../{row.key}"})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"plan": other_key}, "are not the planned ones"),
        ({"sample": other_key}, "are not the planned ones"),
        ({"plan": other_key, "sample": other_key}, "the key '../"),
        ({"source": huge}, "1000000x1000000 pixels"),
        ({"plan": long_span}, "lie beyond the"),
        ({"plan": of_no_source}, "lacks the source ffff"),
        ({"plan": lambda row: row.model_copy(update={"patch": 99})}, "has no patch 99"),
        ({"plan": lambda row: row.model_copy(update={"shard": "train-000009"})}, "not the one in"),
    ],
)
def test_a_publication_that_contradicts_itself_is_refused(
    place: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = forged(place, tmp_path, **changes)
    assert run(other, place / "woanders", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = (line for line in lines if line.startswith("pipelines.materialize: "))
    assert told in line and "is no sound publication" in line
    assert not (tmp_path / "out").exists()


def test_a_plan_of_fewer_shards_than_the_manifest_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = forged(place, tmp_path)
    dataset = open_dataset(other / "published")
    rows = read_group(str(dataset.layout.plan), PlannedSample, 0)
    write_table(str(dataset.layout.plan), PlannedSample, rows)
    finish_dataset(dataset.job(other / "published", 1), dataset.manifest.shards)
    assert run(other, place / "woanders", tmp_path / "out") == 2
    assert "is no sound publication" in capsys.readouterr().err


def test_a_plan_that_is_not_the_manifests_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "published", tmp_path / "published")
    manifest = read_manifest(tmp_path / "published").model_copy(update={"seed": 5})
    (tmp_path / "published" / "manifest.json").write_bytes(manifest.data)
    assert run(tmp_path, place / "woanders", tmp_path / "out") == 2
    assert "the plan of train-000000 is not the one in the manifest" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--workers=0"], "must be 1 or more"),
        (["--alow-missing"], "did you mean --allow-missing?"),
        (["--input=nowhere"], "does not exist"),
        (["--json=no/such/folder.json"], "cannot write the report"),
    ],
)
def test_mistakes_are_told(
    place: Path,
    tmp_path: Path,
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(place, place / "woanders", tmp_path / "out", *arguments) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_it_with_a_line(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise RuntimeError("of a step") from KeyboardInterrupt()  # as Beam wraps it

    monkeypatch.setattr("pipelines.materialize.run.make_shards", interrupt)
    assert run(place, place / "woanders", tmp_path / "out") == 130
    assert "goes on from here" in capsys.readouterr().err


def test_the_output_may_not_lie_in_the_sources(
    place: Path, moved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, moved, moved / "out") == 2
    assert "lies in the input" in capsys.readouterr().err
