"""The whole command, from files to a dataset."""

import gc
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import webdataset
from PIL import Image

from pipelines.demo import demo_inputs
from pipelines.layout import Layout
from pipelines.synthesize.__main__ import main
from schemas.manifest import Manifest, read_manifest
from schemas.sample import FrameType, Sample, SampleKind, SampleRow, member_names
from schemas.shard import iter_samples, read_member
from schemas.source import Source
from schemas.tables import read_table
from tests.pictures import moving_clip, texture
from tests.pipelines import accidents
from tests.synthetic import write_video
from transforms.decode import decode_hr, decode_lr
from transforms.pixels import to_float, to_uint8
from transforms.resize import resize

ROOT = Path(__file__).parents[2]
RECIPE = """
name = "tiny"
validation_fraction = 0.4
shard_mib = 0.3
[hr]
patch_height = 64
patch_width = 64
tile = 32
[clips]
frames = 8
min_frames = 4
patches = 2
[pseudo_video]
frames = 5
patches_per_image = 3
[[shared]]
op = "downscale"
kernels = ["bd"]
[[streams]]
name = "clean"
[[streams]]
name = "coded"
[[streams.stages]]
op = "noise"
sigma = 2
kinds = { gaussian = 1 }
[[streams.stages]]
op = "codec"
[[streams.stages.encoders]]
codec = "h264"
crf = { min = 20, max = 30 }
presets = { veryfast = 1 }
[[streams.stages.encoders]]
codec = "mpeg2video"
qscale = { min = 2, max = 12, step = 1 }
gop_frames = 12
b_frames = 0
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media") / "korpus ü"
    folder.mkdir()
    write_video(folder / "pan.mp4", moving_clip(20, 96, 160, (1, 2), seed=1))
    write_video(folder / "deadly.mp4", moving_clip(16, 96, 160, (0, 1), seed=2))
    write_video(folder / "single.mp4", moving_clip(1, 80, 80, seed=3))
    cut = np.concatenate([moving_clip(9, 90, 130, seed=4), moving_clip(9, 90, 130, seed=5)])
    write_video(folder / "zwei Szenen.mkv", cut)
    for number in range(5):
        Image.fromarray(texture(150, 140, 10 + number)).save(
            folder / f"photo-{'abcde'[number]}.png"
        )
    (folder / "clip").mkdir()
    for number, frame in enumerate(moving_clip(6, 70, 70, (1, 1), seed=20)):
        Image.fromarray(frame).save(folder / "clip" / f"im{number + 1}.png")
    Image.fromarray(texture(40, 40)).save(folder / "small.png")
    Image.fromarray(np.full((90, 90, 3), 99, np.uint8)).save(folder / "flat.png")
    whole = (folder / "pan.mp4").read_bytes()
    (folder / "cut short.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "readme.txt").write_text("not a picture")
    shutil.copy(folder / "photo-a.png", folder / "photo-a copy.png")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def dataset(corpus: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dataset") / "tiny"
    assert main(arguments(corpus, recipe, output, "--workers=2")) == 0
    return output


def arguments(corpus: Path, recipe: Path, output: Path, *others: str) -> list[str]:
    return [
        *("--runner=DirectRunner", f"--input={corpus}", f"--recipe={recipe}"),
        *(f"--output={output}", *others),
    ]


def digests(dataset: Path) -> dict[str, str]:
    """Hashes of everything that must not differ between equal runs."""
    files = [*(dataset / "data").rglob("*"), *(dataset / "index").rglob("*")]
    files.append(dataset / "manifest.json")
    return {
        file.relative_to(dataset).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def rows_of(dataset: Path) -> list[SampleRow]:
    tables = sorted((dataset / "index" / "samples").glob("*.parquet"))
    return [row for table in tables for row in read_table(str(table), SampleRow)]


def samples_of(dataset: Path) -> list[tuple[Sample, dict[str, bytes]]]:
    found = []
    for tar in sorted((dataset / "data").glob("*.tar")):
        with tar.open("rb") as file:
            for _, members in iter_samples(file):
                found.append((Sample.model_validate_json(members["json"]), members))
    return found


def sources_of(dataset: Path) -> dict[str, Source]:
    rows = read_table(str(Layout(dataset).sources), Source)
    return {row.uris[0].split("/", 1)[1]: row for row in rows}


def test_everything_usable_becomes_samples_and_everything_else_a_reason(dataset: Path) -> None:
    sources = sources_of(dataset)
    reasons = {name: row.reason for name, row in sources.items() if row.reason}
    assert reasons == {
        "cut short.mp4": "corrupt",
        "readme.txt": "not_media",
        "small.png": "too_small",
        "flat.png": "flat",
    }
    manifest = read_manifest(dataset)
    assert manifest.failures == Counter(reasons.values())
    kinds = Counter(row.kind for row in rows_of(dataset))
    # pan 2 clips, deadly 2, two scenes, single 1; of 2, 2, 2 and 1 patches; the folder 1 of 1.
    assert kinds[SampleKind.CLIP] == 4 + 4 + 4 + 1 + 1
    assert sum(manifest.splits.values()) == len(rows_of(dataset)) == len(samples_of(dataset))
    assert set(manifest.splits) == {"train", "validation"}


def test_equal_content_is_one_source(dataset: Path) -> None:
    copies = [row.uris for row in sources_of(dataset).values() if len(row.uris) > 1]
    assert copies == [["korpus ü/photo-a copy.png", "korpus ü/photo-a.png"]]


def test_no_group_is_on_both_sides(dataset: Path) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows_of(dataset):
        for source in row.source_ids:
            splits.setdefault(source, set()).add(row.split)
    assert all(len(sides) == 1 for sides in splits.values())


def test_clips_do_not_cross_scene_cuts(dataset: Path) -> None:
    source = sources_of(dataset)["zwei Szenen.mkv"]
    clips = [row for row in rows_of(dataset) if row.source_ids == [source.source_id]]
    assert {row.num_frames for row in clips} == {9}


def test_every_sample_has_the_same_members_and_is_whole(dataset: Path) -> None:
    for sample, members in samples_of(dataset):
        assert sorted(members) == sorted(member_names(2))
        hr = decode_hr(sample, members["hr.zip"])
        assert hr.shape == (sample.num_frames, 64, 64, 3)
        for stream in sample.streams:
            lr = decode_lr(stream, members[f"lr{stream.stream}.nut"])
            assert lr.shape == (sample.num_frames, 16, 16, 3)
            assert hashlib.sha256(lr.tobytes()).hexdigest() == stream.decoded_sha256


def test_the_clean_stream_is_the_downscaled_hr_patch(dataset: Path) -> None:
    sample, members = samples_of(dataset)[0]
    hr = decode_hr(sample, members["hr.zip"], 0, 1)[0]
    expected = to_uint8(resize(to_float(hr), 16, 16, "bd"))
    assert np.array_equal(decode_lr(sample.streams[0], members["lr0.nut"], 0, 1)[0], expected)


def test_hr_patches_are_the_pixels_of_their_sources(dataset: Path, corpus: Path) -> None:
    names = {row.source_id: name for name, row in sources_of(dataset).items()}
    checked = 0
    for sample, members in samples_of(dataset):
        if sample.kind is SampleKind.PSEUDO_VIDEO:
            hr = decode_hr(sample, members["hr.zip"])
            for frame, origin in zip(hr, sample.origins, strict=True):
                picture = np.array(Image.open(corpus / names[origin.source_id]))
                assert np.array_equal(
                    frame, picture[origin.top : origin.top + 64, origin.left : origin.left + 64]
                )
                checked += 1
    assert checked == 5 * 3  # every cell of five photographs, once


def test_recorded_rate_factors_are_those_of_the_bitstreams(dataset: Path) -> None:
    seen = set()
    for sample, members in samples_of(dataset):
        stream = sample.streams[1]
        seen.add(stream.codec)
        if stream.codec == "h264":
            assert f" crf={stream.rate_value:.1f} ".encode() in members["lr1.nut"]
        else:
            assert {frame.qp_mean for frame in stream.frames} == {stream.rate_value}
    assert seen == {"h264", "mpeg2video"}


def test_ranged_reads_by_the_table_are_the_members(dataset: Path) -> None:
    by_key = {sample.key: members for sample, members in samples_of(dataset)}
    for row in rows_of(dataset):
        with (dataset / "data" / f"{row.shard}.tar").open("rb") as file:
            read = {member.name: read_member(file, member) for member in row.members}
        assert read == by_key[row.key]


def test_a_packet_can_be_read_from_the_tar_by_its_range(dataset: Path) -> None:
    row = rows_of(dataset)[0]
    sample, _ = next(item for item in samples_of(dataset) if item[0].key == row.key)
    member = next(member for member in row.members if member.name == "lr1.nut")
    tar = (dataset / "data" / f"{row.shard}.tar").read_bytes()
    with av.open(io.BytesIO(tar[member.offset : member.offset + member.size]), "r") as nut:
        packets = [bytes(packet) for packet in nut.demux(video=0) if packet.size]
    for frame in sample.streams[1].frames:
        start = member.offset + frame.packet_position
        assert tar[start : start + frame.packet_bytes] == packets[frame.coding_index]


# webdataset leaves its files open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_and_tar_read_the_shards(dataset: Path) -> None:
    keys = {sample.key for sample, _ in samples_of(dataset)}
    shards = [str(tar) for tar in sorted((dataset / "data").glob("*.tar"))]
    read = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert {item["__key__"] for item in read} == keys
    assert all(set(member_names(2)) <= set(item) for item in read)
    del read
    gc.collect()
    listed = subprocess.run(["tar", "-tf", shards[0]], check=True, capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) % len(member_names(2)) == 0


@pytest.mark.parametrize("others", [["--workers=1"], ["--direct_runner_bundle_repeat=1"]])
def test_bytes_do_not_depend_on_workers_or_retries(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path, others: Sequence[str]
) -> None:
    assert main(arguments(corpus, recipe, tmp_path / "again", *others)) == 0
    assert digests(tmp_path / "again") == digests(dataset)


def test_an_interrupted_run_goes_on_where_it_stopped(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    shards = [shard.shard for shard in read_manifest(dataset).shards]
    assert len(shards) >= 3
    layout = Layout(copy)
    layout.manifest.unlink()
    layout.marker(shards[0]).unlink()  # killed before its commit
    layout.tar(shards[1]).unlink()  # and a file lost
    kept = layout.tar(shards[2])
    before = kept.stat().st_mtime_ns
    assert main(arguments(corpus, recipe, copy)) == 0
    assert digests(copy) == digests(dataset)
    assert kept.stat().st_mtime_ns == before
    assert not layout.staging.exists()


def test_a_finished_shard_of_another_plan_is_made_again(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    shard = read_manifest(dataset).shards[0]
    marker = Layout(copy).marker(shard.shard)
    other = shard.model_copy(update={"plan_sha256": "of another plan"})
    marker.write_text(other.model_dump_json())
    assert main(arguments(corpus, recipe, copy)) == 0
    assert digests(copy) == digests(dataset)


def test_a_damaged_shard_is_made_again(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    tar = Layout(copy).tar(read_manifest(dataset).shards[0].shard)
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    assert main(arguments(corpus, recipe, copy)) == 0
    assert digests(copy) == digests(dataset)


def test_inputs_may_move_and_their_place_is_not_told(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / corpus.name
    shutil.copytree(corpus, moved)
    assert main([*arguments(corpus, recipe, tmp_path / "made"), "--plan-only"]) == 0
    assert main(arguments(moved, recipe, tmp_path / "made")) == 0
    assert digests(tmp_path / "made") == digests(dataset)


def test_samples_without_their_source_are_made_once_it_is_back(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(texture(150, 140, number)).save(folder / f"{'ab'[number]}.png")
    whole = tmp_path / "whole.toml"
    whole.write_text(RECIPE.replace("validation_fraction = 0.4", "validation_fraction = 0"))
    run = arguments(folder, whole, tmp_path / "made")
    assert main([*run, "--plan-only"]) == 0
    content = {file: file.read_bytes() for file in folder.iterdir()}
    for file, data in content.items():
        file.write_bytes(bytes(len(data)))
    assert main(run) == 2
    said = capsys.readouterr().err
    assert "no sample of the train split could be made" in said
    assert "the same command with --retry failed-retryable makes it" in said
    for file, data in content.items():
        file.write_bytes(data)
    assert main(run) == 2  # finished shards stay as they are
    assert main([*run, "--retry=failed-retryable"]) == 0
    assert read_manifest(tmp_path / "made").splits == {"train": 2}


def test_a_numbered_folder_loses_only_what_kills_its_worker(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.probing._probe_entry", accidents.probe_unless_deadly)
    folder = tmp_path / "deadly"
    folder.mkdir()
    for number in range(4):
        write_video(folder / f"{number:03d}.mp4", moving_clip(9, 96, 96, seed=number))
    whole = tmp_path / "whole.toml"
    whole.write_text(RECIPE.replace("validation_fraction = 0.4", "validation_fraction = 0"))
    assert main(arguments(folder, whole, tmp_path / "made")) == 0
    rows = read_table(str(Layout(tmp_path / "made").sources), Source)
    reasons = {row.uris[0]: row.reason for row in rows}
    assert reasons == {f"deadly/{n:03d}.mp4": "worker_died" if n == 2 else "" for n in range(4)}


def test_damage_of_any_kind_is_a_row(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(texture(150, 140, number)).save(folder / f"{'abc'[number]}.png")
    Image.fromarray(texture(80, 80)).save(folder / "t.tiff")
    tiff = (folder / "t.tiff").read_bytes()
    # Without the tags of its size, Pillow raises a TypeError.
    for tag in (b"\x00\x01", b"\x01\x01"):
        tiff = tiff.replace(tag + b"\x03\x00", b"\xfe\xfe\x03\x00").replace(
            tag + b"\x04\x00", b"\xfe\xfe\x04\x00"
        )
    (folder / "t.tiff").write_bytes(tiff)
    whole = tmp_path / "whole.toml"
    whole.write_text(RECIPE.replace("validation_fraction = 0.4", "validation_fraction = 0"))
    assert main(arguments(folder, whole, tmp_path / "made")) == 0
    sources = sources_of(tmp_path / "made")
    assert sources["t.tiff"].reason == "corrupt"
    assert str(tmp_path) not in sources["t.tiff"].detail


def test_an_interruption_is_told_in_a_line(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.synthesize"]
    command += arguments(corpus, recipe, tmp_path / "made")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    plan = Layout(tmp_path / "made").plan
    deadline = time.monotonic() + 120
    while not plan.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].endswith("interrupted; the same command goes on from here")


def test_beam_does_not_log_an_interruption_inside_a_step(
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.shards.check_libraries", interrupt)
    assert main(arguments(corpus, recipe, tmp_path / "made")) == 130
    assert not caplog.text


def test_a_sample_that_kills_its_worker_is_lost_alone(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.shards.make", accidents.make_unless_deadly)
    assert main(arguments(corpus, recipe, tmp_path / "made")) == 0
    lost = [row for row in rows_of(tmp_path / "made") if row.reason]
    assert [(row.reason, row.stage, row.clip) for row in lost] == [("worker_died", "make", 0)]
    assert "deadly.mp4" in lost[0].detail
    assert read_manifest(tmp_path / "made").failures["worker_died"] == 1
    others = {sample.key: sample for sample, _ in samples_of(dataset)}
    del others[lost[0].key]
    assert {sample.key: sample for sample, _ in samples_of(tmp_path / "made")} == others


def test_a_source_that_kills_its_worker_is_lost_alone(
    dataset: Path, corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.probing._probe_entry", accidents.probe_unless_deadly)
    assert main(arguments(corpus, recipe, tmp_path / "made")) == 0
    sources = sources_of(tmp_path / "made")
    assert sources["deadly.mp4"].reason == "worker_died"
    usable = {name for name, row in sources_of(dataset).items() if not row.reason}
    assert {name for name, row in sources.items() if not row.reason} == usable - {"deadly.mp4"}


def test_an_image_that_turns_bad_fails_its_pack_and_the_row_names_all_members(
    recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.fromarray(texture(150, 140, number)).save(tmp_path / "in" / f"a{number}x.bmp", "PNG")
    whole = tmp_path / "whole.toml"
    whole.write_text(RECIPE.replace("validation_fraction = 0.4", "validation_fraction = 0"))
    run = arguments(tmp_path / "in", whole, tmp_path / "made")
    assert main([*run, "--plan-only"]) == 0
    file = tmp_path / "in" / "a1x.bmp"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)  # as large as before
    main(run)  # it depends on hashes whether a pack without it remains
    failed = [row for row in rows_of(tmp_path / "made") if row.reason]
    assert {row.reason for row in failed} == {"changed"}
    # Six cells in packs of five: one pack holds cells of both images.
    mixed = next(row for row in failed if len(row.source_ids) == 2)
    assert "in/a0x.bmp" in mixed.detail and "in/a1x.bmp" in mixed.detail
    made = samples_of(tmp_path / "made")
    bad = hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(made) == 2 - len(failed)
    assert all(origin.source_id != bad for sample, _ in made for origin in sample.origins)


def test_time_host_and_code_are_in_the_logs_only(dataset: Path) -> None:
    shard = read_manifest(dataset).shards[0].shard
    log = json.loads(Layout(dataset).shard_log(shard).read_bytes())
    assert set(log) == {
        *("attempts", "seconds", "finished_unix_seconds"),
        *("host", "pid", "environment"),
    }
    record = json.loads(Layout(dataset).environment(log["environment"]).read_bytes())
    assert {"cpu", "commit", "ffmpeg", "packages"} <= set(record)


def test_plan_only_makes_nothing(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(corpus, recipe, tmp_path / "planned", "--plan-only")) == 0
    said = capsys.readouterr().out
    assert "Plan: 18 samples (14 clips, 4 pseudo-videos) x 2 LR streams" in said
    assert "seconds" in said and "MiB" in said
    assert "10 usable, 1 corrupt, 1 flat, 1 not_media, 1 too_small" in said
    assert not (tmp_path / "planned" / "data").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--seed=1", "another seed"),
        ("--recipe=vcisr", "another recipe"),
        ("--input=tests", "other inputs"),
    ],
)
def test_a_dataset_of_another_run_is_not_touched(
    dataset: Path,
    corpus: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    words: str,
) -> None:
    before = digests(dataset)
    assert main([*arguments(corpus, recipe, dataset), change]) == 2
    said = capsys.readouterr().err
    assert words in said and "--output" in said and said.count("\n") == 1
    assert digests(dataset) == before


def test_mistakes_are_told_before_any_work(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for inputs in (empty, tmp_path / "missing"):
        assert main(arguments(inputs, recipe, tmp_path / "out")) == 2
        assert str(inputs) in capsys.readouterr().err
    assert main(arguments(tmp_path, recipe, empty / "out")) == 2
    assert "lies in the input" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not any(empty.iterdir())


def test_a_corpus_without_usable_sources_says_why(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing to see")
    assert main(arguments(tmp_path / "in", recipe, tmp_path / "out")) == 2
    assert "1 not_media" in capsys.readouterr().err


def test_real_photographs_and_street_footage(tmp_path: Path) -> None:
    recipe = tmp_path / "real.yaml"
    recipe.write_text(
        """
name: real
validation_fraction: 0
hr: {patch_height: 128, patch_width: 128}
pseudo_video: {patches_per_image: 4}
shared: [{op: downscale, kernels: [bd]}]
streams:
  - {name: clean}
  - {name: crf30, stages: [{op: codec, encoders: [{codec: h264, crf: 30}]}]}
"""
    )
    names = ("astronaut.png", "coffee.png", "rocket.jpg", "bikes.mp4")
    inputs = [f"--input={path}" for path in demo_inputs() if path.endswith(names)]
    options = [f"--recipe={recipe}", f"--output={tmp_path / 'real'}"]
    assert main([*inputs, *options]) == 0
    manifest: Manifest = read_manifest(tmp_path / "real")
    assert manifest.failures == {} and manifest.splits["train"] >= 5
    for sample, members in samples_of(tmp_path / "real"):
        clean, coded = (
            decode_lr(stream, members[f"lr{stream.stream}.nut"]) for stream in sample.streams
        )
        error = np.mean((clean.astype(float) - coded) ** 2)
        assert 22 < 10 * np.log10(255**2 / error) < 45
        if sample.kind is SampleKind.CLIP:
            types = Counter(frame.frame_type for frame in sample.streams[1].frames)
            assert types[FrameType.B] + types[FrameType.P] > 0.8 * sample.num_frames
