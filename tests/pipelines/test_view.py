"""The command that writes a view, on datasets that the whole pipeline made."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.audit.dataset import open_dataset
from pipelines.layout import Layout
from pipelines.view import main, run_query
from schemas.manifest import read_manifest
from schemas.sample import FrameRow, FrameType, SampleRow, StreamRow
from schemas.tables import arrow_schema, read_columns
from schemas.view import View, read_view
from tests.pipelines.small import changed, make_corpus, rows, samples, synthesize
from tests.synthetic import write_video


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
        (["--where", "true", "--weight", "qp_mean"], "equal in all of them, or --per frame"),
        (["--where", "true", "--weight", "0"], "selects nothing"),
        (["--sql", "SELECT stream FROM streams"], "select key"),
        (["--sql", "SELECT key, name FROM streams"], "selects key, name"),
        (["--sql", "SELECT key, 7 AS stream FROM samples"], "from 0 to 1"),
        (["--sql", "SELECT key, 0.5 AS stream FROM samples"], "a whole number"),
        (["--sql", "SELECT key, 99 AS frame FROM samples"], "or -1 for any"),
        (["--sql", "SELECT 'nobody' AS key"], "selects key 'nobody'"),
        (["--sql", "SELECT [key] AS key FROM samples"], "selects key ['"),
        (["--sql", "SELECT NULL AS key"], "selects key None"),
        (["--sql", "SELECT error('told') AS key"], "error()"),
        (["--sql", "SELECT key FROM frames"], "DISTINCT"),
        (["--sql", "DROP VIEW samples"], "not one SELECT"),
        (["--sql", "SELECT key FROM samples; SELECT 1"], "not one SELECT"),
        (["--sql", ""], "not one SELECT"),
        (["--where", "true", "--with", "twin"], "give NAME=DATASET"),
        (["--where", "true", "--with", "samples=x"], "a name of its own"),
        (["--where", "true", "--with", "main=x"], "a name of its own"),
        (["--where", "true", "--with", "pg_catalog=x"], "are taken"),
        (["--where", "random() < 0.5"], "has random(), and would give another view each time"),
        (["--where", "true", "--weight", "(SELECT epoch(NOW()))"], "has now()"),
        (["--sql", "SELECT key FROM samples USING SAMPLE 2"], "a sample without REPEATABLE"),
        (["--where", "true", "--with", "twin=/none"], "there is no folder"),
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


def test_a_damaged_page_is_one_message_that_names_the_file(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    command = [str(copy), "--output", str(tmp_path / "view"), "--sql"]
    for name, sql in {
        "samples": "SELECT key FROM streams",  # of samples, lengths alone are read
        "streams": "SELECT key FROM streams WHERE codec <> ''",
    }.items():
        *_, table = sorted(Layout(copy).table(name, "any").parent.iterdir())
        whole = table.read_bytes()
        told = ""
        for position in range(4, 400, 30):
            table.write_bytes(
                whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
            )
            if main([*command, sql]) == 2:
                told = capsys.readouterr().err
                break
        table.write_bytes(whole)
        assert f"{table} is missing or damaged" in told and "copy the dataset again" in told


@pytest.mark.parametrize("name", ["select", "order", "x_1"])
def test_other_datasets_may_have_any_name(dataset: Path, tmp_path: Path, name: str) -> None:
    condition = f'key IN (SELECT key FROM "{name}".samples)'
    view = view_of(dataset, tmp_path, "--with", f"{name}={dataset}", "--where", condition)
    assert set(view.keys) == {row.key for row in samples(dataset)}


def test_a_repeatable_sample_is_taken(dataset: Path, tmp_path: Path) -> None:
    sql = "SELECT key FROM samples USING SAMPLE reservoir(2 ROWS) REPEATABLE (7)"
    assert len(view_of(dataset, tmp_path, "--sql", sql).keys) == 2


def test_the_same_query_gives_the_same_rows(dataset: Path, tmp_path: Path) -> None:
    """Sums of floats and first rows depend on the order in which rows are taken."""
    opened = open_dataset(dataset)
    (shard, *_) = opened.manifest.shards
    columns = list(FrameRow.model_fields)
    few = read_columns(str(opened.layout.table("frames", shard.shard)), FrameRow, columns)
    number = 300_000
    rng = np.random.default_rng(0)
    many = few.take(rng.integers(len(few), size=number))
    shards = [shard.model_copy(update={"shard": f"train-{n:06d}"}) for n in range(6)]
    layout = Layout(tmp_path / "large")
    for record, table in ((SampleRow, "samples"), (StreamRow, "streams"), (FrameRow, "frames")):
        for described in shards:
            path = layout.table(table, described.shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(arrow_schema(record).empty_table(), path)
    for described in shards:
        values = {
            "qp_mean": rng.random(number) * 50,
            "display_index": rng.integers(99, size=number),
        }
        for name, array in values.items():
            many = many.set_column(columns.index(name), name, pa.array(array))
        pq.write_table(many, layout.table("frames", described.shard), row_group_size=20_000)
    for file in ("sources", "plan"):
        shutil.copy(dataset / "index" / f"{file}.parquet", layout.root / "index")
    large = opened._replace(
        layout=layout, manifest=opened.manifest.model_copy(update={"shards": shards})
    )
    query = (
        "SELECT key, any_value(stream) AS stream, first(display_index) AS frame, "
        "sum(qp_mean / 7) AS weight FROM frames GROUP BY key"
    )
    found = [run_query(large, {}, query) for _ in range(5)]
    assert all(rows == found[0] for rows in found) and len(found[0][1]) == len(
        {*few["key"].to_pylist()}
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_nothing_but_a_view_is_written_over(
    dataset: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(other)
    before = [contents(folder) for folder in (dataset, other, tmp_path)]
    table = sorted((other / "index" / "samples").iterdir())[0]
    for output, told in {
        dataset / "manifest.json": "lies in the dataset",
        dataset / "new" / "view": "lies in the dataset",
        other / "view": "lies in the dataset",
        tmp_path / "link" / "index" / "samples" / table.name: "lies in the dataset",
        tmp_path / "notes.txt": "is no view that this release wrote",
        tmp_path: f"is a folder: name a file, such as {tmp_path / 'view.parquet'}",
    }.items():
        command = [str(dataset), "--with", f"twin={other}", "--output", str(output)]
        assert main([*command, "--where", "true"]) == 2
        message = capsys.readouterr().err
        assert told in message and message.count("\n") == 1
    assert [contents(folder) for folder in (dataset, other, tmp_path)] == before


def test_a_view_is_replaced_by_another(dataset: Path, tmp_path: Path) -> None:
    first = view_of(dataset, tmp_path, "--where", "true", "--per", "sample")
    second = view_of(dataset, tmp_path, "--where", "name = 'coded'")
    assert first.about.sha256 != second.about.sha256
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["view"]


def test_a_failure_leaves_nothing_behind(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError("no space")

    (tmp_path / "view.part").write_text("somebody else's")
    monkeypatch.setattr("os.replace", refuse)
    assert main([str(dataset), "--output", str(tmp_path / "view"), "--where", "true"]) == 2
    assert contents(tmp_path) == {"view.part": b"somebody else's"}
    assert len(list(tmp_path.iterdir())) == 1


def test_an_output_that_cannot_be_written_is_one_message(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "view"
    assert main([str(dataset), "--output", str(output), "--where", "true"]) == 2
    assert "choose another" in capsys.readouterr().err
