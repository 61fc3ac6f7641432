"""Samples made again from stored draws: from sources, from stored HR, and what differs then."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.audit.compare import Verdict, all_members
from pipelines.audit.dataset import open_dataset
from pipelines.audit.environment import Host, differences, host_differences
from pipelines.audit.making import read_stored, remake
from pipelines.audit.material import RemakeTask, gather
from pipelines.audit.pixels import check_pixels
from pipelines.audit.remake import remake_and_compare
from pipelines.audit.report import Report
from pipelines.audit.reread import read_again
from pipelines.audit.sources import find_sources
from pipelines.corpus import discover
from pipelines.pool import WorkerPool, shared_pool
from schemas.draw import (
    CodecDraw,
    NoiseDraw,
    PadDraw,
    ResizeDraw,
    RetimeDraw,
    StageDraw,
    View,
)
from schemas.manifest import Environment
from schemas.record import Outcome
from schemas.sample import Sample, SampleKind, StreamRow
from schemas.shard import ShardWriter
from schemas.source import Source
from schemas.tables import read_table
from tests.pictures import moving_clip
from tests.pipelines.small import changed, make_corpus, samples, streams, synthesize
from transforms.decode import decode_hr
from transforms.degrade import MadeSample
from transforms.motion import read_blocks, write_blocks
from transforms.streams import split_at_last_codec
from transforms.tiles import pack_tiles

SHARPENED = (
    ("pre_downscale = 1", 'pre_downscale = 1\nsharpen = "target"'),
    ('packing = "patches"', 'packing = "camera"'),
)


@pytest.fixture(scope="module")
def pool() -> WorkerPool:
    return shared_pool(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_corpus(tmp_path_factory.mktemp("in") / "korpus ü")
    (folder / "folge").mkdir()
    for number, frame in enumerate(moving_clip(6, 70, 72, seed=9)):
        Image.fromarray(frame).save(folder / "folge" / f"im{number + 1}.png")
    return folder


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(corpus, tmp_path_factory.mktemp("out") / "plain")


@pytest.fixture(scope="module")
def sharpened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(corpus, tmp_path_factory.mktemp("out") / "sharp", changed(*SHARPENED))


def tasks_of(dataset: Path, pool: WorkerPool) -> list[RemakeTask]:
    found = samples(dataset)
    by_key: dict[str, list[StreamRow]] = {row.key: [] for row in found}
    for (key, _), stream in streams(dataset).items():
        by_key[key].append(stream)
    material = gather(open_dataset(dataset), list(by_key), [], pool)
    return [material.task(row, by_key[row.key]) for row in found]


@pytest.fixture(scope="module")
def tasks(dataset: Path, pool: WorkerPool) -> list[RemakeTask]:
    return tasks_of(dataset, pool)


def without_sources(task: RemakeTask) -> RemakeTask:
    work = dataclasses.replace(task.work, paths={})
    return dataclasses.replace(task, work=work, absent=["a.png is missing"])


def stored_of(task: RemakeTask) -> dict[str, bytes]:
    return dict(read_stored(task).members)


def made(outcome: MadeSample | Outcome) -> dict[str, bytes]:
    assert isinstance(outcome, MadeSample)
    return all_members(outcome)


def hr_of(members: dict[str, bytes]) -> np.ndarray:
    return decode_hr(Sample.model_validate_json(members["json"]), members["hr.zip"])


# Making again


def test_every_kind_of_sample_is_made_again_to_the_byte(
    tasks: Sequence[RemakeTask], sharpened: Path, pool: WorkerPool
) -> None:
    others = tasks_of(sharpened, pool)
    kinds = {task.row.kind for task in (*tasks, *others)}
    assert kinds == {SampleKind.CLIP, SampleKind.PSEUDO_VIDEO, SampleKind.CAMERA}
    for task in (*tasks, *others):
        assert made(remake(task, None)) == stored_of(task)


def test_nothing_is_drawn_anew(tasks: Sequence[RemakeTask]) -> None:
    # Another seed would draw other stages; those that are stored are carried out.
    task = tasks[0]
    other = dataclasses.replace(task, work=dataclasses.replace(task.work, seed=99))
    again, stored = made(remake(other, None)), stored_of(task)
    assert again.pop("json") != stored.pop("json")  # the seed is in the record
    assert again == stored


def test_without_its_source_a_sample_is_made_from_its_stored_hr(
    tasks: Sequence[RemakeTask],
) -> None:
    for task in map(without_sources, tasks):
        stored = stored_of(task)
        assert made(remake(task, hr_of(stored))) == stored


def test_a_sharpened_target_is_not_what_was_degraded(sharpened: Path, pool: WorkerPool) -> None:
    task = without_sources(tasks_of(sharpened, pool)[0])
    outcome = remake(task, hr_of(stored_of(task)))
    assert isinstance(outcome, Outcome) and outcome.reason == "unreadable"
    assert "a.png is missing" in outcome.detail and "sharpened" in outcome.detail


def test_without_source_and_without_pixels_nothing_is_made(tasks: Sequence[RemakeTask]) -> None:
    task = dataclasses.replace(without_sources(tasks[0]), tar="")
    _, comparison = remake_and_compare(task)
    assert (comparison.verdict, comparison.members) == (Verdict.DIFFERENT, {})
    assert comparison.reasons == ["unreadable: a.png is missing"]


# Comparing


def test_identical_bytes_need_no_reason(tasks: Sequence[RemakeTask]) -> None:
    for task in (tasks[0], dataclasses.replace(tasks[0], tar="")):
        _, comparison = remake_and_compare(task)
        assert comparison.verdict is Verdict.BYTES and not comparison.reasons
        assert set(comparison.members) == {
            "json",
            "hr.zip",
            "lr0.nut",
            "mv0.npy",
            "lr1.nut",
            "mv1.npy",
        }


def test_the_same_pixels_in_other_bytes_are_told_with_the_reason(
    tasks: Sequence[RemakeTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As another libwebp would: other files of the same pictures.
    def other_webp(frames: np.ndarray, _tile: int) -> Any:
        return pack_tiles(frames, 16)

    monkeypatch.setattr("transforms.degrade.pack_tiles", other_webp)
    libraries = tasks[0].environment.libraries | {"pillow": "0.1"}
    environment = Environment(libraries=libraries, encoders=tasks[0].environment.encoders)
    _, comparison = remake_and_compare(dataclasses.replace(tasks[0], environment=environment))
    assert comparison.verdict is Verdict.PIXELS
    assert comparison.members["hr.zip"] is Verdict.PIXELS
    assert comparison.members["lr1.nut"] is Verdict.BYTES
    told = " ".join(comparison.reasons)
    assert "pillow: made with 0.1, here " in told and "hr_tiles" in told


def other_rate(task: RemakeTask) -> RemakeTask:
    """A sample whose draw names another rate than it was made with, which no byte contradicts."""
    coded = task.draws[1]
    stages = [
        stage.model_copy(update={"rate_value": stage.rate_value + 4})
        if isinstance(stage, CodecDraw)
        else stage
        for stage in coded.stages
    ]
    draw = coded.model_copy(update={"stages": stages}).model_dump_json()
    row = task.streams[1].model_copy(update={"draw": draw})
    return dataclasses.replace(task, streams=[task.streams[0], row])


def test_other_pixels_without_a_known_reason_are_to_be_reported(
    tasks: Sequence[RemakeTask],
) -> None:
    for task in (other_rate(tasks[0]), dataclasses.replace(other_rate(tasks[0]), tar="")):
        _, comparison = remake_and_compare(task)
        assert comparison.verdict is Verdict.DIFFERENT
        assert comparison.members["lr0.nut"] is Verdict.BYTES
        assert comparison.members["lr1.nut"] is Verdict.DIFFERENT
        assert comparison.reasons[0] == "no known reason: please report it"


def test_another_cpu_is_a_reason(tasks: Sequence[RemakeTask]) -> None:
    task = other_rate(tasks[0])
    assert task.host.facts["cpu"]
    cpu = {**task.host.facts["cpu"], "model": "Z80", "features": ["mmx"]}
    host = Host({**task.host.facts, "cpu": cpu}, "")
    _, comparison = remake_and_compare(dataclasses.replace(task, host=host))
    assert any(line.startswith("cpu.model: made with Z80, here ") for line in comparison.reasons)


# Draws, plans and logs that cannot be


def redrawn(task: RemakeTask, **changes: Any) -> RemakeTask:
    """The sample with another scene draw."""
    draw = task.scene.model_copy(update=changes).model_dump_json()
    return dataclasses.replace(task, row=task.row.model_copy(update={"scene_draw": draw}))


def with_scene(task: RemakeTask, draw: str) -> RemakeTask:
    return dataclasses.replace(task, row=task.row.model_copy(update={"scene_draw": draw}))


def moved(task: RemakeTask, **changes: Any) -> RemakeTask:
    """The sample with its first frame cut out elsewhere."""
    first, *others = task.scene.origins
    return redrawn(task, origins=[first.model_copy(update=changes), *others])


def with_stage(task: RemakeTask, stage: StageDraw) -> RemakeTask:
    return redrawn(task, stages=[stage, *task.scene.stages])


IMPOSSIBLE: dict[str, Callable[[RemakeTask], RemakeTask]] = {
    "no draw": lambda task: with_scene(task, "{}"),
    "no draw: ": lambda task: with_scene(task, "[" * 5000),
    "is no source of the sample": lambda task: moved(task, source_id="f" * 64),
    "at row 100000": lambda task: moved(task, top=10**5),
    "at row -1": lambda task: moved(task, top=-1),
    "frame 1000 at": lambda task: moved(task, frame=1000),
    "size: drawn was (1000000, 64)": lambda task: redrawn(task, height=10**6),
    "origins: drawn was 40": lambda task: redrawn(task, origins=task.scene.origins * 10),
    "views: drawn was 1": lambda task: redrawn(task, views=[View(y=0, x=0, zoom=1, angle=0)]),
    "resize: 1000000x1000000 pixels": lambda task: with_stage(
        task, ResizeDraw(height=[10**6], width=[10**6], kernel="area")
    ),
    "pad: 0x64 pixels": lambda task: with_stage(task, PadDraw(top=0, left=0, height=0, width=64)),
    "retime: 100000 frames of 4": lambda task: with_stage(task, RetimeDraw(frames=[0] * 10**5)),
    "cannot be carried out: ": lambda task: with_stage(
        task, NoiseDraw(kind="gaussian", level=[], gray=[False], seed=-1)
    ),
    "streams: drawn was 1": lambda task: dataclasses.replace(task, streams=task.streams[:1]),
}


@pytest.mark.parametrize("told", IMPOSSIBLE)
def test_a_draw_that_cannot_be_is_a_finding(tasks: Sequence[RemakeTask], told: str) -> None:
    task = IMPOSSIBLE[told](tasks[0])
    (finding,) = check_pixels(task).findings
    assert finding.check in ("draw", "remade") and told in finding.detail
    assert (finding.key, finding.member) == (task.row.key, "json")
    for other in (task, without_sources(task), dataclasses.replace(task, tar="")):
        _, comparison = remake_and_compare(other)
        assert (comparison.verdict, comparison.members) == (Verdict.DIFFERENT, {})
        assert told in comparison.reasons[-1]


@pytest.mark.parametrize(
    "fields", [{"num_frames": 10**9}, {"hr_height": 10**7}, {"hr_width": -1}, {"hr_tiles": []}]
)
def test_a_record_of_another_size_takes_no_memory(
    tasks: Sequence[RemakeTask], tmp_path: Path, fields: dict[str, Any]
) -> None:
    members = stored_of(tasks[0])
    sample = Sample.model_validate_json(members["json"]).model_copy(update=fields)
    other = without_sources(forged(tasks[0], tmp_path, members, sample))
    (finding,) = check_pixels(other).findings
    assert finding.check in ("draw", "decoded")
    _, comparison = remake_and_compare(other)
    assert comparison.verdict is Verdict.DIFFERENT


def test_a_sample_of_no_plan_is_a_finding_of_its_own(
    dataset: Path, tasks: Sequence[RemakeTask], pool: WorkerPool
) -> None:
    row = tasks[0].row.model_copy(update={"key": "zzz-00000"})
    material = gather(open_dataset(dataset), [row.key, tasks[1].row.key], [], pool)
    (finding,) = check_pixels(material.task(row, tasks[0].streams)).findings
    assert (finding.check, finding.key) == ("planned", "zzz-00000")
    assert "plan.parquet lacks the sample" in finding.detail
    assert check_pixels(material.task(tasks[1].row, tasks[1].streams)) == ([], [])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"width": 10**6, "height": 10**6}, "1000000x1000000 pixels"),
        ({"num_frames": 0}, "has 0 frames"),
        ({"height": 10}, "has no patch 0"),
    ],
)
def test_sources_that_cannot_be_are_findings(
    dataset: Path,
    tasks: Sequence[RemakeTask],
    pool: WorkerPool,
    fields: dict[str, Any],
    told: str,
) -> None:
    task = tasks[0]
    material = gather(open_dataset(dataset), [task.row.key], [], pool)
    sources = {name: one.model_copy(update=fields) for name, one in material.sources.items()}
    other = material._replace(sources=sources).task(task.row, task.streams)
    (finding,) = check_pixels(other).findings
    assert finding.check == "planned" and told in finding.detail
    assert remake_and_compare(other)[1].verdict is Verdict.DIFFERENT


def test_damaged_logs_are_not_looked_at(dataset: Path, tmp_path: Path, pool: WorkerPool) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    logs = tmp_path / "copy" / "logs"
    (logs / "locations.parquet").write_bytes(b"junk")
    for file in (logs / "shards").iterdir():
        file.write_text("[" * 100_000)
    for task in tasks_of(tmp_path / "copy", pool):
        check = check_pixels(task)
        assert not check.findings and len(check.not_looked_at) > 1
        assert "logs/locations.parquet is missing or damaged" in check.not_looked_at[0]
        assert f"logs/shards/{task.row.shard}.json is damaged" in check.not_looked_at[-1]


def test_a_shards_log_is_read_once(
    dataset: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def host_of(_: object, shard: str) -> Host:
        read.append(shard)
        return Host({}, "")

    monkeypatch.setattr("pipelines.audit.material.host_of", host_of)
    assert {task.row.shard for task in tasks_of(dataset, pool)} == set(read)
    assert len(read) == len(set(read))


# Checking to the pixel


def test_whole_samples_pass(tasks: Sequence[RemakeTask]) -> None:
    for task in tasks:
        assert check_pixels(task) == ([], [])


def test_a_rate_that_no_bitstream_carries_is_proved_by_making_it_again(
    tasks: Sequence[RemakeTask],
) -> None:
    findings = check_pixels(other_rate(tasks[0])).findings
    assert {(f.check, f.member) for f in findings} >= {("remade", "lr1.nut"), ("remade", "json")}
    assert {f.key for f in findings} == {tasks[0].row.key}


def elsewhere(task: RemakeTask) -> RemakeTask:
    """The sample as if it was made with other libraries."""
    libraries = {**task.environment.libraries, "av": "0.1"}
    environment = Environment(libraries=libraries, encoders=task.environment.encoders)
    return dataclasses.replace(task, environment=environment)


def test_with_other_libraries_a_difference_proves_nothing_and_that_is_the_last_word(
    tasks: Sequence[RemakeTask],
) -> None:
    check = check_pixels(elsewhere(other_rate(tasks[0])))
    assert not check.findings
    (line,) = check.not_looked_at
    assert "lr1.nut" in line and "proves nothing: av: made with 0.1" in line
    report = Report(
        command="verify",
        dataset="",
        manifest_sha256="",
        settings={},
        looked_at={},
        not_looked_at=["another thing", line, line],
        findings=[],
    )
    last = report.describe().splitlines()[-1]
    assert "as it should be" not in last and "proved nothing of 2 samples: av: made with" in last
    assert report.exit_status == 0


def test_with_other_libraries_what_is_only_read_again_is_proved_all_the_same(
    tasks: Sequence[RemakeTask], tmp_path: Path
) -> None:
    for task in map(elsewhere, tasks):
        assert check_pixels(task) == ([], [])
        members = stored_of(task)
        sample = Sample.model_validate_json(members["json"])
        coded = sample.streams[1]
        assert read_again(
            coded, split_at_last_codec(task.draws[1].stages)[1], members["lr1.nut"]
        ) == (coded.frames, members["mv1.npy"])

    def found(members: dict[str, bytes], sample: Sample) -> set[tuple[str, str]]:
        check = check_pixels(forged(elsewhere(task), tmp_path, members, sample))
        assert all("made with 0.1" in line for line in check.not_looked_at)
        return {(finding.check, finding.member) for finding in check.findings}

    task = next(t for t in tasks if t.streams[1].motion_blocks)
    members = stored_of(task)
    sample = Sample.model_validate_json(members["json"])
    assert found(members, sample.model_copy(update={"fps": 99.0})) == {("remade", "json")}
    blocks = read_blocks(members["mv1.npy"]).copy()
    blocks["mv_x"] = 3000
    assert found({**members, "mv1.npy": write_blocks(blocks)}, sample) == {("reread", "mv1.npy")}
    first, *others = sample.streams[1].frames
    frames = [first.model_copy(update={"qp_mean": first.qp_mean + 1}), *others]
    coded = sample.streams[1].model_copy(update={"frames": frames})
    other = sample.model_copy(update={"streams": [sample.streams[0], coded]})
    assert found(members, other) == {("reread", "json")}
    hr = hr_of(members)
    hr[1, 5, 5, 0] ^= 1
    members["hr.zip"], tiles = pack_tiles(hr, task.work.recipe.hr.tile)
    other = sample.model_copy(update={"hr_tiles": tiles})
    assert found(members, other) == {("hr_source", "hr.zip")}


def test_members_that_were_read_already_are_not_read_again(tasks: Sequence[RemakeTask]) -> None:
    members = stored_of(tasks[0])
    task = dataclasses.replace(tasks[0], tar="/nowhere")
    assert check_pixels(task, members) == ([], [])
    assert {f.check for f in check_pixels(task).findings} == {"member"}


def test_without_its_source_hr_is_not_looked_at(
    tasks: Sequence[RemakeTask], sharpened: Path, pool: WorkerPool
) -> None:
    check = check_pixels(without_sources(tasks[0]))
    assert not check.findings
    assert check.not_looked_at == [f"{tasks[0].row.key}: HR against its source: a.png is missing"]
    check = check_pixels(without_sources(tasks_of(sharpened, pool)[0]))
    assert not check.findings and len(check.not_looked_at) == 2


@pytest.mark.parametrize("member", ["json", "hr.zip", "lr0.nut", "mv1.npy"])
def test_a_flipped_byte_is_found(tasks: Sequence[RemakeTask], tmp_path: Path, member: str) -> None:
    tar = bytearray(Path(tasks[0].tar).read_bytes())
    place = next(m for m in tasks[0].row.members if m.name == member)
    tar[place.offset + place.size // 2] ^= 1
    (tmp_path / "flipped.tar").write_bytes(tar)
    task = dataclasses.replace(tasks[0], tar=str(tmp_path / "flipped.tar"))
    (finding,) = check_pixels(task).findings
    assert finding.check == "member" and member in finding.detail
    _, comparison = remake_and_compare(task)
    assert comparison.verdict is Verdict.DIFFERENT and "damaged" in comparison.reasons[0]
    damaged = comparison.members.pop(member)
    assert (damaged, set(comparison.members.values())) == (Verdict.DIFFERENT, {Verdict.BYTES})


def forged(task: RemakeTask, folder: Path, members: dict[str, bytes], sample: Sample) -> RemakeTask:
    """The sample in a shard of its own, with checksums that fit."""
    with (folder / "forged.tar").open("wb") as file:
        others = {name: data for name, data in members.items() if name != "json"}
        writer = ShardWriter(file)
        places = writer.add(sample, others)
        writer.close()
    row = task.row.model_copy(update={"members": places})
    return dataclasses.replace(task, row=row, tar=str(folder / "forged.tar"))


def test_hr_that_is_not_its_source_is_found(tasks: Sequence[RemakeTask], tmp_path: Path) -> None:
    members = stored_of(tasks[0])
    sample = Sample.model_validate_json(members["json"])
    hr = hr_of(members)
    hr[1, 5, 5, 0] ^= 1
    members["hr.zip"], tiles = pack_tiles(hr, tasks[0].work.recipe.hr.tile)
    other = forged(tasks[0], tmp_path, members, sample.model_copy(update={"hr_tiles": tiles}))
    findings = {(f.check, f.member) for f in check_pixels(other).findings}
    assert ("hr_source", "hr.zip") in findings


def test_a_stream_of_other_pixels_is_found(tasks: Sequence[RemakeTask], tmp_path: Path) -> None:
    members = stored_of(tasks[0])
    sample = Sample.model_validate_json(members["json"])
    other = sample.streams[1].model_copy(update={"decoded_sha256": "0" * 64})
    sample = sample.model_copy(update={"streams": [sample.streams[0], other]})
    (finding,) = check_pixels(forged(tasks[0], tmp_path, members, sample)).findings
    assert (finding.check, finding.member) == ("decoded", "lr1.nut")


# Finding sources


def wanted(dataset: Path) -> list[Source]:
    return read_table(str(dataset / "index" / "sources.parquet"), Source)


def test_sources_are_found_by_content(
    dataset: Path, corpus: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    moved = tmp_path / "woanders"
    shutil.copytree(corpus, moved)
    (moved / "tief").mkdir()
    (moved / "photo-a.png").rename(moved / "tief" / "ganz anders.bin")
    (moved / "photo-b.png").rename(moved / "photo-a.png")  # another's name
    (moved / "folge").rename(moved / "clip")
    sources = wanted(dataset)
    found = find_sources(sources, discover([str(moved)]), pool)
    assert not found.absent and found.paths.keys() == {s.source_id for s in sources}
    names = {s.uris[0].split("/")[1]: found.paths[s.source_id] for s in sources}
    assert names["photo-a.png"] == [str(moved / "tief" / "ganz anders.bin")]
    assert names["folge"] == [str(moved / "clip" / f"im{n}.png") for n in range(1, 7)]


def test_changed_and_missing_sources_are_told_apart(
    dataset: Path, corpus: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    moved = tmp_path / "woanders"
    shutil.copytree(corpus, moved)
    data = bytearray((moved / "photo-a.png").read_bytes())
    data[-20] ^= 1
    (moved / "photo-a.png").write_bytes(data)
    (moved / "photo-b.png").unlink()
    (moved / "folge" / "im6.png").unlink()
    absent = find_sources(wanted(dataset), discover([str(moved)]), pool).absent
    told = sorted(line.split("(")[0].strip() for line in absent.values())
    assert told == [
        f"korpus ü/folge changed: {moved / 'folge' / 'im1.png'} is other content",
        f"korpus ü/photo-a.png changed: {moved / 'photo-a.png'} is other content",
        "korpus ü/photo-b.png is missing",
    ]


def test_differing_libraries_are_listed_with_their_cure() -> None:
    made_with = Environment(
        libraries={"av": "18.1.0", "libavcodec": "62.1", "pillow": "12.0"}, encoders={"h264": "165"}
    )
    here = Environment(
        libraries={"av": "18.1.0", "libavcodec": "62.3", "pillow": "11.0"}, encoders={"h264": "164"}
    )
    there = {str(d): d.cure for d in differences(made_with, here)}
    same_version = "pip install --force-reinstall --only-binary av av==18.1.0"
    assert there == {
        "libavcodec: made with 62.1, here 62.3": same_version,
        "pillow: made with 12.0, here 11.0": "pip install pillow==12.0",
        "h264: made with 165, here 164": same_version,
    }
    assert not differences(made_with, made_with)


def test_of_hosts_only_what_may_decide_bytes_is_compared() -> None:
    made_on = {"cpu": {"features": ["avx", "avx512f"], "cores": 4}, "system": "Linux 5"}
    here = {"cpu": {"features": ["avx", "amx"], "cores": 2}, "system": "Linux 6"}
    assert host_differences(made_on, here) == ["cpu.features: made with avx512f, here amx"]
    assert host_differences({}, here) == []
