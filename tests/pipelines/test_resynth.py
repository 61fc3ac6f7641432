"""`python -m pipelines.resynth`: samples made again by key, compared, and written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.publish import main as publish
from pipelines.resynth import main
from schemas.manifest import read_manifest
from schemas.record import Status
from schemas.sample import Sample, SampleRow
from schemas.shard import ShardWriter, iter_samples
from schemas.tables import read_table, write_table
from tests.pipelines.small import make_corpus, samples, synthesize
from transforms.decode import decode_hr
from transforms.tiles import pack_tiles


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("in") / "korpus ü")


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(corpus, tmp_path_factory.mktemp("out") / "klein ä")


@pytest.fixture(scope="module")
def published(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("published") / "klein"
    assert publish([str(dataset), f"--output={output}", "--workers=1"]) == 0
    return output


@pytest.fixture
def keys(dataset: Path) -> list[str]:
    return [row.key for row in samples(dataset)]


def stored(dataset: Path) -> dict[str, bytes]:
    """Members by their names in the tars."""
    found: dict[str, bytes] = {}
    for tar in sorted((dataset / "data").glob("*.tar")):
        with tar.open("rb") as file:
            for key, members in iter_samples(file):
                found |= {f"{key}.{name}": data for name, data in members.items()}
    return found


def run(*arguments: str | Path) -> int:
    return main([*map(str, arguments), "--workers=1"])


def test_samples_are_verified_and_written(
    dataset: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "neu ö", tmp_path / "report.json"
    arguments = ("--verify", "--output", output, "--json", report)
    assert run(dataset, *keys, keys[0], *arguments) == 0
    written = {file.name: file.read_bytes() for file in output.iterdir()}
    assert written == stored(dataset)
    told = capsys.readouterr().out
    assert all(f"{key}: identical bytes, from its source\n" in told for key in keys)
    fields = json.loads(report.read_bytes())
    assert [sample["key"] for sample in fields["samples"]] == keys
    assert fields["looked_at"] == {
        "samples": len(keys),
        "identical bytes": len(keys),
        "identical pixels": 0,
        "different": 0,
    }


def test_a_published_dataset_is_verified_by_its_tables(
    published: Path, corpus: Path, keys: list[str], tmp_path: Path, dataset: Path
) -> None:
    arguments = ("--verify", "--input", corpus, "--output", tmp_path / "out")
    assert run(published, keys[0], *arguments) == 0
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == stored(dataset)[file.name]


def test_a_published_dataset_without_its_sources_cannot_be_made(
    published: Path, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(published, keys[0], "--verify") == 1
    told = capsys.readouterr().out
    assert f"{keys[0]}: not made\n  unreadable: " in told and "is missing" in told


def test_a_changed_source_is_told(
    published: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus, tmp_path / "anders")
    for file in (tmp_path / "anders").iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    (row, *_) = samples(published)
    assert run(published, row.key, "--output", tmp_path / "o", "--input", tmp_path / "anders") == 1
    assert "changed: " in capsys.readouterr().out
    assert not (tmp_path / "o").exists()


def test_without_sources_the_stored_hr_serves_and_that_is_told(
    dataset: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "logs")
    assert run(tmp_path / "copy", keys[0], "--verify") == 0
    told = capsys.readouterr().out
    assert f"{keys[0]}: identical bytes, from its stored HR\n" in told
    assert f"not looked at: {keys[0]}: HR against its source: " in told


def test_a_damaged_member_is_different(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    row = samples(dataset)[-1]
    place = next(member for member in row.members if member.name == "lr1.nut")
    tar = tmp_path / "copy" / "data" / f"{row.shard}.tar"
    data = bytearray(tar.read_bytes())
    data[place.offset + 9] ^= 1
    tar.write_bytes(data)
    assert run(tmp_path / "copy", row.key, "--verify") == 1
    assert "the stored sample is damaged: lr1.nut" in capsys.readouterr().out


def test_a_damaged_record_leaves_the_other_members_to_be_compared(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    row = samples(dataset)[0]
    tar = tmp_path / "copy" / "data" / f"{row.shard}.tar"
    data = bytearray(tar.read_bytes())
    data[row.members[0].offset + 9] ^= 1
    tar.write_bytes(data)
    assert run(tmp_path / "copy", row.key, "--verify") == 1
    told = capsys.readouterr().out
    assert "  json: different\n  hr.zip: identical bytes\n" in told
    assert "the stored sample is damaged: json" in told
    shutil.rmtree(tmp_path / "copy" / "logs")  # the stored HR cannot be read without its record
    assert run(tmp_path / "copy", row.key, "--verify") == 1
    assert f"{row.key}: not made\n" in capsys.readouterr().out


def with_row(dataset: Path, folder: Path, **changes: Any) -> str:
    """Change the table's row of the first sample; returns its key."""
    shutil.copytree(dataset, folder)
    (table, *_) = sorted((folder / "index" / "samples").iterdir())
    (first, *others) = read_table(str(table), SampleRow)
    write_table(str(table), SampleRow, [first.model_copy(update=changes), *others])
    return first.key


@pytest.mark.parametrize("draw", ["{}", "[" * 5000, '{"height": 1e400}'])
def test_a_draw_that_is_none_is_told(
    dataset: Path, tmp_path: Path, draw: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = with_row(dataset, tmp_path / "copy", scene_draw=draw)
    assert run(tmp_path / "copy", key, "--verify") == 1
    assert f"{key}: not made\n  impossible: no draw: " in capsys.readouterr().out


def test_members_that_the_table_lacks_are_different(dataset: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("lr9.nut", "../../x")):
        members = [samples(dataset)[0].members[0].model_copy(update={"name": name})]
        key = with_row(dataset, tmp_path / f"{number}", members=members)
        assert run(tmp_path / f"{number}", key, "--verify") == 1
    key = with_row(dataset, tmp_path / "none", members=[])
    assert run(tmp_path / "none", key, "--verify") == 1


def test_a_table_of_more_rows_than_the_manifest_says_is_not_read(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    (table, *_) = sorted((tmp_path / "copy" / "index" / "samples").iterdir())
    found = read_table(str(table), SampleRow)
    write_table(str(table), SampleRow, found * 2)
    assert run(tmp_path / "copy", found[0].key, "--verify") == 2
    told = capsys.readouterr().err
    assert f"{2 * len(found)} rows, the manifest says {len(found)}" in told


def test_damaged_logs_are_told_and_decide_nothing(
    dataset: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    logs = tmp_path / "copy" / "logs"
    (logs / "locations.parquet").write_bytes(b"junk")
    for file in (logs / "shards").iterdir():
        file.write_text("[" * 100_000)
    assert run(tmp_path / "copy", keys[0], "--verify") == 0
    told = capsys.readouterr().out
    assert f"{keys[0]}: identical bytes, from its stored HR\n" in told
    assert (
        "where it lay is not known: " in told and "locations.parquet is missing or damaged" in told
    )


def retiled(dataset: Path, tile: int) -> None:
    """Store every HR frame in other tiles: other bytes of the same pixels."""
    for table in (dataset / "index" / "samples").iterdir():
        tar, rows = dataset / "data" / f"{table.stem}.tar", read_table(str(table), SampleRow)
        with tar.open("rb") as file:
            found = dict(iter_samples(file))
        with tar.open("wb") as file:
            writer, again = ShardWriter(file), []
            for row in rows:
                members = found[row.key]
                sample = Sample.model_validate_json(members.pop("json"))
                members["hr.zip"], tiles = pack_tiles(decode_hr(sample, members["hr.zip"]), tile)
                places = writer.add(sample.model_copy(update={"hr_tiles": tiles}), members)
                again.append(row.model_copy(update={"members": places}))
            writer.close()
        write_table(str(table), SampleRow, again)


def test_identical_pixels_are_no_failure_but_told(
    dataset: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    retiled(tmp_path / "copy", 16)
    assert run(tmp_path / "copy", keys[0], "--verify") == 0
    told = capsys.readouterr().out
    assert f"{keys[0]}: identical pixels, from its source\n" in told
    assert "  hr.zip: identical pixels\n" in told and "  lr1.nut: identical bytes\n" in told
    assert "no known reason: please report it" in told and "the record differs in hr_tiles" in told


def test_ctrl_c_ends_it_with_a_line(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.resynth.resynth", interrupt)
    assert run(dataset, "key", "--verify") == 130
    assert capsys.readouterr().err == "pipelines.resynth: interrupted\n"


def test_an_unknown_key_gets_those_like_it(
    dataset: Path, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, keys[0][:-1] + "7", "--verify") == 2
    assert keys[0] in capsys.readouterr().err
    assert run(dataset, "völlig anders", "--verify") == 2
    assert "see index/plan.parquet" in capsys.readouterr().err


def test_a_sample_that_was_left_out_cannot_be_made(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    (shard,) = read_manifest(dataset).shards
    table = tmp_path / "copy" / "index" / "samples" / f"{shard.shard}.parquet"
    (first, *others) = read_table(str(table), SampleRow)
    left_out = first.model_copy(update={"status": Status.FILTERED, "reason": "flat"})
    write_table(str(table), SampleRow, [left_out, *others])
    assert run(tmp_path / "copy", first.key, "--verify") == 2
    assert "was left out when the dataset was made (flat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--verify, --output FOLDER, or both"),
        (["--verify", "--input=nowhere"], "does not exist"),
        (["--verify", "--json=no/such/folder.json"], "cannot write the report"),
        (["--verify", "--json=."], "cannot write the report"),
        (["--output=/proc/nothing"], "choose another --output"),
    ],
)
def test_mistakes_are_told(
    dataset: Path,
    keys: list[str],
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(dataset, keys[0], *arguments) == 2
    assert told in capsys.readouterr().err


def test_nothing_is_made_for_a_report_that_cannot_be_written(
    dataset: Path, keys: list[str], tmp_path: Path
) -> None:
    report, output = tmp_path / "nowhere" / "report.json", tmp_path / "out"
    assert run(dataset, keys[0], "--output", output, "--json", report) == 2
    assert not output.exists()


def test_nothing_is_written_into_the_dataset(
    dataset: Path, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(dataset.rglob("*"))
    for output in (dataset, dataset / "data", dataset.parent):
        assert run(dataset, keys[0], "--output", output) == 2
        assert "lie in one another" in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before


def test_no_dataset_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "key", "--verify") == 2
    assert "manifest.json" in capsys.readouterr().err
    assert main([str(tmp_path), "key", "--verify", "--workers=0"]) == 2
