import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.manifest import read_manifest
from schemas.sample import LrKind, Sample, SampleKind
from schemas.shard import iter_samples
from training.aligned import UNCOMPRESSED, AlignedWindow, CodedFrames, collate_aligned, strength
from training.augment import hflip, transpose
from training.config import StreamSettings
from training.dataset import SampleStream
from training.draw import Cut
from training.index import read_index
from training.pretraining import AlignedBatches
from training.samples import read_aligned, read_window
from training.shards import Shards

CUT = Cut(stream=0, start=1, count=3, top=4, left=2, height=16, width=24)
SETTINGS = StreamSettings(frames=3, crop=16, batch_size=2)


def test_all_streams_are_read_as_each_is_alone(pan_dataset: Path) -> None:
    manifest = read_manifest(pan_dataset)
    shards, entry = (
        Shards(pan_dataset, manifest.shards),
        read_index(pan_dataset, manifest, "train")[0],
    )
    window = read_aligned(shards, entry, CUT)
    assert [stream.name for stream in window.streams] == ["clean", "crf35"]
    assert [stream.strength for stream in window.streams] == [UNCOMPRESSED, 35]
    for number, stream in enumerate(window.streams):
        alone = read_window(shards, entry, dataclasses.replace(CUT, stream=number))
        assert np.array_equal(stream.lr, alone.lr)
        assert np.array_equal(stream.frame_type, alone.frame_type)
        turned = window.frames(np.array([2, 0]), ["hflip", "transpose"]).streams[number]
        assert np.array_equal(turned.lr, transpose(hflip(alone)).lr[[2, 0]])
        assert np.array_equal(turned.frame_type, alone.frame_type[[2, 0]])
    assert not np.array_equal(window.streams[0].lr, window.streams[1].lr)


def stored_sample(dataset: Path) -> Sample:
    with (dataset / "data" / "train-000000.tar").open("rb") as file:
        return Sample.model_validate_json(next(iter(iter_samples(file)))[1]["json"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 35),
        ({"rate_mode": "bitrate", "rate_value": 35e3}, math.nan),
        ({"lr_kind": LrKind.LOSSLESS, "rate_mode": "lossless"}, UNCOMPRESSED),
    ],
)
def test_strength_is_the_crf_where_there_is_one(
    pan_dataset: Path, changes: dict[str, object], expected: float
) -> None:
    stream = stored_sample(pan_dataset).streams[1].model_copy(update=changes)
    assert strength(stream) == pytest.approx(expected, nan_ok=True)
    again = stream.model_copy(update={"earlier": [json.loads("{}")]})
    assert math.isnan(strength(again))


def window_of(kind: SampleKind, frames: int) -> AlignedWindow:
    lr, types = np.zeros((frames, 4, 4, 3), np.uint8), np.zeros(frames, np.int64)
    streams = [
        CodedFrames(name=n, lr=lr, frame_type=types, strength=s) for n, s in (("a", 1), ("b", 2))
    ]
    return AlignedWindow(key="k", kind=kind, streams=streams)


def test_frames_of_a_clip_share_their_content_and_those_of_a_pseudo_video_do_not() -> None:
    clip, pseudo_video = window_of(SampleKind.CLIP, 2), window_of(SampleKind.PSEUDO_VIDEO, 2)
    batch = collate_aligned([clip, pseudo_video, clip])
    a, b, c, d, e = batch.coding.content[[0, 4, 5, 8, 11]].tolist()
    assert batch.coding.content.tolist() == [a, a, a, a, b, c, b, c, d, d, d, e]
    assert len({a, b, c, d}) == 4 and d == e
    assert batch.coding.strength.tolist() == [1, 1, 2, 2] * 3
    assert batch.lr.shape == (12, 3, 4, 4)


def test_batches_follow_from_their_number_and_begin_at_the_first_frame(pan_dataset: Path) -> None:
    stream = SampleStream(pan_dataset, "train", SETTINGS)
    batches = AlignedBatches(stream)
    first, again = batches[5], AlignedBatches(SampleStream(pan_dataset, "train", SETTINGS))[5]
    assert torch.equal(first.lr, again.lr)
    for number in range(4):
        batch = batches[number]
        assert batch.lr.shape[1:] == (3, 16, 16)
        assert batch.lr.shape[0] % 6 == 0
        types = batch.coding.frame_type.unflatten(0, (-1, 3))
        assert (types[:, 0] == 0).all()  # I
    loaded = torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(5, 6))
    assert torch.equal(next(iter(loaded)).lr, first.lr)
    floats = first.to(torch.device("cpu")).lr
    assert floats.dtype is torch.float32 and 0.5 < floats.max() <= 1
