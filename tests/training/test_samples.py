import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from schemas.manifest import DatasetError, read_manifest
from schemas.record import SchemaVersionError
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, SampleKind, lr_member, mv_member
from schemas.shard import MemberParts, iter_samples, read_member
from tests.training.conftest import LR_HEIGHT, LR_WIDTH, SCALE, Clip, pan_frames
from training import samples
from training.draw import Cut
from training.index import Entry, read_index
from training.samples import read_window
from training.shards import Shards
from transforms.decode import decode_hr, decode_lr
from transforms.motion import dense_flow, read_blocks


def entry_of(dataset: Path, key: str) -> Entry:
    index = read_index(dataset, read_manifest(dataset), "train")
    return index[index.keys().index(key)]


def shards_of(dataset: Path) -> Shards:
    return Shards(dataset, read_manifest(dataset).shards)


def stored(dataset: Path, key: str) -> dict[str, bytes]:
    with (dataset / "data" / "train-000000.tar").open("rb") as file:
        return dict(iter_samples(file))[key]


def cut_of(**changes: int) -> Cut:
    fields = {"stream": 0, "start": 0, "count": 1, "top": 0, "left": 0, "height": 8, "width": 8}
    return Cut(**{**fields, **changes})


def test_a_window_is_a_part_of_what_is_decoded_whole(pan_dataset: Path) -> None:
    members = stored(pan_dataset, "pan0")
    sample = Sample.model_validate_json(members["json"])
    hr = decode_hr(sample, members[HR_MEMBER])
    rng = np.random.default_rng(0)
    for _ in range(30):
        stream, count = int(rng.integers(2)), int(rng.integers(1, 6))
        height, width = (int(rng.integers(1, side + 1)) for side in (LR_HEIGHT, LR_WIDTH))
        start, top, left = (
            int(rng.integers(side + 1))
            for side in (5 - count, LR_HEIGHT - height, LR_WIDTH - width)
        )
        cut = Cut(
            stream=stream, start=start, count=count, top=top, left=left, height=height, width=width
        )
        window = read_window(shards_of(pan_dataset), entry_of(pan_dataset, "pan0"), cut)
        record = sample.streams[stream]
        part = np.s_[start : start + count, top : top + height, left : left + width]
        assert np.array_equal(window.lr, decode_lr(record, members[lr_member(stream)])[part])
        rows, columns = (slice(SCALE * s.start, SCALE * s.stop) for s in part[1:])
        assert np.array_equal(window.hr, hr[part[0], rows, columns])
        blocks = read_blocks(members[mv_member(stream)])
        whole = dense_flow(blocks, record, LR_HEIGHT, LR_WIDTH, 0, 5)
        for found, all_of_it in zip(window.flow, whole, strict=True):
            assert np.array_equal(found, all_of_it[part])


def test_of_hr_only_the_tiles_under_the_window_are_read(
    pan_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, read = entry_of(pan_dataset, "pan0"), []

    class Watched(MemberParts):
        def __getitem__(self, part: slice) -> bytes:
            data = super().__getitem__(part)
            read.append(len(data))
            return data

    monkeypatch.setattr(samples, "MemberParts", Watched)
    window = read_window(shards_of(pan_dataset), entry, cut_of(count=2))
    assert window.hr.shape == (2, 8 * SCALE, 8 * SCALE, 3)
    assert len(read) == 2 and sum(read) < entry.members[HR_MEMBER].size / 8


def test_damage_to_a_tile_is_told_where_it_is_read(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, pan_frames(3, seed=0))])
    entry, shard = entry_of(dataset, "a"), dataset / "data" / "train-000000.tar"
    tile = Sample.model_validate_json(stored(dataset, "a")["json"]).hr_tiles[0]
    data = bytearray(shard.read_bytes())
    data[entry.members[HR_MEMBER].offset + tile.offset + tile.size // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"sample a: .*checksum.*copy the dataset again"):
        read_window(shards_of(dataset), entry, cut_of())
    read_window(shards_of(dataset), entry, cut_of(start=1))


@pytest.fixture
def record(ruler_dataset: Path) -> dict[str, Any]:
    """The fields of a sample."""
    fields: dict[str, Any] = json.loads(stored(ruler_dataset, "short")["json"])
    return fields


@pytest.mark.parametrize("fields", [{}, {"new": 1}, {"scale": "four"}])
def test_another_version_is_told_whatever_else_is_different(
    record: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = {**record, "schema_version": "99.0", **fields}
    with pytest.raises(SchemaVersionError, match=r"sample short has schema version '99\.0'"):
        samples._parse_sample(json.dumps(made).encode())


@pytest.mark.parametrize("fields", [{"new": 1}, {"scale": "four"}, {"fps": float("nan")}])
def test_a_record_of_this_version_is_checked(
    record: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert samples._parse_sample(json.dumps(record).encode()).key == "short"
    with pytest.raises(ValidationError):
        samples._parse_sample(json.dumps({**record, **fields}).encode())


def test_a_window_of_hr_as_jpeg_is_the_decoder_s_crop(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    hr = pan_frames(5, seed=1)
    dataset = tiny_dataset([Clip("lossy", "train", SampleKind.CLIP, hr, jpeg_quality=95)])
    manifest = read_manifest(dataset)
    (entry,) = read_index(dataset, manifest, "train")
    with (dataset / "data" / "train-000000.tar").open("rb") as file:
        members = {n: read_member(file, entry.members[n]) for n in (JSON_MEMBER, HR_MEMBER)}
    whole = decode_hr(Sample.model_validate_json(members[JSON_MEMBER]), members[HR_MEMBER])
    assert whole.shape == hr.shape and not np.array_equal(whole, hr)
    for start, count, top, left, side in ((0, 5, 0, 0, LR_HEIGHT), (2, 2, 9, 11, 16)):
        cut = Cut(stream=1, start=start, count=count, top=top, left=left, height=side, width=side)
        window = read_window(shards_of(dataset), entry, cut)
        rows = slice(SCALE * top, SCALE * (top + side))
        columns = slice(SCALE * left, SCALE * (left + side))
        assert np.array_equal(window.hr, whole[start : start + count, rows, columns])
        assert window.lr.shape == (count, side, side, 3) and side <= LR_WIDTH
