from collections.abc import Callable
from pathlib import Path

import numpy as np

from schemas.manifest import read_manifest
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, SampleKind
from schemas.shard import read_member
from tests.training.conftest import LR_HEIGHT, LR_WIDTH, SCALE, Clip, pan_frames
from training.draw import Cut
from training.index import read_index
from training.samples import read_window
from training.shards import Shards
from transforms.decode import decode_hr


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
        window = read_window(Shards(dataset, manifest), entry, cut)
        rows = slice(SCALE * top, SCALE * (top + side))
        columns = slice(SCALE * left, SCALE * (left + side))
        assert np.array_equal(window.hr, whole[start : start + count, rows, columns])
        assert window.lr.shape == (count, side, side, 3) and side <= LR_WIDTH
