"""`python -m pipelines.verify`: a good dataset passes; whatever is changed in one is found."""

import io
import json
import math
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.audit.dataset import open_dataset
from pipelines.audit.report import Finding
from pipelines.finish import finish_dataset
from pipelines.job import library_versions
from pipelines.layout import Layout, publish_bytes
from pipelines.pool import Done, WorkerDied, WorkerPool, shared_pool
from pipelines.rows import rows_of
from pipelines.shards import describe_file
from pipelines.verify.__main__ import main
from pipelines.verify.names import name_problems
from pipelines.verify.run import is_sampled
from pipelines.verify.shard import ShardTask, check_shard, without_files
from pipelines.verify.structural import check_structure
from schemas.draw import NoiseDraw, SceneDraw, SharpenDraw, StreamDraw
from schemas.manifest import DatasetError, Shard, read_manifest
from schemas.plan import PlannedSample
from schemas.record import SCHEMA_VERSION, Record
from schemas.sample import FrameRow, FrameType, LrKind, Sample, SampleRow, StreamRow
from schemas.shard import ShardWriter, iter_samples
from schemas.tables import read_group, read_table, write_table
from tests.pipelines.small import changed, make_corpus, samples, synthesize
from transforms.tiles import pack_files, tile_places

RECIPE = changed(("validation_fraction = 0", "validation_fraction = 0\nshard_mib = 0.06"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify ü")
    made = synthesize(make_corpus(folder / "in"), folder / "dataset", RECIPE)
    assert len(read_manifest(made).shards) == 2
    return made


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


@pytest.fixture(scope="module")
def pool() -> WorkerPool:
    return shared_pool(1)


def files_of(dataset: Path) -> list[Path]:
    """All but the logs, in order."""
    found = sorted(file for file in dataset.rglob("*") if file.is_file())
    return [file for file in found if file.relative_to(dataset).parts[0] != "logs"]


def flipped(file: Path, position: int, bits: int = 1) -> bytes:
    data = bytearray(file.read_bytes())
    data[position] ^= bits
    return bytes(data)


def findings_of(dataset: Path, pool: WorkerPool) -> list[Finding]:
    return check_structure(dataset, pool).findings


def run(*arguments: str | Path) -> int:
    return main([*map(str, arguments), "--workers=1"])


# --- The command --------------------------------------------------------------------------------


def test_a_good_dataset_passes_every_grade(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for grade, looked_at in (
        ("structural", {"shards": 2, "samples": 4}),
        ("semantic", {"shards": 2, "samples": 4, "streams": 8, "frames": 44}),
        ("pixel", {"shards": 2, "samples": 4, "streams": 8, "frames": 44}),
    ):
        report = tmp_path / "report ü.json"
        assert run(dataset, "--grade", grade, "--json", report) == 0
        assert "all is as it should be" in capsys.readouterr().out
        told = json.loads(report.read_bytes())
        assert (told["looked_at"], told["findings"]) == (looked_at, [])
        assert told["not_looked_at"] == []
        assert told["settings"] == {"grade": grade, "sample_rate": "1"}


def test_the_pixel_grade_without_sources_says_what_it_could_not_compare(
    copy: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "logs")
    assert run(copy, "--grade=pixel") == 0
    assert "HR against its source: " in capsys.readouterr().out
    assert run(copy, "--grade=pixel", "--input", dataset.parent / "in") == 0
    assert "not looked at" not in capsys.readouterr().out


def test_a_share_of_the_samples_is_the_same_every_time(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, "--sample-rate=0") == 0
    assert "0 streams" in (out := capsys.readouterr().out)
    assert "4 samples beyond their structure" in out
    keys = [f"clip-{number}" for number in range(1000)]
    chosen = {key for key in keys if is_sampled(key, 0.3)}
    assert chosen < {key for key in keys if is_sampled(key, 0.4)}
    assert 250 < len(chosen) < 350
    assert all(is_sampled(key, 1) for key in keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample-rate=1.5"], "from 0 to 1"),
        (["--workers=0"], "1 or more"),
        (["--input=x"], "--grade pixel"),
        (["--grade=pixel", "--input=/no/such/place"], "/no/such/place"),
    ],
)
def test_mistakes_are_told(
    dataset: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(dataset), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_dataset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_another_release_s_dataset_is_refused_and_a_damaged_version_is_found(
    copy: Path, pool: WorkerPool, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    other = text.replace(f'"schema_version": "{SCHEMA_VERSION}"', '"schema_version": "2.0"')
    assert other != text
    manifest.write_text(other)
    (finding,) = findings_of(copy, pool)
    assert finding.path == "manifest.json" and "version" in finding.detail
    (copy / "index" / "plan.parquet").unlink()
    assert run(copy) == 2
    assert "synthesise the dataset again" in capsys.readouterr().err


def test_files_that_take_their_reader_down_are_findings(dataset: Path) -> None:
    class DeadlyPool:
        def map_ordered(self, function: object, tasks: Iterable[ShardTask]) -> Iterator[object]:
            return ((task, WorkerDied("worker_died", "SIGSEGV")) for task in tasks)

    pool: Any = DeadlyPool()
    structure = check_structure(dataset, pool)
    assert [(f.check, f.shard) for f in structure.findings] == [
        ("worker_died", "train-000000"),
        ("worker_died", "train-000001"),
    ]
    assert "SIGSEGV" in structure.findings[0].detail
    assert structure.readable_shards == []


def test_an_interrupted_run_says_so(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.verify.run.check_structure", interrupted)
    assert run(dataset) == 130
    assert "interrupted" in capsys.readouterr().err


# --- Every byte ---------------------------------------------------------------------------------


def test_a_flipped_byte_is_found_wherever_it_is(copy: Path, pool: WorkerPool) -> None:
    rng = random.Random(0)
    for file in files_of(copy):
        path, whole = file.relative_to(copy).as_posix(), file.read_bytes()
        # Parquet ends with its metadata, their size and a mark.
        places = {0, len(whole) - 1, len(whole) - 6}
        places |= {rng.randrange(len(whole)) for _ in range(2)}
        for position in sorted(places):
            file.write_bytes(flipped(file, position, 1 << rng.randrange(8)))
            found = findings_of(copy, pool)
            assert found, (path, position)
            if path != "manifest.json":  # of which any other file may tell
                assert path in {one.path for one in found}, (path, position, found)
            if path.startswith(("data/", "index/shards/", "index/samples/")):
                assert file.stem in {one.shard for one in found}, (path, position, found)
            file.write_bytes(whole)
    assert findings_of(copy, pool) == []


def test_a_flipped_byte_of_a_tar_names_sample_and_member(copy: Path) -> None:
    manifest = read_manifest(copy)
    for index, shard in enumerate(manifest.shards):
        tar = Layout(copy).tar(shard.shard)
        whole = tar.read_bytes()
        for position, key, member in _places(copy, shard):
            tar.write_bytes(whole)
            tar.write_bytes(flipped(tar, position))
            task = ShardTask(copy, without_files(manifest), shard, index, has_plan=True)
            every = check_shard(task).findings
            found = [one for one in every if one.check != "hash"]
            assert len(every) == 1 + len(found)
            assert [(one.shard, one.key, one.member) for one in found] == [
                (shard.shard, key, member)
            ], position
        tar.write_bytes(whole)


def _places(dataset: Path, shard: Shard) -> Iterator[tuple[int, str, str]]:
    """Position, sample and member of bytes of all kinds."""
    rows = read_table(str(Layout(dataset).table("samples", shard.shard)), SampleRow)
    end = 0
    for row in rows:
        for member in row.members:
            end = -(-(member.offset + member.size) // 512) * 512
            yield member.offset - 512, row.key, f"{member.name} header"
            yield member.offset - 1, row.key, f"{member.name} header"
            yield member.offset, row.key, member.name
            yield member.offset + member.size - 1, row.key, member.name
            if end > member.offset + member.size:
                yield end - 1, row.key, f"{member.name} padding"
    yield end, "", "end of archive"
    yield shard.files[0].size - 1, "", "end of archive"


def test_what_the_manifest_says_of_the_run_is_protected(copy: Path, pool: WorkerPool) -> None:
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    libraries = read_manifest(copy).environment.libraries
    for old, new, check in (
        (f'"numpy": "{libraries["numpy"]}"', '"numpy": "0.1"', "plan_sha256"),
        ('"seed": 0', '"seed": 1', "plan_sha256"),
        ('"validation_fraction": 0.0', '"validation_fraction": 0.5', "plan_sha256"),
        ('"train": 4', '"train": 5', "manifest"),
        ('"scale": 4,\n "streams"', '"scale": 2,\n "streams"', "manifest"),
        ('"name": "small",\n "recipe_sha256"', '"name": "other",\n "recipe_sha256"', "manifest"),
        ("\n}", "\n }", "manifest"),
        ("{", "[", "manifest"),
    ):
        assert old in text
        manifest.write_text(text.replace(old, new, 1))
        found = findings_of(copy, pool)
        assert (check, "manifest.json") in {(one.check, one.path) for one in found}, (old, found)


def test_where_file_and_marker_agree_the_manifest_is_at_fault(copy: Path, pool: WorkerPool) -> None:
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    for file in read_manifest(copy).shards[0].files:
        manifest.write_text(text.replace(file.sha256, file.sha256[::-1]))
        found = findings_of(copy, pool)
        # The tables of shards and Croissant repeat the hash, and disagree, too.
        repeating = {"index/shards.parquet", "croissant.json"}
        assert {one.path for one in found} - repeating == {"manifest.json"}
        assert file.path in found[0].detail and found[0].shard == "train-000000"


@pytest.mark.long
def test_every_flipped_byte_of_every_path_in_the_manifest_is_found(copy: Path) -> None:
    manifest, layout = copy / "manifest.json", Layout(copy)
    whole = manifest.read_bytes()
    quoted = [match.span(1) for match in re.finditer(rb'"(?:path|shard)": "([^"]*)"', whole)]
    assert len(quoted) == 2 * 5 + 3 + 3
    for position in (place for start, end in quoted for place in range(start, end)):
        for bit in range(8):
            manifest.write_bytes(
                whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :]
            )
            try:
                read = read_manifest(copy)
            except DatasetError:
                continue
            assert list(name_problems(layout, read)), (position, bit)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"path": "README.md"', '"path": "../secret"'),
        ('"path": "README.md"', '"path": "a\\u0000b"'),
        ('"path": "README.md"', f'"path": "{"a" * 5000}"'),
        ('"path": "data/train-000000.tar"', '"path": "data/train-000000.tas"'),
        ('"path": "data/train-000000.tar"', '"path": "/etc/passwd"'),
        ('"path": "data/train-000000.tar"', '"path": "index/samples/train-000000.parquet"'),
        ('"path": "index/plan.parquet"', '"path": "index/plan"'),
        ('"shard": "train-000000"', '"shard": "../train-000000"'),
        ('"shard": "train-000000"', '"shard": "train-000001"'),
        ('"shard": "train-000000"', f'"shard": "{"a" * 300}"'),
    ],
)
def test_names_and_sizes_that_cannot_be_are_not_used(
    copy: Path, pool: WorkerPool, old: str, new: str
) -> None:
    (copy.parent / "secret").write_text("x")
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))
    structure = check_structure(copy, pool)
    found = structure.findings
    assert ("manifest", "manifest.json") in {(one.check, one.path) for one in found}
    # The other is looked at all the same, unless the first took its name.
    assert structure.looked_at["shards"] >= 1
    assert ("train-000001" in structure.readable_shards) == ("train-000001" not in new)
    assert not any("secret" in one.path or "passwd" in one.path for one in found)
    assert any("its names" in line for line in structure.not_looked_at)


def test_a_shard_that_lists_a_file_more_or_one_twice_is_found(copy: Path, pool: WorkerPool) -> None:
    manifest = copy / "manifest.json"
    whole = read_manifest(copy)
    shard = whole.shards[0]
    strange = shard.files[0].model_copy(update={"path": "data/not-there.tar"})
    negative = shard.files[0].model_copy(update={"size": -1})
    for files in (
        [*shard.files, shard.files[1]],
        [*shard.files, strange],
        [negative, *shard.files[1:]],
        shard.files[1:],
    ):
        changed_shard = shard.model_copy(update={"files": files})
        shards = [changed_shard, *whole.shards[1:]]
        manifest.write_bytes(whole.model_copy(update={"shards": shards}).data)
        assert ("manifest", "manifest.json") in {
            (one.check, one.path) for one in findings_of(copy, pool)
        }


@pytest.mark.parametrize(
    "data", ["[" * 100_000, '{"a":' * 100_000, '{"seed": ' + "1" * 5000 + "}", "\0", ""]
)
def test_a_manifest_that_no_parser_takes_is_a_finding(
    copy: Path, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    (copy / "manifest.json").write_text(data)
    assert run(copy, "--grade=structural") == 1
    assert "manifest: manifest.json: not readable" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    [
        "manifest.json",
        "README.md",
        "index/plan.parquet",
        "data/train-000000.tar",
        "index/samples/train-000000.parquet",
        "index/shards/train-000000.json",
    ],
)
def test_a_file_whose_reading_fails_is_a_finding(copy: Path, path: str) -> None:
    failing = Path("/proc/self/mem")  # its first byte cannot be read
    if not failing.exists():
        pytest.skip("takes Linux")
    (copy / path).unlink()
    (copy / path).symlink_to(failing)
    report = copy.parent / "report.json"
    assert run(copy, "--json", report) == 1
    found = [Finding.model_validate(one) for one in json.loads(report.read_bytes())["findings"]]
    assert {"unreadable", "missing", "manifest"} & {one.check for one in found if one.path == path}


def test_links_and_folders_of_no_one_are_found(copy: Path, pool: WorkerPool) -> None:
    outside = copy.parent / "outside"
    outside.mkdir()
    (copy / "data" / "more").symlink_to(outside)
    (copy / "empty").mkdir()
    (copy / "logs" / "more").mkdir()
    (copy / os.fsdecode(b"\xff")).mkdir()
    tar = copy / "data" / "train-000000.tar"
    tar.rename(outside / "x.tar")
    tar.symlink_to(outside / "x.tar")
    assert [(one.check, one.path) for one in findings_of(copy, pool)] == [
        ("extra", "empty"),
        ("extra", "\\xff"),
        ("extra", "data/more"),
        ("link", "data/train-000000.tar"),
    ]


def test_a_damaged_table_does_not_hide_what_is_wrong_with_the_tar(
    copy: Path, pool: WorkerPool
) -> None:
    layout = Layout(copy)
    row = read_table(str(layout.table("samples", "train-000000")), SampleRow)[0]
    tar, frames = layout.tar("train-000000"), layout.table("frames", "train-000000")
    tar.write_bytes(flipped(tar, row.members[2].offset))
    frames.write_bytes(flipped(frames, 100))
    structure = check_structure(copy, pool)
    assert ("tar_data", row.key, "lr0.nut") in {
        (one.check, one.key, one.member) for one in structure.findings
    }
    assert any(line.startswith("train-000000: ") for line in structure.not_looked_at)
    assert structure.readable_shards == ["train-000001"]


def test_what_is_told_of_a_shard_does_not_grow_with_their_number(
    dataset: Path, pool: WorkerPool
) -> None:
    tasks: list[ShardTask] = []

    class Listening:
        def map_ordered(
            self, function: Callable[[ShardTask], object], asked: Iterable[ShardTask]
        ) -> Iterator[object]:
            for task in asked:
                tasks.append(task)
                yield task, Done(function(task))

        def run(self, function: Callable[[object], object], task: object) -> object:
            return Done(function(task))

    listening: Any = Listening()
    assert check_structure(dataset, listening).findings == []
    assert [len(task.manifest.shards) for task in tasks] == [0, 0]


def test_files_that_are_missing_cut_short_or_too_many_are_found(
    copy: Path, pool: WorkerPool
) -> None:
    for file in files_of(copy):
        path, whole = file.relative_to(copy).as_posix(), file.read_bytes()
        if path != "manifest.json":
            file.unlink()
            assert "missing" in {one.check for one in findings_of(copy, pool) if one.path == path}
        for data in (whole[: len(whole) // 2], whole + b"\0"):
            file.write_bytes(data)
            found = findings_of(copy, pool)
            assert path in {one.path for one in found}, (path, len(data))
        file.write_bytes(whole)
    (copy / "data" / "more.tar").write_bytes(b"")
    (copy / ".staging").mkdir()
    (copy / ".staging" / "left").write_bytes(b"")
    (finding,) = findings_of(copy, pool)
    assert (finding.check, finding.path) == ("extra", "data/more.tar")


def test_members_that_changed_places_are_found(copy: Path, pool: WorkerPool) -> None:
    shard = read_manifest(copy).shards[0]
    rows = read_table(str(Layout(copy).table("samples", shard.shard)), SampleRow)
    one, two = rows[0].members[2], rows[0].members[4]
    assert (one.name, two.name) == ("lr0.nut", "lr1.nut")
    tar = Layout(copy).tar(shard.shard)
    data = bytearray(tar.read_bytes())
    parts = [slice(m.offset + m.size - 64, m.offset + m.size) for m in (one, two)]
    data[parts[0]], data[parts[1]] = data[parts[1]], data[parts[0]]
    tar.write_bytes(data)
    found = {(f.key, f.member) for f in findings_of(copy, pool) if f.check == "tar_data"}
    assert found == {(rows[0].key, "lr0.nut"), (rows[0].key, "lr1.nut")}


# --- Every record -------------------------------------------------------------------------------

Change = Callable[[Sample], Sample]
Members = dict[str, bytes]


def rewrite(
    dataset: Path,
    change: Change = lambda sample: sample,
    *,
    repack: Callable[[Sample, Members], tuple[Sample, Members]] = lambda *both: both,
    change_row: Callable[[SampleRow], SampleRow] = lambda row: row,
    only_json: bool = False,
) -> None:
    """Change records, and write everything anew so that all hashes fit.

    Args:
        dataset: to be changed.
        change: of the record of each sample.
        repack: of the record and all other members of each sample.
        change_row: of the table, after the sample was written.
        only_json: leave the tables as they were.
    """
    opened = open_dataset(dataset)
    layout, shards = opened.layout, []
    for index, shard in enumerate(opened.manifest.shards):
        planned = read_group(str(layout.plan), PlannedSample, index)
        tables: dict[str, list[Record]] = {"samples": [], "streams": [], "frames": []}
        with layout.tar(shard.shard).open("rb") as file:
            stored = list(iter_samples(file))
        with layout.tar(shard.shard).open("wb") as file:
            writer = ShardWriter(file)
            for number, (_, members) in enumerate(stored):
                before = Sample.model_validate_json(members.pop("json"))
                after, repacked = repack(change(before), members)
                places = writer.add(after, repacked)
                rows = rows_of(before if only_json else after, planned[number], number, places)
                tables["samples"].append(change_row(rows.sample))
                tables["streams"] += rows.streams
                tables["frames"] += rows.frames
            writer.close()
        types: dict[str, type[Record]]
        types = {"samples": SampleRow, "streams": StreamRow, "frames": FrameRow}
        for table, found in tables.items():
            write_table(str(layout.table(table, shard.shard)), types[table], found)
        files = [describe_file(dataset / f.path, f.path, f.rows) for f in shard.files]
        shards.append(shard.model_copy(update={"files": files}))
        marker = shards[-1].model_dump_json().encode()
        publish_bytes(marker, layout.marker(shard.shard), layout)
    finish_dataset(opened.job(dataset, 1), shards)


def with_stream(sample: Sample, index: int, **changes: object) -> Sample:
    streams = list(sample.streams)
    streams[index] = streams[index].model_copy(update=changes)
    return sample.model_copy(update={"streams": streams})


def with_frame(sample: Sample, **changes: object) -> Sample:
    """Of the coded stream's second frame."""
    frames = list(sample.streams[1].frames)
    frames[1] = frames[1].model_copy(update=changes)
    return with_stream(sample, 1, frames=frames)


def with_tile(sample: Sample, **changes: object) -> Sample:
    tiles = [sample.hr_tiles[0].model_copy(update=changes), *sample.hr_tiles[1:]]
    return sample.model_copy(update={"hr_tiles": tiles})


def drawn_otherwise(sample: Sample) -> Sample:
    """The noise of the first stream is stronger, and its record says so everywhere."""
    scene = SceneDraw.model_validate_json(sample.scene_draw)
    draw = StreamDraw.model_validate_json(sample.streams[0].draw)
    stages = [draw.stages[0].model_copy(update={"level": [99.0]}), *draw.stages[1:]]
    other = draw.model_copy(update={"stages": stages})
    return with_stream(sample, 0, draw=other.model_dump_json(), draw_id=other.draw_id(scene.stages))


def moved(sample: Sample) -> Sample:
    """Cut out elsewhere, and all records say so."""
    scene = SceneDraw.model_validate_json(sample.scene_draw)
    origins = [o.model_copy(update={"top": 0 if o.top else 1}) for o in scene.origins]
    other = scene.model_copy(update={"origins": origins})
    return sample.model_copy(
        update={"scene_draw": other.model_dump_json(), "hr_id": other.hr_id, "origins": origins}
    )


FADED = SharpenDraw(amount=[0.0], sigma=1, threshold=0)
WRONG: dict[str, Change] = {
    "frame_type": lambda s: with_frame(
        s,
        frame_type=FrameType.P if s.streams[1].frames[1].frame_type is FrameType.B else FrameType.B,
    ),
    "qp_mean": lambda s: with_frame(s, qp_mean=s.streams[1].frames[1].qp_mean + 1),
    "key_frame": lambda s: with_frame(s, key_frame=not s.streams[1].frames[1].key_frame),
    "rate": lambda s: with_stream(s, 1, rate_value=s.streams[1].rate_value + 1),
    "preset": lambda s: with_stream(s, 1, preset="slow"),
    "post_steps": lambda s: with_stream(s, 1, post_steps=[*s.streams[1].post_steps, FADED]),
    "draw_id": lambda s: with_stream(s, 0, draw_id=s.streams[1].draw_id),
    "draw": lambda s: with_stream(s, 0, draw="{}"),
    "read_matrix": lambda s: with_stream(s, 1, read_matrix="bt601"),
    "lr_kind": lambda s: with_stream(s, 1, lr_kind=LrKind.LOSSLESS),
    "motion_blocks": lambda s: with_stream(s, 1, motion_blocks=s.streams[1].motion_blocks + 1),
    "hr_id": lambda s: s.model_copy(update={"hr_id": "0" * 64}),
    "hr_size": lambda s: s.model_copy(update={"hr_height": s.hr_height + 8}),
    "origins": lambda s: s.model_copy(
        update={"origins": [o.model_copy(update={"top": o.top + 1}) for o in s.origins]}
    ),
    "hr_tiles": lambda s: with_tile(s, left=1),
    "drawn": drawn_otherwise,
    "scene_draw": lambda s: s.model_copy(update={"scene_draw": s.scene_draw + " "}),
    "fps": lambda s: s.model_copy(update={"fps": 99.0}),
    "qp_from": lambda s: with_stream(s, 1, qp_from="encoder"),
    "color_range": lambda s: with_stream(s, 0, color_range="tv"),
}


@pytest.mark.parametrize("checks", [list(WRONG)[i : i + 4] for i in range(0, len(WRONG), 4)])
def test_wrong_records_whose_hashes_fit_are_found_by_their_bitstreams_or_draws(
    copy: Path, checks: list[str], tmp_path: Path
) -> None:
    keys = [row.key for row in samples(copy)]
    wanted = dict(zip(keys, checks, strict=False))  # a sample has one fault at most
    rewrite(copy, lambda s: WRONG[wanted[s.key]](s) if s.key in wanted else s)
    assert run(copy, "--grade=structural") == 0
    report = tmp_path / "report.json"
    assert run(copy, "--json", report) == 1
    found = [Finding.model_validate(one) for one in json.loads(report.read_bytes())["findings"]]
    for key, check in wanted.items():
        assert check in {one.check for one in found if one.key == key}, found
    for one in found:
        assert one.key in wanted and one.member and one.path == f"data/{one.shard}.tar"


def test_a_draw_that_plan_and_seed_do_not_give_is_found_unless_numpy_is_another(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(copy, moved)
    assert run(copy) == 1
    assert "4 drawn" in capsys.readouterr().out
    others = {**library_versions(), "numpy": "0.1", "libavformat": "0.1.2"}
    monkeypatch.setattr("pipelines.verify.run.library_versions", lambda: others)
    assert run(copy) == 0
    told = capsys.readouterr().out
    assert "whether recipe and seed give the stored draws: made with numpy" in told
    assert "bytes of containers outside packets: made with libavformat" in told


def test_last_digits_of_a_draw_are_those_of_the_machine(copy: Path) -> None:
    def nudged(sample: Sample) -> Sample:
        scene = SceneDraw.model_validate_json(sample.scene_draw)
        draw = StreamDraw.model_validate_json(sample.streams[0].draw)
        noise = draw.stages[0]
        assert isinstance(noise, NoiseDraw)
        levels = [math.nextafter(level, 99) for level in noise.level]
        stage = noise.model_copy(update={"level": levels})
        other = draw.model_copy(update={"stages": [stage]})
        assert other != draw
        named = other.draw_id(scene.stages)
        return with_stream(sample, 0, draw=other.model_dump_json(), draw_id=named)

    rewrite(copy, nudged)
    assert run(copy) == 0


def test_pixels_of_a_sample_that_is_wrong_already_are_not_looked_at(
    copy: Path, tmp_path: Path
) -> None:
    first = samples(copy)[0].key
    rewrite(copy, lambda s: s.model_copy(update={"num_frames": 10**9}) if s.key == first else s)
    report = tmp_path / "report.json"
    assert run(copy, "--grade=pixel", "--json", report) == 1
    told = json.loads(report.read_bytes())
    assert {one["key"] for one in told["findings"]} == {first}
    assert [line for line in told["not_looked_at"] if first in line and "pixels" in line]


def zip_with(change: Callable[[zipfile.ZipFile], None]) -> Callable[[bytes], bytes]:
    def repacked(member: bytes) -> bytes:
        buffer = io.BytesIO(member)
        with zipfile.ZipFile(buffer, "a") as archive:
            change(archive)
        return buffer.getvalue()

    return repacked


def comment(archive: zipfile.ZipFile) -> None:
    archive.comment = b"more"


DIRECTORY = b"PK\x01\x02\x14\x03\x14\0"  # an entry, up to its flags
HOSTILE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "comment": ("hr.zip", zip_with(comment), "hr_zip"),
    "deflated": ("hr.zip", zip_with(lambda a: a.writestr("x", bytes(99), 8)), "hr_zip"),
    "encrypted": ("hr.zip", lambda m: m.replace(DIRECTORY + b"\0", DIRECTORY + b"\1"), "hr_zip"),
    "empty zip": ("hr.zip", lambda _: b"", "hr_tiles"),
    "more after it": ("hr.zip", lambda m: m + b"more", "hr_zip"),
    "more after the stream": ("lr1.nut", lambda m: m + bytes(99), "container"),
    "no stream": ("lr1.nut", lambda _: b"", "stream"),
    "a giant array": (
        "mv1.npy",
        lambda m: m.replace(b"'shape': (", b"'shape': (999999999999")[:128] + m[128:],
        "motion",
    ),
}


@pytest.mark.parametrize("names", [list(HOSTILE)[:4], list(HOSTILE)[4:]])
def test_members_that_hold_anything_else_are_found(
    copy: Path, tmp_path: Path, names: list[str]
) -> None:
    wanted = dict(zip((row.key for row in samples(copy)), names, strict=True))

    def repack(sample: Sample, members: Members) -> tuple[Sample, Members]:
        name, change, _ = HOSTILE[wanted[sample.key]]
        assert members[name] != change(members[name])
        return sample, {**members, name: change(members[name])}

    rewrite(copy, repack=repack)
    report = tmp_path / "report.json"
    assert run(copy, "--json", report) == 1
    found = {(one["key"], one["check"], one["member"]) for one in _findings(report)}
    for key, what in wanted.items():
        name, _, check = HOSTILE[what]
        assert (key, check, name) in found, (what, found)


def _findings(report: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(report.read_bytes())["findings"]
    return found


def test_tiles_of_another_size_than_the_record_says_are_found_and_not_decoded(copy: Path) -> None:
    for side in (1, 16_000):
        big = io.BytesIO()
        Image.new("RGB", (side, side)).save(big, "WEBP", lossless=True, quality=0, method=0)

        def repack(
            sample: Sample, _: Members, tile: bytes = big.getvalue()
        ) -> tuple[Sample, Members]:
            size = (sample.num_frames, sample.hr_height, sample.hr_width)
            member, tiles = pack_files((place, tile) for place in tile_places(*size, 512))
            return sample.model_copy(update={"hr_tiles": tiles}), {**_, "hr.zip": member}

        rewrite(copy, repack=repack)
        report = copy.parent / "report.json"
        assert run(copy, "--json", report) == 1
        found = _findings(report)
        assert {one["check"] for one in found} == {"hr_tiles"} and len(found) == 4
        assert f"{side} x {side}, should be 64 x 64" in found[0]["detail"]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -5},
        {"size": 10**11},
        {"size": 2**62},
        {"offset": -1},
        {"name": "lr9.nut"},
        {"name": "a" * 200},
    ],
)
def test_ranges_that_cannot_be_are_found(copy: Path, changes: dict[str, object]) -> None:
    first = samples(copy)[0].key

    def change(row: SampleRow) -> SampleRow:
        members = list(row.members)
        members[2] = members[2].model_copy(update=changes)
        return row.model_copy(update={"members": members}) if row.key == first else row

    rewrite(copy, change_row=change)
    report = copy.parent / "report.json"
    assert run(copy, "--json", report) == 1
    assert first in {one["key"] for one in _findings(report)}


@pytest.mark.parametrize("key", ["../../x", "a" * 200, "A", "a\0"])
def test_keys_that_cannot_be_are_found(copy: Path, pool: WorkerPool, key: str) -> None:
    first = samples(copy)[0].key
    update = {"key": key}
    rewrite(copy, change_row=lambda r: r.model_copy(update=update) if r.key == first else r)
    found = findings_of(copy, pool)
    assert ("index", key) in {(one.check, one.key) for one in found}


def test_a_report_that_cannot_be_written_is_told_before_any_work(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, "--json", tmp_path / "no" / "report.json") == 2
    said = capsys.readouterr()
    assert "cannot write the report" in said.err and "checking" not in said.err
    assert said.out == ""


def test_rewriting_without_a_change_is_no_damage(copy: Path) -> None:
    before = {file: file.read_bytes() for file in files_of(copy)}
    rewrite(copy, lambda sample: sample)
    assert before == {file: file.read_bytes() for file in files_of(copy)}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda s: with_frame(s, qp_mean=1.5), "rows"),
        (lambda s: s.model_copy(update={"seed": 7}), "record"),
        (lambda s: s.model_copy(update={"licence": "CC0-1.0"}), "rows"),
    ],
)
def test_tables_that_are_not_the_records_are_found(
    copy: Path, pool: WorkerPool, change: Change, check: str
) -> None:
    rewrite(copy, change, only_json=True)
    found = findings_of(copy, pool)
    assert check in {one.check for one in found}
    assert all(one.key and one.shard for one in found)


def test_records_that_are_not_as_planned_are_found(copy: Path, pool: WorkerPool) -> None:
    rewrite(copy, lambda s: s.model_copy(update={"licence": "CC0-1.0"}))
    assert {one.check for one in findings_of(copy, pool)} == {"planned"}
