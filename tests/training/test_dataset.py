import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from schemas.manifest import MANIFEST_NAME, DatasetError, read_manifest
from schemas.record import SchemaVersionError
from schemas.sample import FrameType, SampleKind, SampleRow
from schemas.tables import read_table, write_table
from tests.training.conftest import CELL, SCALE, Clip, ruler_frames
from training import augment
from training.batch import Batch, collate
from training.config import StreamSettings, UserError
from training.dataset import SampleStream
from training.index import read_index
from training.samples import read_window
from training.shards import Shards

SETTINGS = StreamSettings(frames=4, crop=16, batch_size=2, seed=3)


def load(stream: SampleStream, workers: int = 0) -> list[Batch]:
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    return [batch.to(torch.device("cpu")) for batch in loader]


def clips(batches: list[Batch]) -> list[Batch]:
    return [batch for batch in batches if batch.keys[0].startswith(("clip", "short"))]


def same(a: Batch, b: Batch) -> bool:
    return a.keys == b.keys and torch.equal(a.lr, b.lr) and torch.equal(a.hr, b.hr)


def simulate_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)


def test_hr_lies_where_lr_says_after_crop_and_flips(ruler_dataset: Path) -> None:
    for batch in load(SampleStream(ruler_dataset, "train", SETTINGS)):
        lr, hr = (batch.lr * 255).round(), (batch.hr * 255).round()
        clean = torch.tensor([name == "clean" for name in batch.stream_names])
        large = lr.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
        rows_and_columns = hr[:, :, :2] // SCALE * SCALE
        assert torch.equal(rows_and_columns[clean], large[:, :, :2][clean])
        assert torch.equal(hr[clean][:, :, 2], large[clean][:, :, 2])


def test_vectors_are_cropped_and_turned_with_the_picture(ruler_dataset: Path) -> None:
    seen = 0
    for epoch in range(3):
        for batch in clips(load(SampleStream(ruler_dataset, "train", SETTINGS).epoch(epoch))):
            for n in range(len(batch.keys)):
                if batch.stream_names[n] == "clean":
                    check_vectors(batch, n)
                    seen += 1
    assert seen > 5


def check_vectors(batch: Batch, n: int) -> None:
    row, column = (batch.lr[n, 0, :2] * 255 / SCALE).round()
    # How the picture was turned, read off its rulers: (column, row) of the sample by (x, y).
    turn = torch.stack(
        [
            torch.stack([column[0, 1] - column[0, 0], column[1, 0] - column[0, 0]]),
            torch.stack([row[0, 1] - row[0, 0], row[1, 0] - row[0, 0]]),
        ]
    )
    expected = torch.stack([column // CELL + 1, -(row // CELL) - 1])
    known = batch.flow_valid[n] & 1 == 1
    assert known[1:].all()
    for t in range(1, batch.lr.shape[1]):
        untransformed = torch.einsum("ij,jhw->ihw", turn, batch.flow_previous[n, t])
        assert torch.equal(untransformed, expected)


def test_windows_are_consecutive_frames_of_the_sample(ruler_dataset: Path) -> None:
    starts = set()
    for batch in clips(load(SampleStream(ruler_dataset, "train", SETTINGS))):
        frame = (batch.hr[:, :, 2, 0, 0] * 255 / 10).round()
        assert (frame.diff(dim=1) == 1).all()
        starts |= set(frame[:, 0].tolist())
    assert len(starts) > 1


def test_shapes_and_types_are_those_of_the_batch(ruler_dataset: Path) -> None:
    for batch in load(SampleStream(ruler_dataset, "train", SETTINGS)):
        n, t = batch.lr.shape[:2]
        assert len(batch.keys) == len(batch.stream_names) == n
        assert batch.lr.shape == (n, t, 3, 16, 16)
        assert batch.hr.shape == (n, t, 3, 64, 64)
        assert batch.flow_previous.shape == batch.flow_next.shape == (n, t, 2, 16, 16)
        assert batch.flow_valid.shape == (n, t, 16, 16)
        assert batch.frame_type.shape == batch.qp.shape == (n, t)
        assert {x.dtype for x in (batch.lr, batch.hr, batch.flow_next, batch.qp)} == {torch.float32}
        assert (batch.flow_valid.dtype, batch.frame_type.dtype) == (torch.uint8, torch.int64)
        assert batch.lr.min() >= 0 and batch.lr.max() <= 1


def test_every_sample_comes_up_once_an_epoch(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    for epoch in range(2):
        batches = load(stream.epoch(epoch))
        assert len(batches) == stream.batches_per_epoch == 5 + 1 + 1
        frames = Counter(key for batch in batches for key in batch.keys)
        assert frames == {
            **{f"clip{i}": 1 for i in range(9)}, "short": 1, "pack0": 4, "pack1": 4,
        }  # fmt: skip


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_are_the_same_whatever_the_workers(ruler_dataset: Path, workers: int) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(4, 18)
    alone, together = load(stream), load(stream, workers)
    assert len(alone) == len(together) == 14
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("uneven", ["drop", "pad"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_take_turns_and_get_equally_many(
    ruler_dataset: Path,
    world_size: int,
    uneven: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = SETTINGS.model_copy(update={"uneven": uneven})
    one = SampleStream(ruler_dataset, "train", settings)
    size = one.batches_per_epoch  # 7: neither 2 nor 3 divide it
    each = size // world_size if uneven == "drop" else -(-size // world_size)
    expected = load(one.batches(0, each * world_size))
    for rank in range(world_size):
        simulate_rank(monkeypatch, rank, world_size)
        stream = SampleStream(ruler_dataset, "train", settings)
        assert f"7 batches do not divide evenly among {world_size} ranks" in caplog.text
        for workers in (0, 2):
            batches = load(stream, workers)
            assert len(batches) == len(stream) == each
            mine = expected[rank::world_size]
            assert all(same(a, b) for a, b in zip(batches, mine, strict=True))


def test_a_batch_tells_what_makes_it_again(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    manifest = read_manifest(ruler_dataset)
    shards = Shards(ruler_dataset, manifest)
    index = {entry.key: entry for entry in read_index(ruler_dataset, manifest, "train")}
    turns = set()
    for batch in clips(load(stream)):
        for n, draw in enumerate(batch.draws):
            assert draw is not None and draw.key == batch.keys[n]
            window = read_window(shards, index[draw.key], draw.cut)
            for name in draw.turns:
                window = getattr(augment, name)(window)
            again = collate([window]).to(torch.device("cpu"))
            assert torch.equal(again.lr[0], batch.lr[n]) and torch.equal(again.hr[0], batch.hr[n])
            assert torch.equal(again.flow_next[0], batch.flow_next[n])
            turns.add(draw.turns)
    assert len(turns) > 2


def test_a_state_goes_on_where_it_was(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 10)
    whole, batches = load(stream), iter(stream)
    for _ in range(4):
        next(batches)
    state = json.loads(json.dumps(stream.state_dict()))
    again = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 10)
    again.load_state_dict(state)
    rest = load(again)
    assert len(rest) == 6
    assert all(same(a, b) for a, b in zip(rest, whole[4:], strict=True))
    assert len(load(again)) == 10  # from its beginning, the next time
    other = SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"seed": 4}))
    with pytest.raises(UserError, match="settings"):
        other.load_state_dict(state)


def test_epochs_and_seeds_differ_and_repeat(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    first, again, second = load(stream.epoch(0)), load(stream.epoch(0)), load(stream.epoch(1))
    other = load(SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"seed": 4})))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert [b.keys for b in first] != [b.keys for b in second]
    assert [b.keys for b in first] != [b.keys for b in other]
    assert {b.lr.double().sum().item() for b in first}.isdisjoint(
        b.lr.double().sum().item() for b in second
    )


def test_all_streams_are_drawn(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 28)
    names = Counter(name for batch in clips(load(stream)) for name in batch.stream_names)
    assert names.keys() == {"clean", "crf35"}
    assert min(names.values()) >= 10


def test_a_pseudo_video_is_pictures_without_motion(ruler_dataset: Path) -> None:
    batches = load(SampleStream(ruler_dataset, "train", SETTINGS))
    (batch,) = [batch for batch in batches if batch.keys[0].startswith("pack")]
    assert batch.lr.shape == (8, 1, 3, 16, 16)
    assert batch.hr.shape == (8, 1, 3, 64, 64)
    assert not batch.flow_previous.any() and not batch.flow_next.any()
    assert not batch.flow_valid.any()


def test_frame_types_and_quantisers_come_from_the_stream(ruler_dataset: Path) -> None:
    settings = StreamSettings(frames=6, crop=32, batch_size=1)
    batches = clips(load(SampleStream(ruler_dataset, "train", settings)))
    coded = [b for b in batches if b.stream_names == ("crf35",) and b.lr.shape[1] == 6]
    assert coded
    for batch in coded:
        assert batch.frame_type[0, 0] == FrameType.I.code
        assert (batch.frame_type[0, 1:] != FrameType.I.code).all()
        assert (batch.qp > 0).all()


def test_windows_longer_than_every_sample_are_refused(ruler_dataset: Path) -> None:
    with pytest.raises(UserError, match="--frames 6 or less"):
        SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"frames": 7}))


def test_a_crop_larger_than_a_sample_is_refused(ruler_dataset: Path) -> None:
    with pytest.raises(UserError, match="--crop 32 or less"):
        SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"crop": 33}))


def test_an_empty_split_is_refused(ruler_dataset: Path) -> None:
    with pytest.raises(UserError, match="no samples in its split 'validation'"):
        SampleStream(ruler_dataset, "validation", SETTINGS)


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no manifest\.json"):
        SampleStream(tmp_path, "train", SETTINGS)


def test_damage_is_an_error_not_another_sample(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    stream = SampleStream(dataset, "train", SETTINGS)
    shard = dataset / "data" / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"sample a: .*checksum.*copy the dataset again"):
        load(stream)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"train-000000\.tar is missing"):
        load(stream)
    (dataset / "index" / "samples" / "train-000000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"train-000000\.parquet is missing"):
        SampleStream(dataset, "train", SETTINGS)


@pytest.mark.parametrize("name", ["../a/data/train-000000", "/etc/passwd", "a\nb", ""])
def test_a_shard_that_would_lie_elsewhere_is_refused(
    tiny_dataset: Callable[[list[Clip]], Path], name: str
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    manifest = json.loads((dataset / MANIFEST_NAME).read_text())
    manifest["shards"][0]["shard"] = name
    (dataset / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="may lead out of it"):
        SampleStream(dataset, "train", SETTINGS)


def test_rows_that_name_another_shard_lead_nowhere(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    table = str(dataset / "index" / "samples" / "train-000000.parquet")
    (row,) = read_table(table, SampleRow)
    write_table(table, SampleRow, [row.model_copy(update={"shard": "../../elsewhere"})])
    (batch,) = load(SampleStream(dataset, "train", SETTINGS))
    assert batch.keys == ("a",)


def test_another_schema_version_is_refused(tiny_dataset: Callable[[list[Clip]], Path]) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    manifest = json.loads((dataset / MANIFEST_NAME).read_text())
    (dataset / MANIFEST_NAME).write_text(json.dumps({**manifest, "schema_version": "99.0"}))
    with pytest.raises(SchemaVersionError, match=r"99\.0"):
        SampleStream(dataset, "train", SETTINGS)
