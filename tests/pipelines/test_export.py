"""What an export holds is what loaders of BasicSR and CAVSR make of it."""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.export import metadata
from pipelines.export.__main__ import main
from pipelines.export.metadata import metadata_npz
from pipelines.export.sample import SampleRecord
from pipelines.export.tree import MvUnits, TreeName, stream_folders
from pipelines.layout import Layout
from pipelines.pool import Done
from pipelines.synthesize.__main__ import main as synthesize
from schemas.manifest import read_manifest
from schemas.motion import MOTION_DTYPE
from schemas.sample import Sample, SampleKind, SampleRow, Stream
from schemas.shard import iter_samples
from schemas.tables import read_table, write_table
from schemas.wording import counted
from tests.pictures import moving_clip, texture
from tests.synthetic import write_video
from transforms.decode import decode_hr, decode_lr

SCALE, SIDE, NUM_FRAMES = 4, 384, 16
STEP = (1, 2)  # LR rows and columns that the content of the pan moves by, a frame
RECIPE = f"""
name = "exported"
validation_fraction = 0
shard_mib = 0.5
[hr]
patch_height = {SIDE}
patch_width = {SIDE}
[clips]
frames = {NUM_FRAMES}
min_frames = 4
patches = 1
[pseudo_video]
frames = 3
patches_per_image = 1
[[shared]]
op = "downscale"
kernels = ["bd"]
[[streams]]
name = "clean"
[[streams]]
name = "low"
[[streams.stages]]
op = "codec"
[[streams.stages.encoders]]
codec = "h264"
crf = 12
presets = {{ medium = 1 }}
gop_frames = 6
b_frames = 2
[[streams]]
name = "other"
[[streams.stages]]
op = "codec"
[[streams.stages.encoders]]
codec = "hevc"
crf = 25
presets = {{ ultrafast = 1 }}
gop_frames = 5
b_frames = 0
"""
FOLDERS = {"clean": "BD", "low": "BD_12", "other": "other"}
META = {"clean": "0", "low": "12", "other": "other"}


class Item(NamedTuple):
    """A sample of the dataset, decoded by the reference decoder."""

    sample: Sample
    hr: np.ndarray
    lr: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    media = root / "media"
    media.mkdir()
    for name, seed, count in (("pan", 1, NUM_FRAMES), ("other pan", 2, 5)):
        frames = moving_clip(count, SIDE, SIDE, (SCALE * STEP[0], SCALE * STEP[1]), seed)
        write_video(media / f"{name}.mp4", frames, options={"crf": "10"})
    for number in range(3):
        picture = Image.fromarray(texture(SIDE + 6, SIDE, 10 + number))
        picture.save(media / f"photo-{'abc'[number]}.png")
    recipe, sources = root / "recipe.toml", root / "sources.csv"
    recipe.write_text(RECIPE)
    sources.write_text("pattern,licence,attribution\nmedia/*,CC0-1.0,Ä. Person\n")
    arguments = [f"--input={media}", f"--recipe={recipe}", f"--sources={sources}", "--workers=2"]
    assert synthesize(["--runner=DirectRunner", *arguments, f"--output={root / 'set'}"]) == 0
    return root / "set"


@pytest.fixture(scope="module")
def items(dataset: Path) -> list[Item]:
    found = []
    for tar in sorted((dataset / "data").glob("*.tar")):
        with tar.open("rb") as file:
            for _, members in iter_samples(file):
                sample = Sample.model_validate_json(members["json"])
                lr = {s.name: decode_lr(s, members[f"lr{s.stream}.nut"]) for s in sample.streams}
                found.append(Item(sample, decode_hr(sample, members["hr.zip"]), lr))
    return found


@pytest.fixture(scope="module")
def clips(items: list[Item]) -> list[Item]:
    found = [item for item in items if item.sample.kind is SampleKind.CLIP]
    assert sorted(len(item.hr) for item in found) == [5, NUM_FRAMES]
    return found


@pytest.fixture(scope="module")
def export(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Exports in a layout and units, each made once."""
    made: dict[tuple[str, str], Path] = {}

    def exported(layout: str, units: str = "") -> Path:
        if (layout, units) not in made:
            output = tmp_path_factory.mktemp("folders") / "ausgeführt ü"
            options = [f"--mv-units={units}"] if units else []
            assert run(dataset, output, f"--layout={layout}", *options) == 0
            made[layout, units] = output
        return made[layout, units]

    return exported


@pytest.fixture
def copied(dataset: Path, tmp_path: Path) -> Path:
    """A dataset to be damaged."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def run(dataset: Path, output: Path, *others: str) -> int:
    return main([str(dataset), "--output", str(output), "--workers=2", *others])


def digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def lines_of(file: Path) -> list[str]:
    with file.open() as opened:
        return list(opened)  # with their line ends, as loaders split them


def shard_of(dataset: Path, key: str) -> tuple[str, SampleRow]:
    for shard in read_manifest(dataset).shards:
        for row in read_table(str(Layout(dataset).table("samples", shard.shard)), SampleRow):
            if row.key == key:
                return shard.shard, row
    raise AssertionError(key)


def test_pictures_pair_up_as_PairedImageDataset_reads_them(
    export: Callable[..., Path], items: list[Item]
) -> None:
    root = export("basicsr") / "images"
    (pack,) = [item for item in items if item.sample.kind is SampleKind.PSEUDO_VIDEO]
    lines = lines_of(root / "meta_info.txt")
    assert len(lines) == len(pack.hr) == 3
    for stream, frames in pack.lr.items():
        for t, line in enumerate(lines):
            name = line.split(" ")[0]
            assert line == f"{name} ({SIDE},{SIDE},3)\n"
            assert np.array_equal(pixels(root / "GT" / name), pack.hr[t])
            assert np.array_equal(pixels(root / "LQ" / stream / name), frames[t])
        in_folders = [sorted(f.name for f in (root / d).iterdir()) for d in ("GT", f"LQ/{stream}")]
        assert in_folders[0] == in_folders[1]  # what it pairs without a list


def test_clips_are_what_recurrent_datasets_read(
    export: Callable[..., Path], clips: list[Item]
) -> None:
    root = export("basicsr") / "clips"
    by_key = {item.sample.key: item for item in clips}
    seen = set()
    for line in lines_of(root / "meta_info.txt"):
        folder, num_frames, shape = line.split(" ")
        assert shape == f"({SIDE},{SIDE},3)\n"
        hr, lr = by_key[folder].hr, by_key[folder].lr
        assert len(hr) == int(num_frames)
        for stream, frames in lr.items():
            lq = root / "LQ" / stream / folder
            assert len(list(lq.iterdir())) == len(list((root / "GT" / folder).iterdir()))
            for t in range(int(num_frames)):
                assert np.array_equal(pixels(root / "GT" / folder / f"{t:08d}.png"), hr[t])
                assert np.array_equal(pixels(lq / f"{t:08d}.png"), frames[t])
        seen.add(folder)
    assert seen == set(by_key)
    assert {folder.name for folder in (root / "GT").iterdir()} == seen  # those it finds by itself


def test_every_start_that_the_window_list_promises_has_all_its_frames(
    dataset: Path, clips: list[Item], tmp_path: Path
) -> None:
    assert run(dataset, tmp_path, "--window=7", "--stream=clean") == 0
    starts = []
    for line in lines_of(tmp_path / "clips" / "meta_info_window7.txt"):
        folder, number, _ = line.split(" ")
        starts += [(folder, start) for start in range(int(number))]
    long_clip = max(clips, key=lambda item: len(item.hr)).sample.key
    assert starts == [(long_clip, start) for start in range(NUM_FRAMES - 6)]
    for folder, start in starts:
        for t in range(start, start + 7):
            assert (tmp_path / "clips" / "LQ" / "clean" / folder / f"{t:08d}.png").is_file()


@pytest.mark.parametrize("layout", ["basicsr", "cavsr", "cavsr-vimeo"])
def test_the_record_keeps_what_png_loses(
    layout: str, export: Callable[..., Path], items: list[Item]
) -> None:
    output = export(layout)
    result = json.loads((output / "export.json").read_bytes())["result"]
    files = 0
    for item in items:
        file = output / "records" / f"{item.sample.key}.json"
        if not file.is_file():
            assert layout != "basicsr"
            continue
        record = SampleRecord.model_validate_json(file.read_bytes())
        assert record.sample == item.sample
        assert all(source["licence"] == "CC0-1.0" for source in record.sources)
        assert all(source["attribution"] == "Ä. Person" for source in record.sources)
        assert {source["source_id"] for source in record.sources} == {
            origin.source_id for origin in item.sample.origins
        }
        files += record.written.files
    written = [file for file in output.rglob("*") if file.suffix in (".png", ".npz")]
    assert files == len(written) == result["files"]
    assert sum(file.stat().st_size for file in written) == result["bytes"]
    assert result["samples"] + sum(result["left_out"].values()) == result["expected"] == len(items)


def as_cavsr_reads(file: Path) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Frame types, motion from the past and from the future, (t, h, w, 2), and the rows."""
    with np.load(file) as npz:
        t, h, w = npz["size"].tolist()
        rows = npz["mvs"]
    types = ["I"] + ["P"] * (t - 1)  # of frames that no row names
    past, future = np.zeros((t, h, w, 2)), np.zeros((t, h, w, 2))
    for number, source, width, height, *points, scale, code in rows.tolist():
        src_x, src_y, dst_x, dst_y = points
        types[number - 1] = {0: "I", 1: "P", 2: "B"}[code]
        left, right = int(max(dst_x - width / 2, 0)), int(min(dst_x + width / 2, w - 1))
        top, bottom = int(max(dst_y - height / 2, 0)), int(min(dst_y + height / 2, h - 1))
        motion = ((src_x - dst_x) / scale, (src_y - dst_y) / scale)
        (future if source == 1 else past)[number - 1, top:bottom, left:right] = motion
    return types, past, future, rows


def test_cavsr_finds_frames_and_metadata_where_it_looks(
    export: Callable[..., Path], clips: list[Item]
) -> None:
    root = export("cavsr")
    for item in clips:
        key = item.sample.key
        assert f"{key} {len(item.hr)} ({SIDE},{SIDE},3)\n" in lines_of(root / "meta_info.txt")
        for stream, frames in item.lr.items():
            first = 1 if "BD_" in FOLDERS[stream] else 0  # as REDSMetaRecurrentDataset has it
            for t in range(len(frames)):
                assert np.array_equal(pixels(root / "GT" / key / f"{t:08d}.png"), item.hr[t])
                lq = root / FOLDERS[stream] / key / f"{t + first:08d}.png"
                assert np.array_equal(pixels(lq), frames[t])
            with np.load(root / "meta" / META[stream] / f"{key}.npz") as npz:
                assert npz["size"].tolist() == [*frames.shape[:3]]
                assert npz["mvs"].dtype.kind == "i"  # they become indices
    assert {folder.name for folder in (root / "GT").iterdir()} == {c.sample.key for c in clips}


def test_every_frame_has_its_type_though_rows_alone_tell_it(
    export: Callable[..., Path], clips: list[Item]
) -> None:
    intra_in_mid_clip = 0
    for item in clips:
        for stream in item.sample.streams:
            file = export("cavsr") / "meta" / META[stream.name] / f"{item.sample.key}.npz"
            types, *_ = as_cavsr_reads(file)
            assert types == [frame.frame_type.value for frame in stream.frames]
            intra_in_mid_clip += types[1:].count("I")
    assert intra_in_mid_clip >= 4  # of H.264, and of HEVC, which has no vectors at all


def content_moves(file: Path) -> np.ndarray:
    """Motion per frame that the rows of a pan give, after the loader's division, (N, 2) x, y."""
    *_, rows = as_cavsr_reads(file)
    with np.load(file) as npz:
        distance, vectors = npz["ref_distance"].astype(float), npz["vectors"]
    side = SIDE // SCALE
    inside = (distance != 0) & (np.abs(rows[:, 6:8] - side / 2) < side / 2 - 24).all(axis=1)
    assert inside.sum() >= 10
    rows, distance = rows[inside], distance[inside, None]
    assert (rows[:, 1] == np.sign(distance[:, 0])).all()
    read = (rows[:, 4:6] - rows[:, 6:8]) / rows[:, 8:9]
    assert np.abs(read - vectors[inside]).max() <= 0.5 / rows[0, 8]
    return read / distance


@pytest.mark.parametrize(("units", "scale"), [("official", 4), ("pixels", 1)])
def test_vectors_of_a_pan_are_its_motion_in_pixels_after_the_division(
    units: str, scale: int, export: Callable[..., Path], clips: list[Item]
) -> None:
    key = max(clips, key=lambda item: len(item.hr)).sample.key
    meta = export("cavsr", units) / "meta"
    for file in (meta / "12" / f"{key}.npz", meta / "0" / f"{key}.npz"):
        moves = content_moves(file)
        right = (np.abs(moves - (STEP[1], STEP[0])) < 0.26).all(axis=1)
        assert right.mean() > 0.9
    types, past, future, rows = as_cavsr_reads(meta / "12" / f"{key}.npz")
    assert set(rows[:, 8].tolist()) == {scale}
    assert any(future[t].any() for t in range(len(types)) if types[t] == "B")
    # The stream without codec is stored in frames that refer to the one before.
    types, past, future, _ = as_cavsr_reads(meta / "0" / f"{key}.npz")
    middle = slice(SIDE // SCALE // 2 - 16, SIDE // SCALE // 2 + 16)
    predicted = [t for t, frame_type in enumerate(types) if frame_type == "P"]
    assert len(predicted) == NUM_FRAMES - 1 and not future.any()
    away = np.abs(past[predicted, middle, middle] + (STEP[1], STEP[0])).max(axis=-1)
    assert (away < 0.26).mean() > 0.9


def test_the_official_units_are_the_default(export: Callable[..., Path]) -> None:
    assert digests(export("cavsr")) == digests(export("cavsr", "official"))


def test_septuplets_are_what_the_release_trains_with(
    export: Callable[..., Path], clips: list[Item]
) -> None:
    root = export("cavsr-vimeo")
    item = max(clips, key=lambda item: len(item.hr))
    lines = lines_of(root / "meta_info.txt")
    assert len(lines) == NUM_FRAMES // 7  # the clip of five frames is left out
    for index, line in enumerate(lines):
        number, clip, seq = line.split(" ")[0].split("/")
        for stream in item.sample.streams:
            frames = item.lr[stream.name]
            folder = root / FOLDERS[stream.name] / number / clip / seq
            for k in range(7):
                t = 7 * index + k
                gt = root / "GT" / number / clip / seq / f"im{k + 1}.png"
                assert np.array_equal(pixels(gt), item.hr[t])
                assert np.array_equal(pixels(folder / f"im{k + 1}.png"), frames[t])
            meta = root / "meta" / META[stream.name] / number / clip / f"{seq}.npz"
            types, past, future, rows = as_cavsr_reads(meta)
            shown = stream.frames[7 * index : 7 * index + 7]
            assert types == [frame.frame_type.value for frame in shown]
            whole = as_cavsr_reads(
                export("cavsr") / "meta" / META[stream.name] / f"{item.sample.key}.npz"
            )
            assert np.array_equal(past, whole[1][7 * index : 7 * index + 7])
            assert np.array_equal(future, whole[2][7 * index : 7 * index + 7])
            assert (np.diff(rows[:, 0]) >= 0).all()
    for line, theirs in zip(lines, lines_of(root / "meta_info_basicsr.txt"), strict=True):
        assert line == f"0/{theirs}"
        assert len(theirs.split(" ")[0].split("/")) == 2


def test_blocks_and_vectors_follow_the_picture_into_lr_pixels(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 32 x 32 coded pixels, of which 8 rows are cropped at the top and columns are doubled.
    def positions(stream: Stream, height: int, width: int) -> tuple[np.ndarray, ...]:
        scale = np.array([2, 1], np.float32)
        return np.arange(height) + 8, np.arange(width) // 2, scale

    monkeypatch.setattr(metadata, "coded_positions", positions)
    blocks = np.zeros(4, MOTION_DTYPE)
    blocks[0] = (1, -2, 8, 8, 16, 16, 5, -3)  # rows 0 to 15: half of it is left
    blocks[1] = (1, -1, 24, 4, 8, 8, 4, 4)  # rows 0 to 7: cropped away
    blocks[2] = (1, 1, 24, 24, 16, 16, 4, 4)
    blocks[3] = (3, -1, 8, 24, 16, 16, 4, 4)  # after the window
    stream = items[0].sample.streams[1]
    data = metadata_npz(stream, blocks, (24, 64), 1, 2, MvUnits.OFFICIAL)
    with np.load(io.BytesIO(data)) as npz:
        rows, vectors = npz["mvs"].tolist(), npz["vectors"].tolist()
        distances = npz["ref_distance"].tolist()
    types = [stream.frames[t].frame_type.code for t in (1, 2)]
    assert rows[0] == [1, -1, 32, 8, 16 + 10, 4 - 3, 16, 4, 4, types[0]]
    assert rows[1] == [1, 1, 32, 16, 48 + 8, 16 + 4, 48, 16, 4, types[0]]
    assert rows[2] == [2, -1, 0, 0, 0, 0, 0, 0, 4, types[1]]
    assert vectors == [[2.5, -0.75], [2, 1], [0, 0]]
    assert distances == [-2, 1, 0]


@pytest.mark.parametrize("first", [3, 4])
@pytest.mark.parametrize("size", [4, 5])
def test_blocks_of_odd_sizes_are_painted_where_they_are(
    first: int, size: int, items: list[Item], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A picture of which the codec saw other rows: the block covers `size` LR rows from `first`.
    coded = np.concatenate([np.zeros(first), np.full(size, 8), np.full(20 - first - size, 16)])
    monkeypatch.setattr(
        metadata, "coded_positions", lambda *_: (coded, coded, np.ones(2, np.float32))
    )
    blocks = np.array([(1, -1, 12, 12, 8, 8, 4, 8)], MOTION_DTYPE)
    stream = items[0].sample.streams[1]
    (tmp_path / "x.npz").write_bytes(metadata_npz(stream, blocks, (20, 20), 0, 2, MvUnits.PIXELS))
    _, past, _, _ = as_cavsr_reads(tmp_path / "x.npz")
    expected = np.zeros((20, 20, 2))
    expected[first : first + size, first : first + size] = (1, 2)
    assert np.array_equal(past[1], expected)


def test_streams_that_ask_for_one_folder_keep_their_names() -> None:
    rates = {"a": {"BD_25"}, "b": {"BD_25"}, "c": {"BD_15", "BD_16"}, "d": {"BD"}, "meta": {""}}
    folders = stream_folders(TreeName.CAVSR, [*rates, "e"], rates)
    assert folders == {
        **{"a": "a", "b": "b", "c": "c", "d": "BD", "e": "e"},
        "meta": "meta_lq",
    }


@pytest.mark.parametrize(
    ("layout", "rates"),
    [
        (TreeName.CAVSR, {"meta": {""}, "meta_lq": {""}}),
        (TreeName.CAVSR, {"25": {""}, "b": {"BD_25"}}),
        (TreeName.CAVSR_VIMEO, {"0": {""}, "clean": {"BD"}}),
    ],
)
def test_streams_that_would_overwrite_each_other_are_refused(
    layout: TreeName, rates: dict[str, set[str]]
) -> None:
    with pytest.raises(UserError, match="would both be written to"):
        stream_folders(layout, list(rates), rates)


def test_equal_exports_have_equal_bytes_and_a_finished_one_is_left_as_it_is(
    dataset: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    assert run(dataset, tmp_path / "again", "--workers=1") == 0
    assert digests(tmp_path / "again") == digests(export("basicsr"))
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "again").rglob("*.png")}
    assert run(dataset, tmp_path / "again") == 0
    assert times == {f: f.stat().st_mtime_ns for f in (tmp_path / "again").rglob("*.png")}


def test_an_interrupted_export_goes_on_where_it_stopped(
    dataset: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    finished = export("cavsr")
    output = Path(shutil.copytree(finished, tmp_path / "half"))
    records = sorted((output / "records").iterdir())
    cut, gone = records[0].stem, records[1].stem
    records[0].unlink()  # never reached the end
    cut_file = sorted((output / "GT" / cut).iterdir())[-1]
    cut_file.write_bytes(b"")
    next((output / "BD" / gone).iterdir()).unlink()  # lost afterwards
    (output / "meta_info.txt").unlink()
    assert run(dataset, output, "--layout=cavsr") == 0
    assert digests(output) == digests(finished)


def damage_member(dataset: Path, key: str, member: str) -> str:
    shard, row = shard_of(dataset, key)
    (place,) = [m for m in row.members if m.name == member]
    tar = Layout(dataset).tar(shard)
    data = bytearray(tar.read_bytes())
    data[place.offset + place.size // 2] ^= 255
    tar.write_bytes(data)
    return shard


@pytest.mark.parametrize("member", ["hr.zip", "lr2.nut", "mv1.npy", "json"])
def test_a_damaged_sample_is_named_and_nothing_of_it_remains(
    member: str, copied: Path, tmp_path: Path, clips: list[Item], capsys: pytest.CaptureFixture[str]
) -> None:
    key, intact = clips[0].sample.key, clips[1].sample.key
    shard = damage_member(copied, key, member)
    output = tmp_path / "out"
    assert run(copied, output, "--layout=cavsr") == 1
    told = capsys.readouterr()
    assert shard in told.err and member in told.err
    assert "1 shard, 1 sample missing" in told.out
    assert not any(key in path.name for path in output.rglob("*"))
    assert (output / "GT" / intact).is_dir()
    assert [line.split(" ")[0] for line in lines_of(output / "meta_info.txt")] == [intact]
    result = json.loads((output / "export.json").read_bytes())["result"]
    assert list(result["damaged"]) == [shard]


def test_a_repaired_shard_completes_the_export(
    dataset: Path, copied: Path, clips: list[Item], export: Callable[..., Path], tmp_path: Path
) -> None:
    shard = damage_member(copied, clips[0].sample.key, "lr1.nut")
    assert run(copied, tmp_path / "out") == 1
    shutil.copy(Layout(dataset).tar(shard), Layout(copied).tar(shard))
    assert run(copied, tmp_path / "out") == 0
    assert digests(tmp_path / "out") == digests(export("basicsr"))


@pytest.mark.parametrize("what", ["cut tar", "no tar", "no table", "bad table", "short table"])
def test_a_damaged_shard_is_named_and_the_others_are_exported(
    what: str, copied: Path, tmp_path: Path, items: list[Item], capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(copied)
    shard, _ = shard_of(copied, items[0].sample.key)
    in_shard = next(s.num_samples for s in read_manifest(copied).shards if s.shard == shard)
    tar, table = layout.tar(shard), layout.table("samples", shard)
    if what == "cut tar":
        tar.write_bytes(tar.read_bytes()[:2000])
    elif what == "bad table":
        table.write_bytes(table.read_bytes()[:-100])
    elif what == "short table":
        write_table(str(table), SampleRow, [])
    else:
        (tar if what == "no tar" else table).unlink()
    assert run(copied, tmp_path / "out") == 1
    told = capsys.readouterr()
    assert shard in told.err
    assert f"{counted(in_shard, 'sample')} missing" in told.out
    records = list((tmp_path / "out" / "records").iterdir())
    assert len(records) == len(items) - in_shard > 0


@pytest.mark.parametrize("key", ["../evil", "/tmp/evil", "a/b", "", "a.b"])
def test_a_key_that_is_no_plain_name_never_becomes_a_path(
    key: str, copied: Path, tmp_path: Path, items: list[Item], capsys: pytest.CaptureFixture[str]
) -> None:
    shard, _ = shard_of(copied, items[0].sample.key)
    table = str(Layout(copied).table("samples", shard))
    rows = read_table(table, SampleRow)
    write_table(table, SampleRow, [row.model_copy(update={"key": key}) for row in rows])
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    assert run(copied, tmp_path / "out" / "in") == 1
    assert f"the key {key!r} is no plain name" in capsys.readouterr().err
    assert {path for path in tmp_path.rglob("*") if "out" not in path.parts} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["in"]


def test_a_record_of_another_key_is_damage(
    copied: Path, tmp_path: Path, items: list[Item], capsys: pytest.CaptureFixture[str]
) -> None:
    shard, _ = shard_of(copied, items[0].sample.key)
    table = str(Layout(copied).table("samples", shard))
    rows = read_table(table, SampleRow)
    write_table(table, SampleRow, [row.model_copy(update={"key": "another"}) for row in rows])
    assert run(copied, tmp_path / "out") == 1
    assert "not what the index says" in capsys.readouterr().err


def test_other_pixels_than_recorded_are_damage_not_data(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Here:
        """The pool's work, in this process."""

        def map_ordered(self, function: Any, tasks: Any) -> Any:
            return ((task, Done(function(task))) for task in tasks)

    monkeypatch.setattr("pipelines.export.run.shared_pool", lambda _: Here())
    monkeypatch.setattr("pipelines.export.sample.decode_lr", lambda *a: decode_lr(*a) ^ 1)
    assert run(dataset, tmp_path / "out") == 1
    assert "other pixels than were recorded" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream=crf99"], "no --stream crf99: it has clean, low, other"),
        (["--split=validation"], "no samples of --split validation; samples it has: 3 train"),
        (["--mv-units=pixels"], "basicsr has no motion vectors"),
        (["--window=-1"], "--window is -1"),
        (["--layout=cavsr-vimeo", "--window=5"], "not for cavsr-vimeo"),
        (["--workers=0"], "--workers is 0"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(
    arguments: list[str],
    message: str,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(dataset, tmp_path / "out", *arguments) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_something_else_is_never_touched(
    dataset: Path, export: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("")
    for output, message in {
        tmp_path / "mine": "is not empty",
        tmp_path / "file": "is not empty",
        tmp_path / "file" / "below": "cannot write",
        dataset / "out": "lies in the dataset",
        dataset: "lies in the dataset",
        dataset.parent: "the dataset lies in --output",
        export("cavsr"): "another --layout and other streams and another --window",
    }.items():
        before = digests(output) if output.is_dir() else {}
        assert run(dataset, output) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1
        assert (digests(output) if output.is_dir() else {}) == before


def test_what_is_no_dataset_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nothing", tmp_path / "out") == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_layout_without_place_for_any_sample_leaves_nothing_behind(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in read_manifest(copied).shards:
        table = str(Layout(copied).table("samples", shard.shard))
        rows = read_table(table, SampleRow)
        changed = [row.model_copy(update={"kind": SampleKind.PSEUDO_VIDEO}) for row in rows]
        write_table(table, SampleRow, changed)
    assert run(copied, tmp_path / "out", "--layout=cavsr") == 2
    assert "has no place for any sample: 3 pseudo-video" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_summary_counts_what_is_there(
    dataset: Path, tmp_path: Path, items: list[Item], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, tmp_path / "out", "--stream=low") == 0
    told = capsys.readouterr().out
    frames = 2 * sum(len(item.hr) for item in items)
    assert told.startswith(f"Done: 3 samples, {frames} frames in {frames} files, ")
    assert "low in LQ/low" in told and str(tmp_path / "out") in told
    kinds = Counter(file.parts[len(tmp_path.parts) + 1] for file in tmp_path.rglob("*.png"))
    assert kinds == {"clips": frames - 6, "images": 6}
