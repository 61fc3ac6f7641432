"""A dataset as others read it: WebDataset, tar, Hugging Face datasets, DuckDB, plain FFmpeg."""

import gc
import io
import json
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import pytest
import webdataset
from huggingface_hub import DatasetCard
from PIL import Image

from pipelines.audit.dataset import Dataset, open_dataset
from schemas.record import Status
from schemas.sample import (
    FrameRow,
    LrKind,
    Sample,
    SampleKind,
    SampleRow,
    StreamRow,
    lr_member,
    member_names,
)
from schemas.source import Source
from schemas.tables import read_table
from tests.pictures import moving_clip, texture
from tests.pipelines import small
from transforms.decode import decode_hr
from transforms.motion import read_blocks

ROOT = Path(__file__).parents[1]
SOURCES = """pattern,split,licence,attribution
*/photo-a.png,train,CC0-1.0,"Ä. Person; <b>""bold""</b> | pipe"
*/photo-b.png,validation,CC-BY-4.0,B. Person
*/clip,train,CC-BY-4.0,C. Person
"""
# After the codec an own step for some samples: their records have different forms.
_TWO_ENCODERS_AND_A_SCREENSHOT = """presets = { veryfast = 1 }
[[streams.stages.encoders]]
codec = "vp8"
qscale = 20
[[streams.stages]]
op = "still"
probability = 0.5
codec = "jpeg"
quality = { min = 50, max = 90 }
"""
RECIPE = small.changed(
    ("presets = { veryfast = 1 }\n", _TWO_ENCODERS_AND_A_SCREENSHOT),
    ("validation_fraction = 0\n", "validation_fraction = 0\nshard_mib = 0.1\n"),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.make_corpus(tmp_path_factory.mktemp("media") / "Korpus ü")
    (folder / "clip").mkdir()
    for number, frame in enumerate(moving_clip(8, 70, 90, (1, 1), seed=20)):
        Image.fromarray(frame).save(folder / "clip" / f"im{number}.png")
    Image.fromarray(texture(20, 20)).save(folder / "small.png")
    return folder


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "sources.csv").write_text(SOURCES)
    options = (f"--sources={folder / 'sources.csv'}", "--separate-licences")
    return open_dataset(small.synthesize(corpus, folder / "made", RECIPE, *options))


@pytest.fixture(scope="module")
def samples(dataset: Dataset) -> list[SampleRow]:
    rows = small.samples(dataset.layout.root)
    assert len({row.shard for row in rows}) > 3
    return rows


@pytest.fixture(scope="module")
def members(dataset: Dataset, samples: list[SampleRow]) -> dict[str, dict[str, bytes]]:
    """Key -> the members, by ranged reads."""
    return {row.key: dataset.members(row) for row in samples}


def tars(dataset: Dataset) -> list[Path]:
    return [dataset.layout.tar(shard.shard) for shard in dataset.manifest.shards]


# webdataset leaves its files open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_all_samples_in_order(
    dataset: Dataset, samples: list[SampleRow], members: dict[str, dict[str, bytes]]
) -> None:
    read = list(webdataset.WebDataset([str(tar) for tar in tars(dataset)], shardshuffle=False))
    assert [item["__key__"] for item in read] == [row.key for row in samples]
    for item in read:
        own = {name: data for name, data in item.items() if not name.startswith("__")}
        assert list(own) == member_names(2)
        assert own == members[item["__key__"]]
    del read, item
    gc.collect()


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar here")
def test_tar_lists_and_extracts_the_members(
    dataset: Dataset, samples: list[SampleRow], members: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    for path in tars(dataset):
        listed = subprocess.run(["tar", "-tvf", path], check=True, capture_output=True, text=True)
        assert not listed.stderr
        lines = [(line.split()[2], line.split()[-1]) for line in listed.stdout.splitlines()]
        assert lines == [
            (str(member.size), f"{row.key}.{member.name}")
            for row in samples
            if row.shard == path.stem
            for member in row.members
        ]
        subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    extracted = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert extracted == {
        f"{key}.{name}": data for key, of_one in members.items() for name, data in of_one.items()
    }


# Hugging Face datasets


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(cache))
        import datasets  # reads the environment

        datasets.disable_progress_bars()
        yield lambda *given, **named: datasets.load_dataset(*given, cache_dir=str(cache), **named)


def rounded(value: Any) -> Any:
    """A JSON value, its numbers as exact as `datasets` keeps them."""
    match value:
        case float():
            return round(value, 9)
        case dict():
            return {name: rounded(part) for name, part in value.items()}
        case list():
            return [rounded(part) for part in value]
    return value


def test_hugging_face_loads_the_tars(
    dataset: Dataset,
    samples: list[SampleRow],
    members: dict[str, dict[str, bytes]],
    load: Callable[..., Any],
) -> None:
    loaded = load(str(dataset.layout.root), "default")
    assert {split: loaded[split].num_rows for split in loaded} == dataset.manifest.splits
    forms = set()
    for split, rows in loaded.items():
        assert [row["__key__"] for row in rows] == [r.key for r in samples if r.split == split]
        for row in rows:
            exact = members[row["__key__"]]
            assert rounded(row["json"]) == rounded(json.loads(exact["json"]))
            stored = Sample.model_validate_json(exact["json"])
            assert row["hr.zip"] == exact["hr.zip"]
            for k, stream in enumerate(stored.streams):
                assert row[f"lr{k}.nut"] == exact[f"lr{k}.nut"]
                blocks = read_blocks(exact[f"mv{k}.npy"]).tolist()
                assert [tuple(block) for block in row[f"mv{k}.npy"]] == blocks
                forms.add((bool(stream.post_steps), bool(blocks)))
    # Samples with and without steps, with and without vectors: nothing of them is inferred.
    assert [{form[k] for form in forms} for k in (0, 1)] == [{True, False}, {True, False}]


def test_hugging_face_loads_the_tables(
    dataset: Dataset, samples: list[SampleRow], load: Callable[..., Any]
) -> None:
    loaded = load(str(dataset.layout.root), "samples", data_dir="index/samples")
    assert {split: loaded[split].num_rows for split in loaded} == dataset.manifest.splits
    by_key = {row.key: row for row in samples}
    for split, rows in loaded.items():
        for row in rows:
            assert SampleRow.model_validate(row) == by_key[row["key"]]
            assert row["split"] == split
    streams = load(str(dataset.layout.root), data_dir="index/streams")
    assert sum(part.num_rows for part in streams.values()) == 2 * len(samples)


def test_the_card_names_both_configurations(dataset: Dataset) -> None:
    card = DatasetCard.load(dataset.layout.root / "README.md").data
    found = {
        config["config_name"]: {
            part["split"]: sorted(p.name for p in dataset.layout.root.glob(part["path"]))
            for part in config["data_files"]
        }
        for config in card.configs
    }
    for name, suffix in (("default", "tar"), ("samples", "parquet")):
        assert found[name] == {
            split: [f"{s.shard}.{suffix}" for s in dataset.manifest.shards if s.split == split]
            for split in ("train", "validation")
        }
    assert (card.license, card.size_categories) == ("other", ["n<1K"])
    assert card.task_categories == ["video-to-video", "image-to-image"]


# DuckDB


def queries(text: str) -> list[str]:
    return re.findall("```sql\n(.*?)```", text, re.DOTALL)


def test_the_documented_queries_find_what_they_say(dataset: Dataset) -> None:
    root = dataset.layout.root
    streams = {(s.key, s.stream): s for s in small.rows(root, "streams", StreamRow)}
    frames = list(small.rows(root, "frames", FrameRow))
    wanted = [f for f in frames if f.frame_type == "P" and 30 <= f.qp_mean <= 36]
    of_crf = [f for f in wanted if streams[f.key, f.stream].rate_mode == "crf"]
    assert 0 < len(of_crf) <= len(wanted) < len(frames)

    (documented,) = queries((ROOT / "docs" / "data.md").read_text())[:1]
    found = duckdb.execute(documented.replace("DATASET/", f"{root}/")).fetchall()
    assert Counter(found) == Counter((f.key, f.stream, f.display_index, f.qp_mean) for f in of_crf)

    (on_card,) = queries((root / "README.md").read_text())
    found = duckdb.execute(on_card.replace("'index/", f"'{root}/index/")).fetchall()
    assert Counter(found) == Counter((f.shard, f.tar_offset, f.packet_bytes) for f in wanted)


# Provenance: what the tables say of places is true of the bytes


def test_every_packet_lies_where_the_table_says(
    dataset: Dataset, samples: list[SampleRow], members: dict[str, dict[str, bytes]]
) -> None:
    frames: dict[tuple[str, int], list[FrameRow]] = defaultdict(list)
    for row in small.rows(dataset.layout.root, "frames", FrameRow):
        frames[row.key, row.stream].append(row)
    assert len(frames) == 2 * len(samples)
    for (key, stream), rows in frames.items():
        with av.open(io.BytesIO(members[key][lr_member(stream)]), "r") as nut:
            packets = [bytes(packet) for packet in nut.demux(video=0) if packet.size]
        assert len(packets) == len(rows)
        tar = dataset.layout.tar(rows[0].shard).read_bytes()
        for row in rows:
            ranged = tar[row.tar_offset : row.tar_offset + row.packet_bytes]
            assert ranged == packets[row.coding_index]


def pictures(dataset: Dataset, corpus: Path) -> dict[str, list[np.ndarray]]:
    """Source -> its frames, of what PIL can read."""
    found = {}
    for source in read_table(str(dataset.layout.sources), Source):
        path = corpus.parent / source.uris[0]
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if source.status is Status.OK and files[0].suffix == ".png":
            found[source.source_id] = [np.array(Image.open(file)) for file in files]
    return found


def test_every_hr_frame_is_the_rectangle_of_its_source(
    dataset: Dataset,
    corpus: Path,
    samples: list[SampleRow],
    members: dict[str, dict[str, bytes]],
) -> None:
    sources, kinds = pictures(dataset, corpus), set()
    for row in samples:
        if not set(row.source_ids) <= set(sources):
            continue  # a video, whose decoding is tested elsewhere
        kinds.add(row.kind)
        record = Sample.model_validate_json(members[row.key]["json"])
        hr = decode_hr(record, members[row.key]["hr.zip"])
        assert len(hr) == len(row.origins) == row.num_frames
        for frame, origin in zip(hr, row.origins, strict=True):
            whole = sources[origin.source_id][origin.frame]
            bottom, right = origin.top + row.hr_height, origin.left + row.hr_width
            assert np.array_equal(frame, whole[origin.top : bottom, origin.left : right])
    assert kinds == {SampleKind.CLIP, SampleKind.PSEUDO_VIDEO}


def test_licences_and_attributions_reach_samples(
    dataset: Dataset, samples: list[SampleRow], members: dict[str, dict[str, bytes]]
) -> None:
    sources = {row.source_id: row for row in read_table(str(dataset.layout.sources), Source)}
    for row in samples:
        of_sample = [sources[source_id] for source_id in row.source_ids]
        assert {source.licence for source in of_sample} == {row.licence}
        named = list(dict.fromkeys(s.attribution for s in of_sample if s.attribution))
        assert row.attributions == named
        record = json.loads(members[row.key]["json"])
        assert (record["licence"], record["attributions"]) == (row.licence, named)
    assert {row.licence for row in samples} == {"", "CC0-1.0", "CC-BY-4.0"}
    by_shard = defaultdict(set)
    for row in samples:
        by_shard[row.shard].add(row.licence)
    assert all(len(licences) == 1 for licences in by_shard.values())


def test_lossless_streams_are_told_apart(dataset: Dataset) -> None:
    kinds = {s.name: s.lr_kind for s in small.rows(dataset.layout.root, "streams", StreamRow)}
    assert kinds == {"noisy": LrKind.LOSSLESS, "coded": LrKind.CODEC}
