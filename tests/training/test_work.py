"""What there is to do, counted from tables, against what reading and decoding really take."""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.draw import CropDraw, ResizeDraw, StreamDraw
from schemas.manifest import DatasetError, read_manifest
from schemas.sample import Frame, FrameRow, Sample, SampleKind, StreamRow, lr_member
from schemas.shard import iter_samples
from schemas.tables import read_table, write_table
from schemas.view import ANY
from tests.training.conftest import (
    LR_HEIGHT,
    LR_WIDTH,
    SCALE,
    TILE,
    Clip,
    pan_frames,
    ruler_frames,
    write_dataset,
)
from tests.training.test_views import row, write
from training import work as work_module
from training.batches import EpochPlan, Part
from training.config import StreamSettings
from training.dataset import SampleStream
from training.work import (
    Work,
    expected_touched,
    expected_work,
    hr_settings,
    members_read,
    unreferenced,
)
from transforms.tiles import tile_header_bytes, tile_places

SETTINGS = StreamSettings(frames=4, crop=16, batch_size=2, seed=3)


def work_of(
    dataset: Path,
    plan: EpochPlan | None = None,
    settings: StreamSettings = SETTINGS,
    *,
    is_jpeg: bool = False,
) -> Work:
    stream = SampleStream(dataset, "train", settings)
    manifest = read_manifest(dataset)
    return expected_work(
        dataset,
        manifest,
        stream.parts[0].index,
        plan or stream.parts[0].plan(0),
        settings,
        is_jpeg=is_jpeg,
        in_workers=True,
    )


@pytest.mark.parametrize(
    ("scale", "tile", "crop"), [(4, 64, 16), (4, 64, 32), (4, 40, 9), (2, 16, 1), (3, 256, 20)]
)
def test_tiles_touched_are_the_mean_over_all_crops(scale: int, tile: int, crop: int) -> None:
    height, width = 32, 40
    found = []
    for top, left in itertools.product(range(height - crop + 1), range(width - crop + 1)):
        first, end = (scale * top, scale * left), (scale * (top + crop), scale * (left + crop))
        places = tile_places(1, scale * height, scale * width, tile)
        touched = [
            place.height * place.width
            for place in places
            if place.top < end[0] and place.top + place.height > first[0]
            and place.left < end[1] and place.left + place.width > first[1]
        ]  # fmt: skip
        found.append((len(touched), sum(touched)))
    touched_rows = expected_touched(np.array([height]), scale, tile, crop)
    touched_columns = expected_touched(np.array([width]), scale, tile, crop)
    tiles, pixels = np.mean(found, axis=0)
    assert touched_rows.tiles * touched_columns.tiles == pytest.approx(tiles)
    assert touched_rows.pixels * touched_columns.pixels == pytest.approx(pixels)


class CountingFile:
    """Counts the bytes that are asked of a file."""

    def __init__(self, file: Any, counts: list[int]) -> None:
        self._file, self._counts = file, counts

    def __enter__(self) -> "CountingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._counts.append(len(data))
        return data


@pytest.mark.parametrize("quality", [None, 90])
def test_bytes_are_those_that_reading_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quality: int | None
) -> None:
    # Windows of whole samples and crops of whole pictures, so that nothing is an expected value.
    hr = ruler_frames(4)[:, :, : SCALE * LR_HEIGHT]
    kinds = {"clip0": SampleKind.CLIP, "clip1": SampleKind.CLIP, "pack": SampleKind.PSEUDO_VIDEO}
    clips = [Clip(key, "train", kind, hr, quality) for key, kind in kinds.items()]
    dataset = write_dataset(tmp_path / "dataset", clips, ruler=True)
    settings = SETTINGS.model_copy(update={"crop": LR_HEIGHT})
    view = write(dataset, tmp_path / "view", [row("clip0", 0), row("clip1", 1), row("pack", 1)])
    stream = SampleStream([Part(dataset, view)], "train", settings)
    counts = list[int]()
    original = Path.open

    def counting_open(path: Path, *arguments: Any, **options: Any) -> Any:
        file = original(path, *arguments, **options)
        return CountingFile(file, counts) if path.suffix == ".tar" else file

    monkeypatch.setattr(Path, "open", counting_open)
    batches = list(stream)
    plan = stream.parts[0].plan(0)
    work = work_of(dataset, plan, settings, is_jpeg=quality is not None)
    assert work["read_bytes"] * 3 == pytest.approx(sum(counts))
    pixels = [t for b in batches for t in (b.lr, b.hr, b.flow_previous, b.flow_next, b.flow_valid)]
    assert work["stacked_bytes"] * 3 == sum(tensor.nbytes for tensor in pixels)
    assert work["handed_bytes"] == work["stacked_bytes"]
    assert work["hr_tiles"] == 4 * 4


def test_of_hr_the_tiles_that_a_crop_touches_are_read(ruler_dataset: Path) -> None:
    crop = SETTINGS.model_copy(update={"crop": 1})
    large, small = work_of(ruler_dataset), work_of(ruler_dataset, settings=crop)
    header = tile_header_bytes(is_jpeg=False)
    fewer = large["hr_tiles"] - small["hr_tiles"]
    assert fewer > 0
    of_tiles = large["hr_bytes"] - small["hr_bytes"] + header * fewer
    assert large["read_bytes"] - small["read_bytes"] == pytest.approx(of_tiles)


def test_of_any_stream_the_bytes_are_the_mean(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    plan = stream.parts[0].plan(0)
    _, either = members_read(stream.parts[0].index, plan, 2)
    first, second = (
        members_read(stream.parts[0].index, plan._replace(stream=np.full_like(plan.stream, k)), 2)[
            1
        ]
        for k in (0, 1)
    )
    assert (plan.stream == ANY).all()
    assert not np.array_equal(first, second)
    assert either == pytest.approx((first + second) / 2)


def records(dataset: Path) -> Iterator[tuple[Sample, dict[str, bytes]]]:
    for path in sorted((dataset / "data").glob("train-*.tar")):
        with path.open("rb") as file:
            for _, members in iter_samples(file):
                yield Sample.model_validate_json(members["json"]), members


def is_reference(packet: bytes) -> bool:
    """Whether other frames refer to an H.264 picture, as its slices say."""
    units = re.finditer(rb"\x00\x00\x01(.)", packet, re.DOTALL)
    slices = [unit[1][0] for unit in units if unit[1][0] & 31 in (1, 5)]
    return any(header >> 5 & 3 for header in slices)


def packets_taken(frames: Sequence[Frame], member: bytes, start: int, count: int) -> list[Frame]:
    """What an H.264 decoder decodes for a window: the frames of it, and those that they need."""
    in_order = sorted(frames, key=lambda frame: frame.coding_index)
    keys = [f.coding_index for f in frames if f.key_frame and f.display_index <= start]
    shown = range(start, start + count)
    last = max(f.coding_index for f in frames if f.display_index in shown)
    return [
        f
        for f in in_order[max(keys) : last + 1]
        if f.display_index in shown
        or is_reference(member[f.packet_position : f.packet_position + f.packet_bytes])
    ]


def test_decoding_is_counted_from_the_key_frame_to_the_window_s_end(tmp_path: Path) -> None:
    clips = [
        Clip(f"pan{n}", "train", kind, pan_frames(frames, seed=n))
        for n, (kind, frames) in enumerate(
            [(SampleKind.CLIP, 9), (SampleKind.CLIP, 6), (SampleKind.PSEUDO_VIDEO, 5)]
        )
    ]
    dataset = write_dataset(tmp_path / "dataset", clips, shard_samples=2)
    area = LR_HEIGHT * LR_WIDTH
    pixels, coded_bytes = np.zeros((3, 2)), np.zeros((3, 2))
    for number, (sample, members) in enumerate(records(dataset)):
        for stream in sample.streams:
            member = members[lr_member(stream.stream)]
            starts = range(sample.num_frames - 4 + 1)
            taken = [packets_taken(stream.frames, member, start, 4) for start in starts]
            pixels[number, stream.stream] = np.mean([len(frames) * area for frames in taken])
            coded_bytes[number, stream.stream] = np.mean(
                [sum(frame.packet_bytes for frame in frames) for frames in taken]
            )
    work = work_of(dataset)
    # Either stream is drawn as often as the other.
    for k, codec in enumerate(("lossless", "h264")):
        assert work[f"lr_opened.{codec}"] == pytest.approx(1 / 2)
        expected = pixels[:, k].mean() / 2
        assert work[f"lr_coded_pixels.{codec}"] == pytest.approx(expected)
        expected = coded_bytes[:, k].mean() / 2
        assert work[f"lr_coded_bytes.{codec}"] == pytest.approx(expected)
    for reading, converted in (("rgb", 16**2), ("exact-tv", 30**2)):  # YUV takes a margin
        assert work[f"lr_frames.{reading}"] == pytest.approx(4 / 2)
        assert work[f"lr_pixels.{reading}"] == pytest.approx(4 * converted / 2)
    assert work["flows"] == pytest.approx(2 / 3)
    assert work["flow_pixels"] == pytest.approx(4 * 16**2 * 2 / 3)


def test_key_frames_and_lost_slices(tmp_path: Path) -> None:
    dataset = write_dataset(
        tmp_path / "dataset", [Clip("a", "train", SampleKind.CLIP, pan_frames(8, seed=0))]
    )
    frames = str(dataset / "index" / "frames" / "train-000000.parquet")
    # As if the lossless stream, whose frames are coded in the order in which they are shown, had
    # another key frame.
    changed = [
        frame.model_copy(update={"key_frame": frame.display_index in (0, 5)})
        if frame.stream == 0
        else frame
        for frame in read_table(frames, FrameRow)
    ]
    write_table(frames, FrameRow, changed)
    area = LR_HEIGHT * LR_WIDTH
    taken = [4, 5, 6, 7, 8]  # of windows that start at 0 to 4; the one at 5 does not fit
    assert work_of(dataset)["lr_coded_pixels.lossless"] == np.mean(taken) * area / 2
    one = SETTINGS.model_copy(update={"frames": 1})
    taken = [1, 2, 3, 4, 5, 1, 2, 3]
    assert work_of(dataset, settings=one)["lr_coded_pixels.lossless"] == np.mean(taken) * area / 2
    streams = str(dataset / "index" / "streams" / "train-000000.parquet")
    lossy = [s.model_copy(update={"lost_slices": 1}) for s in read_table(streams, StreamRow)]
    write_table(streams, StreamRow, lossy)
    assert work_of(dataset)["lr_coded_pixels.lossless"] == 8 * area / 2


def test_windows_of_a_view_are_where_it_says(ruler_dataset: Path, tmp_path: Path) -> None:
    rows = [row("clip0", 0, 0), row("pack0", 0, 3)]
    view = write(ruler_dataset, tmp_path / "view", rows)
    plan = SampleStream([Part(ruler_dataset, view)], "train", SETTINGS).parts[0].plan(0)
    work = work_of(ruler_dataset, plan)
    area = LR_HEIGHT * LR_WIDTH
    # Frames 0 to 3 of the clip, and of the pack 0 to 3, of which one is handed out.
    assert work["lr_coded_pixels.lossless"] == 4 * area
    assert work["lr_frames.rgb"] == (4 + 1) / 2
    assert "lr_opened.h264" not in work


def test_tables_that_miss_a_stream_are_damage(tmp_path: Path) -> None:
    dataset = write_dataset(
        tmp_path / "dataset", [Clip("a", "train", SampleKind.CLIP, pan_frames(4, seed=0))]
    )
    frames = dataset / "index" / "frames" / "train-000000.parquet"
    write_table(str(frames), FrameRow, read_table(str(frames), FrameRow)[:-1])
    with pytest.raises(DatasetError, match=r"train-000000 do not tell of all .* copy the dataset"):
        work_of(dataset)
    frames.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        work_of(dataset)


def test_the_recipe_says_how_large_tiles_are(ruler_dataset: Path) -> None:
    manifest = read_manifest(ruler_dataset)
    assert hr_settings(manifest).tile == TILE
    assert hr_settings(manifest.model_copy(update={"recipe": {}})).tile == 256


def test_some_windows_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [Clip(f"a{n}", "train", SampleKind.CLIP, pan_frames(5, seed=0)) for n in range(6)]
    dataset = write_dataset(tmp_path / "dataset", clips, shard_samples=3)
    whole = work_of(dataset)
    monkeypatch.setattr(work_module, "_MOST_SHARDS", 1)
    monkeypatch.setattr(work_module, "_MOST_WINDOWS", 2)
    (dataset / "index" / "frames" / "train-000001.parquet").unlink()  # of the other shard
    assert work_of(dataset) == pytest.approx(whole)


def _changed_streams(dataset: Path, **update: Any) -> None:
    path = str(dataset / "index" / "streams" / "train-000000.parquet")
    write_table(path, StreamRow, [s.model_copy(update=update) for s in read_table(path, StreamRow)])


def test_whole_frames_are_converted_for_what_follows_the_codec(tmp_path: Path) -> None:
    dataset = write_dataset(
        tmp_path / "dataset", [Clip("a", "train", SampleKind.CLIP, pan_frames(4, seed=0))]
    )
    path = str(dataset / "index" / "streams" / "train-000000.parquet")
    (draw,) = (row.draw for row in read_table(path, StreamRow) if row.stream == 1)
    stages = StreamDraw.model_validate_json(draw).stages
    crop = CropDraw(top=0, left=0, height=LR_HEIGHT, width=LR_WIDTH)
    resize = ResizeDraw(height=[LR_HEIGHT] * 4, width=[LR_WIDTH] * 4, kernel="bicubic")
    area = LR_HEIGHT * LR_WIDTH
    for after, converted in ((crop, 30 * 30), (resize, area)):
        _changed_streams(dataset, draw=StreamDraw(stages=[*stages, after]).model_dump_json())
        assert work_of(dataset)["lr_pixels.exact-tv"] == 4 * converted / 2
    _changed_streams(dataset, draw="{}")
    with pytest.raises(DatasetError, match="tells of no draw"):
        work_of(dataset)


@pytest.mark.parametrize(
    ("in_coding_order", "spare"),
    [("I0 P4 B2 B1 B3", "B1 B3"), ("I0 P3 B1 B2", "B1 B2"), ("I0 P3 B2 B1 I4 B5", "B1 B5"),
     ("I0 P8 B4 B2 B1 B3 B6 B5 B7", "B1 B3 B5 B7")],
)  # fmt: skip
def test_b_frames_that_others_need_are_coded_before_them(in_coding_order: str, spare: str) -> None:
    frames = in_coding_order.split()
    is_b = np.array([frame[0] == "B" for frame in frames])
    found = unreferenced(is_b, np.array([int(frame[1:]) for frame in frames]))
    assert [
        frame for frame, is_spare in zip(frames, found, strict=True) if is_spare
    ] == spare.split()
