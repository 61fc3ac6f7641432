"""Inputs from strangers: each becomes a row with a reason, at a bounded cost, and no run ends."""

import os
import random
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import pytest
from PIL import Image

from pipelines.corpus import Entry, discover
from pipelines.failures import FAILURES, failed
from pipelines.layout import Layout
from pipelines.pool import WorkerPool
from pipelines.probing import _probe_entry, _row
from pipelines.synthesize.__main__ import main
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.record import Status
from schemas.source import Source
from schemas.tables import read_table
from tests.pictures import moving_clip, texture
from tests.pipelines.fuzz import mutated, write_seeds
from tests.pipelines.probing import recipe
from tests.pipelines.small import RECIPE
from tests.synthetic import write_video

_CPU_SECONDS = 20  # of one file of some kilobytes: far more than any takes
_DEATHS = ("worker_died", "cpu_limit", "stalled")


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    two = WorkerPool(2, cpu_limit_seconds=_CPU_SECONDS)
    yield two
    two.close()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_seeds(tmp_path_factory.mktemp("fuzz") / "seeds")


def probed(entries: list[Entry], pool: WorkerPool) -> dict[str, Source]:
    """The row of each entry."""
    probe_entry = partial(_probe_entry, recipe=recipe(hr={"max_bar_share": 0.5}), seed=0)
    outcomes = pool.map_ordered(probe_entry, entries)
    return {entry.uri: _row(entry, outcome).source for entry, outcome in outcomes}


def files(paths: list[Path]) -> list[Entry]:
    return [Entry(uri=path.name, paths=(str(path),), is_folder=False) for path in paths]


def check_fuzzed(seeds: list[Path], folder: Path, count: int, seed: int, pool: WorkerPool) -> None:
    entries = files([*seeds, *mutated(seeds, folder, count, seed)])
    rows = probed(entries, pool)
    assert len(rows) == len(entries)
    assert all(not rows[path.name].reason for path in seeds)
    for uri, row in rows.items():
        is_failure = row.reason in FAILURES
        wanted = failed("probe", row.reason, "").status if is_failure else Status.FILTERED
        assert row.status is (wanted if row.reason else Status.OK), uri
        assert bool(row.detail) == bool(row.reason), uri
        assert str(folder) not in row.detail, uri
    reasons = Counter(row.reason for row in rows.values())
    assert not reasons.keys() & set(_DEATHS), reasons
    assert reasons["corrupt"] > count / 4 and reasons[""] > count / 20


def test_damaged_files_are_rows(seeds: list[Path], tmp_path: Path, pool: WorkerPool) -> None:
    check_fuzzed(seeds, tmp_path / "m", 300, 0, pool)


@pytest.mark.slow
@pytest.mark.long
def test_thousands_of_damaged_files_are_rows(
    seeds: list[Path], tmp_path: Path, pool: WorkerPool
) -> None:
    seed = int(os.environ.get("FUZZ_SEED", time.time_ns() % 10**6))
    print(f"FUZZ_SEED={seed}")  # noqa: T201 - shown if the test fails
    check_fuzzed(seeds, tmp_path / "m", 5000, seed, pool)


@pytest.mark.slow
def test_samples_and_failures_of_damaged_files_are_all_that_was_put_in(
    seeds: list[Path], tmp_path: Path
) -> None:
    paths = list(mutated(seeds, tmp_path / "in", 60, 3))
    random.Random(0).shuffle(paths)
    (tmp_path / "r.toml").write_text(RECIPE)
    output = tmp_path / "made"
    arguments = ["--runner=DirectRunner", f"--input={tmp_path / 'in'}", "--workers=2"]
    assert main([*arguments, f"--recipe={tmp_path / 'r.toml'}", f"--output={output}"]) == 0
    sources = read_table(str(Layout(output).sources), Source)
    assert sorted(uri for row in sources for uri in row.uris) == sorted(
        f"in/{path.name}" for path in paths
    )
    manifest = read_manifest(output)
    planned = read_table(str(Layout(output).plan), PlannedSample)
    num_left_out = sum(shard.num_left_out for shard in manifest.shards)
    assert sum(manifest.splits.values()) + num_left_out == len(planned)
    unusable = sum(row.status is not Status.OK for row in sources)
    assert sum(manifest.failures.values()) == unusable + num_left_out


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of given chunks, after a true header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*part) for part in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(num_bytes: int) -> bytes:
    return zlib.compress(bytes(num_bytes), 9)


def test_bombs_and_lies_are_rows(tmp_path: Path, pool: WorkerPool) -> None:
    sound = write_video(tmp_path / "sound.mp4", moving_clip(6, 72, 80, seed=1)).read_bytes()
    y4m = b"YUV4MPEG2 W%d H%d F25:1 C420jpeg\n"
    hostile = {
        "claims more pixels.png": (png(2**31 - 1, 2**31 - 1, (b"IDAT", zeros(99))), "too_large"),
        "huge and empty.png": (png(30_000, 30_000, (b"IDAT", zeros(99))), "too_large"),
        "has fewer pixels.png": (png(9000, 9000, (b"IDAT", zeros(99))), "corrupt"),
        "thin.png": (png(100_000, 1, (b"IDAT", zeros(300_001))), "too_small"),
        "text bomb.png": (
            png(64, 64, (b"zTXt", b"a\0\0" + zeros(2**28)), (b"IDAT", zeros(64 * 193))),
            "corrupt",
        ),
        "profile bomb.png": (
            png(64, 64, (b"iCCP", b"a\0\0" + zeros(2**28)), (b"IDAT", zeros(64 * 193))),
            "corrupt",
        ),
        "claims more pixels.y4m": (y4m % (2**30, 2**30) + b"FRAME\n", "corrupt"),
        "claims many pixels.y4m": (y4m % (60_000, 60_000) + b"FRAME\n", "corrupt"),
        "has no pixels.y4m": (y4m % (64, 64) + b"FRAME\n", "corrupt"),
        "playlist.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not_media"),
        "playlist.mkv": (b"ffconcat version 1.0\nfile 'sound.mp4'\n", "not_media"),
        "page.mp4": (b'<?xml version="1.0"?><MPD></MPD>', "not_media"),
        "misnamed.png": (sound, ""),
        "trailer.mp4": (sound + bytes(10**6), ""),
        "nothing.mp4": (b"", "empty_file"),
        "zeros.mp4": (bytes(10**6), "not_media"),
        "boxes only.mp4": (b"\0\0\0\x08ftyp" * 50_000, "corrupt"),
        "deep boxes.mp4": (
            b"".join(struct.pack(">I4s", 8 * n, b"moov") for n in range(20_000, 0, -1)),
            "corrupt",
        ),
    }
    for name, (data, _) in hostile.items():
        (tmp_path / name).write_bytes(data)
    rows = probed(files([tmp_path / name for name in hostile]), pool)
    found = {name: row.reason for name, row in rows.items()}
    assert found == {name: reason for name, (_, reason) in hostile.items()}


def alias_to(target: Path) -> bytes:
    """A Macintosh alias record: where QuickTime says that the data of a track lie."""
    path = str(target).encode()
    record = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + bytes(4) + bytes(16)
    record += struct.pack(">hH", 2, len(path)) + path + bytes(len(path) % 2)
    record += struct.pack(">hH", -1, 0)
    return struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record


def without_its_data(movie: bytes, target: Path) -> bytes:
    """The same MOV, but with its data in another file."""
    own, other = b"\0\0\0\x0curl \0\0\0\x01", alias_to(target)
    if own not in movie:
        own = b"\0\0\0\x0calis\0\0\0\x01"
    data = bytearray(movie.replace(own, other, 1))
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = data.index(box) - 4
        size = struct.unpack(">I", data[at : at + 4])[0] + len(other) - len(own)
        data[at : at + 4] = struct.pack(">I", size)
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    return bytes(data)


def test_a_movie_does_not_open_other_files(tmp_path: Path, pool: WorkerPool) -> None:
    frames = moving_clip(6, 72, 80, seed=1)
    sound = write_video(tmp_path / "sound.mov", frames)
    thief = tmp_path / "thief.mov"
    thief.write_bytes(without_its_data(sound.read_bytes(), sound))
    willing = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(thief), options=willing) as container:
        assert len(list(container.decode(video=0))) == 6  # it is there for the taking
    (row,) = probed(files([thief]), pool).values()
    assert row.reason == "corrupt"


def test_what_is_no_file_is_a_row(tmp_path: Path, pool: WorkerPool) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(texture(72, 80, 1)).save(folder / "sound.png")
    os.mkfifo(folder / "pipe.mp4")
    os.symlink("/dev/zero", folder / "endless.mp4")
    os.symlink("/etc/hostname", folder / "stolen.png")
    os.symlink("circle.png", folder / "circle.png")
    os.symlink(folder, folder / "loop")
    (folder / "line\nbreak \x1b[31m.png").write_bytes((folder / "sound.png").read_bytes())
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.png"))
        entries = discover([str(folder)], follow_links=False)
        rows = probed(entries, pool)
    assert {uri: row.reason for uri, row in rows.items()} == {
        "in/sound.png": "",
        "in/line\ufffdbreak \ufffd[31m.png": "",
        "in/pipe.mp4": "special_file",
        "in/endless.mp4": "link_outside",
        "in/stolen.png": "link_outside",
        "in/circle.png": "unreadable",
        "in/socket.png": "special_file",
        "in/\ufffd\ufffd.png": "undecodable_name",
    }
    assert probed(discover([str(folder)]), pool)["in/endless.mp4"].reason == "special_file"


def test_a_long_video_of_few_frames_costs_few(tmp_path: Path, pool: WorkerPool) -> None:
    ten_hours = 10 * 3600 * 25
    frames = moving_clip(2, 72, 80, seed=1)
    path = write_video(tmp_path / "long.mkv", frames, pts=[0, ten_hours])
    (row,) = probed(files([path]), pool).values()
    assert (row.reason, row.num_frames) == ("", 2)


def test_a_sparse_file_of_any_size_is_not_read(tmp_path: Path, pool: WorkerPool) -> None:
    path = write_video(tmp_path / "sparse.mp4", moving_clip(2, 72, 80, seed=1))
    try:
        os.truncate(path, 2**42 + 1)
    except OSError as error:
        pytest.skip(f"no file of that size here: {error.strerror}")
    (row,) = probed(files([path]), pool).values()
    assert (row.reason, row.source_id) == ("too_large", "")


def test_many_tiny_files_are_as_many_rows(tmp_path: Path, pool: WorkerPool) -> None:
    (tmp_path / "in").mkdir()
    for number in range(1500):
        (tmp_path / "in" / f"{number}-{number % 7}.png").write_bytes(bytes([number % 256]))
    rows = probed(discover([str(tmp_path / "in")]), pool)
    assert Counter(row.reason for row in rows.values()) == {"not_media": 1500}


def test_a_worker_that_takes_all_memory_is_a_row(tmp_path: Path) -> None:
    small = WorkerPool(1, memory_limit_bytes=700 * 2**20)
    try:
        big = tmp_path / "big.png"
        Image.new("RGB", (14_000, 14_000)).save(big)  # 560 MiB as pixels
        Image.fromarray(texture(72, 80, 1)).save(tmp_path / "sound.png")
        rows = probed(files([big, tmp_path / "sound.png"]), small)
    finally:
        small.close()
    assert {name: row.reason for name, row in rows.items()} == {
        "big.png": "memory_limit",
        "sound.png": "",
    }
