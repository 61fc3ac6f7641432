"""The command that writes a view, on datasets that the whole pipeline made."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.layout import Layout
from pipelines.view import main
from schemas.manifest import read_manifest
from schemas.sample import FrameRow, FrameType, SampleRow, StreamRow
from schemas.view import View, read_view
from tests.pipelines.small import changed, make_corpus, rows, samples, synthesize
from tests.synthetic import write_video


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("media") / "corpus")


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several shards, in a folder with whatever may disturb quoting and patterns."""
    recipe = changed(("variants = 1", "variants = 1\nshard_mib = 0.05"))
    return synthesize(corpus, tmp_path_factory.mktemp("ü [1] o'dd*") / "set", recipe)


@pytest.fixture(scope="module")
def other(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same videos under another recipe, and no photographs."""
    folder = tmp_path_factory.mktemp("videos") / "corpus"
    folder.mkdir()
    for video in corpus.glob("*.mp4"):
        shutil.copy(video, folder)
    recipe = changed(("max = 38", "max = 28"), ("variants = 1", "variants = 2"))
    return synthesize(folder, folder.parent / "set", recipe)


def view_of(dataset: Path, tmp_path: Path, *arguments: str) -> View:
    assert main([str(dataset), "--output", str(tmp_path / "new" / "view"), *arguments]) == 0
    return read_view(tmp_path / "new" / "view")


def selected(view: View) -> list[tuple[str, int, int]]:
    return list(zip(view.keys, view.streams, view.frames, strict=True))


def frames_of(dataset: Path) -> list[FrameRow]:
    return list(rows(dataset, "frames", FrameRow))


def test_frames_by_type_and_quantiser(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crf = {(s.key, s.stream) for s in rows(dataset, "streams", StreamRow) if s.rate_mode == "crf"}
    wanted = sorted(
        (frame.key, frame.stream, frame.display_index)
        for frame in frames_of(dataset)
        if frame.frame_type is FrameType.P
        and 20 <= frame.qp_mean <= 36
        and (frame.key, frame.stream) in crf
    )
    condition = "frame_type = 'P' AND qp_mean BETWEEN 20 AND 36 AND rate_mode = 'crf' -- comment"
    view = view_of(dataset, tmp_path, "--per", "frame", "--where", condition)
    assert selected(view) == wanted and 2 < len(wanted) < len(frames_of(dataset))
    assert view.weights == [1.0] * len(wanted)
    assert view.about.manifest_sha256 == read_manifest(dataset).sha256
    assert condition in view.about.query
    printed = capsys.readouterr().out
    assert f"train      {len(wanted)} rows of" in printed and view.about.sha256[:12] in printed


def test_streams_and_samples(dataset: Path, tmp_path: Path) -> None:
    keys = sorted(row.key for row in samples(dataset))
    by_stream = view_of(dataset, tmp_path, "--where", "name = 'coded'")
    assert selected(by_stream) == [(key, 1, -1) for key in keys]
    by_sample = view_of(dataset, tmp_path, "--where", "name = 'coded'", "--per", "sample")
    assert selected(by_sample) == [(key, -1, -1) for key in keys]


def test_a_weight_is_an_expression(dataset: Path, tmp_path: Path) -> None:
    weight = "CASE kind WHEN 'clip' THEN 2.5 ELSE 0 END"
    view = view_of(dataset, tmp_path, "--where", "true", "--per", "sample", "--weight", weight)
    clips = sorted(row.key for row in samples(dataset) if row.kind == "clip")
    assert view.keys == clips and view.weights == [2.5] * 3


def test_a_whole_statement(dataset: Path, tmp_path: Path) -> None:
    sql = (
        "WITH p AS (SELECT key, stream FROM frames WHERE frame_type = 'P') "
        "SELECT count(*) AS weight, key, stream FROM p GROUP BY ALL ORDER BY weight LIMIT 2"
    )
    view = view_of(dataset, tmp_path, "--sql", sql)
    counts: dict[tuple[str, int], int] = {}
    for frame in frames_of(dataset):
        if frame.frame_type is FrameType.P:
            counts[frame.key, frame.stream] = counts.get((frame.key, frame.stream), 0) + 1
    assert len(view.keys) == 2
    assert sorted(view.weights) == sorted(counts.values())[:2]


@pytest.mark.parametrize("table", ["samples", "streams", "frames", "sources", "plan"])
def test_every_table_is_there(dataset: Path, tmp_path: Path, table: str) -> None:
    sql = f"SELECT key FROM samples WHERE (SELECT count(*) FROM {table}) > 0"
    assert len(view_of(dataset, tmp_path, "--sql", sql).keys) == len(samples(dataset))


def test_the_same_hr_under_two_recipes(dataset: Path, other: Path, tmp_path: Path) -> None:
    condition = "hr_id IN (SELECT hr_id FROM twin.samples)"
    ours = view_of(
        dataset, tmp_path, "--with", f"twin={other}", "--where", condition, "--per", "sample"
    )
    theirs = view_of(
        other, tmp_path, "--with", f"twin={dataset}", "--where", condition, "--per", "sample"
    )
    hr_ids = [
        {row.hr_id for row in samples(folder) if row.key in view.keys}
        for folder, view in ((dataset, ours), (other, theirs))
    ]
    assert hr_ids[0] == hr_ids[1] and len(hr_ids[0]) == 3 < len(samples(dataset))
    assert len(ours.keys) == 3 and len(theirs.keys) == 6  # two variants
    assert ours.about.others == {"twin": read_manifest(other).sha256}


def test_samples_that_were_not_made_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    write_video(corpus / "flat.mp4", np.full((6, 72, 80, 3), 90, np.uint8))
    dataset = synthesize(corpus, tmp_path / "set")
    planned = list(rows(dataset, "samples", SampleRow))
    made = sorted(row.key for row in planned if row.status == "ok")
    assert (len(planned), len(made)) == (5, 4)
    view = view_of(dataset, tmp_path, "--sql", "SELECT key FROM samples")
    assert view.keys == made
    assert "1 selected sample could not be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "qp_men > 3"], '"qp_mean"'),
        (["--where", "rate > 3"], "streams: codec, encoder"),
        (["--where", "key = "], "syntax error"),
        (["--where", "shard = 'x'"], "Ambiguous reference"),
        (["--where", "false"], "selects nothing"),
        (["--where", "true", "--weight", "-1"], "weight of -1: a number from 0"),
        (["--where", "true", "--weight", "'x'"], "weight of 'x'"),
        (["--where", "true", "--weight", "qp_mean"], "more than once"),
        (["--where", "true", "--weight", "0"], "selects nothing"),
        (["--sql", "SELECT stream FROM streams"], "select key"),
        (["--sql", "SELECT key, name FROM streams"], "selects key, name"),
        (["--sql", "SELECT key, 7 AS stream FROM samples"], "from 0 to 1"),
        (["--sql", "SELECT key, 0.5 AS stream FROM samples"], "a whole number"),
        (["--sql", "SELECT key, 99 AS frame FROM samples"], "or -1 for any"),
        (["--sql", "SELECT 'nobody' AS key"], "selects key 'nobody'"),
        (["--sql", "SELECT key FROM frames"], "DISTINCT"),
        (["--sql", "DROP VIEW samples"], "not one SELECT"),
        (["--sql", "SELECT key FROM samples; SELECT 1"], "not one SELECT"),
        (["--sql", ""], "not one SELECT"),
        (["--where", "true", "--with", "twin"], "give NAME=DATASET"),
        (["--where", "true", "--with", "samples=x"], "a name of its own"),
        (["--where", "true", "--with", "twin=/none"], "has no manifest.json"),
    ],
)
def test_mistakes_are_one_message(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    output = tmp_path / "view.parquet"
    assert main([str(dataset), "--output", str(output), *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("pipelines.view: ") and message in told
    assert "Traceback" not in told and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "source",
    ["read_csv('{file}')", "'{file}'", "read_text('{file}')", "read_parquet('http://localhost/x')"],
)
def test_a_query_reads_nothing_but_the_tables(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("key\nhidden\n")
    sql = f"SELECT key FROM {source.format(file=secret)}"
    assert main([str(dataset), "--output", str(tmp_path / "view"), "--sql", sql]) == 2
    told = capsys.readouterr().err
    assert "hidden" not in told and not (tmp_path / "view").exists()


def test_damaged_tables_are_one_message(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    table = next(Layout(copy).table("frames", "any").parent.iterdir())
    command = [str(copy), "--output", str(tmp_path / "view"), "--where", "qp_mean > 0"]
    table.write_bytes(b"PAR1 nothing")
    assert main(command) == 2
    assert "missing or damaged" in capsys.readouterr().err
    table.unlink()
    assert main(command) == 2
    assert "missing or damaged" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_message(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "view"
    assert main([str(dataset), "--output", str(output), "--where", "true"]) == 2
    assert "choose another" in capsys.readouterr().err
