"""Small finished datasets, written with the project's own containers and codecs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from schemas.draw import CodecDraw, Origin, StreamDraw
from schemas.manifest import MANIFEST_NAME, DataFile, Environment, Manifest, Shard
from schemas.motion import MOTION_DTYPE
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION
from schemas.sample import (
    HR_MEMBER,
    FrameRow,
    Sample,
    SampleKind,
    SampleRow,
    Stream,
    StreamRow,
    lr_member,
    mv_member,
)
from schemas.shard import ShardWriter
from schemas.tables import write_table
from transforms.motion import write_blocks
from transforms.streams import MadeStream, make_stream
from transforms.tiles import pack_jpeg_tiles, pack_tiles

SCALE = 4
LR_HEIGHT, LR_WIDTH = 32, 40
CELL = 8
TILE = 64


class Clip(NamedTuple):
    """A sample to be written."""

    key: str
    split: str
    kind: SampleKind
    hr: np.ndarray
    """(T, H, W, 3) uint8"""
    jpeg_quality: int | None = None
    """of stored HR; None for lossless WebP"""


def ruler_frames(frames: int) -> np.ndarray:
    """HR whose red is the row, green the column and blue the frame."""
    t, y, x = np.indices((frames, SCALE * LR_HEIGHT, SCALE * LR_WIDTH))
    return np.stack([y, x, 10 * t], -1).astype(np.uint8)


def pan_frames(frames: int, seed: int) -> np.ndarray:
    """HR of a random texture that moves 4 HR pixels a frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (20, 40, 3)).astype(np.uint8)
    texture = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    height, width = SCALE * LR_HEIGHT, SCALE * LR_WIDTH
    return np.stack([texture[:height, 4 * t : 4 * t + width] for t in range(frames)])


def ruler_blocks(frames: int) -> np.ndarray:
    """A vector into the previous frame for each 8x8 block, (column + 1, -row - 1) pixels."""
    rows = [
        (t, -1, CELL * x + 4, CELL * y + 4, CELL, CELL, 4 * (x + 1), -4 * (y + 1))
        for t in range(1, frames)
        for y in range(LR_HEIGHT // CELL)
        for x in range(LR_WIDTH // CELL)
    ]
    return np.array(rows, MOTION_DTYPE)


def _streams(hr: np.ndarray) -> list[MadeStream]:
    lr = hr[:, ::SCALE, ::SCALE]
    codec = CodecDraw(
        codec="h264",
        rate_mode="crf",
        rate_value=35,
        preset="medium",
        gop_frames=250,
        b_frames=3,
        pixel_format="yuv420p",
        fps=25,
        height=lr.shape[1],
        width=lr.shape[2],
    )
    draws = {"clean": StreamDraw(stages=[]), "crf35": StreamDraw(stages=[codec])}
    return [make_stream(lr, draw, k, name) for k, (name, draw) in enumerate(draws.items())]


def _make_sample(clip: Clip, *, ruler: bool) -> tuple[Sample, dict[str, bytes]]:
    frames, height, width, _ = clip.hr.shape
    hr_jpeg = None
    if clip.jpeg_quality is None:
        hr_zip, hr_tiles = pack_tiles(clip.hr, TILE)
    else:
        hr_zip, hr_tiles, hr_jpeg = pack_jpeg_tiles(clip.hr, TILE, clip.jpeg_quality)
    members = {HR_MEMBER: hr_zip}
    made = _streams(clip.hr)
    for k, stream in enumerate(made):
        members[lr_member(k)] = stream.nut
        members[mv_member(k)] = write_blocks(ruler_blocks(frames) if ruler else stream.blocks)
    sample = Sample(
        schema_version=LOSSY_HR_VERSION if hr_jpeg else SCHEMA_VERSION,
        key=clip.key,
        kind=clip.kind,
        split=clip.split,
        group=clip.key,
        licence="",
        attributions=[],
        recipe_sha256="",
        seed=0,
        clip=0,
        variant=0,
        hr_id="",
        num_frames=frames,
        scale=SCALE,
        hr_height=height,
        hr_width=width,
        fps=25,
        hr_sharpened=False,
        scene_draw="{}",
        origins=[Origin(source_id="s", frame=t, top=0, left=0) for t in range(frames)],
        hr_tiles=hr_tiles,
        hr_jpeg=hr_jpeg,
        streams=[stream.stream for stream in made],
    )
    return sample, members


def _write_shard(folder: Path, shard: str, clips: Sequence[Clip], *, ruler: bool) -> DataFile:
    rows, streams, frames = [], list[StreamRow](), list[FrameRow]()
    with (folder / "data" / f"{shard}.tar").open("wb") as file:
        writer = ShardWriter(file)
        for index, clip in enumerate(clips):
            sample, members = _make_sample(clip, ruler=ruler)
            fields = sample.model_dump(exclude={"schema_version", "hr_tiles", "hr_jpeg", "streams"})
            written = writer.add(sample, members)
            row = SampleRow(
                **fields, shard=shard, index_in_shard=index, source_ids=["s"], members=written
            )
            rows.append(row)
            streams += [_stream_row(sample, stream) for stream in sample.streams]
            for stream in sample.streams:
                frames += _frame_rows(row, stream)
        size, sha256 = writer.close()
    write_table(str(folder / "index" / "samples" / f"{shard}.parquet"), SampleRow, rows)
    write_table(str(folder / "index" / "streams" / f"{shard}.parquet"), StreamRow, streams)
    write_table(str(folder / "index" / "frames" / f"{shard}.parquet"), FrameRow, frames)
    return DataFile(path=f"data/{shard}.tar", size=size, sha256=sha256, rows=len(clips))


def _stream_row(sample: Sample, stream: Stream) -> StreamRow:
    return StreamRow(key=sample.key, **stream.model_dump(exclude={"post_steps", "frames"}))


def _frame_rows(row: SampleRow, stream: Stream) -> list[FrameRow]:
    member = next(member for member in row.members if member.name == lr_member(stream.stream))
    return [
        FrameRow(
            key=row.key,
            stream=stream.stream,
            shard=row.shard,
            tar_offset=member.offset + frame.packet_position,
            **frame.model_dump(),
        )
        for frame in stream.frames
    ]


def write_dataset(
    folder: Path, clips: Sequence[Clip], *, ruler: bool = False, shard_samples: int = 10_000
) -> Path:
    """Write clips as a finished dataset of two streams, so many samples in a shard at most."""
    (folder / "data").mkdir(parents=True)
    for table in ("samples", "streams", "frames"):
        (folder / "index" / table).mkdir(parents=True)
    shards, splits = [], dict[str, int]()
    for split in sorted({clip.split for clip in clips}):
        chosen = [clip for clip in clips if clip.split == split]
        for first in range(0, len(chosen), shard_samples):
            shard = f"{split}-{first // shard_samples:06d}"
            part = chosen[first : first + shard_samples]
            tar = _write_shard(folder, shard, part, ruler=ruler)
            shards.append(
                Shard(
                    shard=shard,
                    split=split,
                    plan_sha256="",
                    num_samples=len(part),
                    num_left_out=0,
                    files=[tar],
                )
            )
        splits[split] = len(chosen)
    manifest = Manifest(
        name="tiny",
        recipe_sha256="",
        recipe={"hr": {"tile": TILE}},
        seed=0,
        environment=Environment(libraries={}, encoders={}),
        scale=SCALE,
        streams=["clean", "crf35"],
        splits=splits,
        failures={},
        shards=shards,
        tables=[],
        documents=[],
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return folder


@pytest.fixture(scope="session")
def ruler_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips of 6 frames, one of 3, and two pseudo-videos of 5, all in train."""
    clips = [Clip(f"clip{i}", "train", SampleKind.CLIP, ruler_frames(6)) for i in range(9)]
    clips.append(Clip("short", "train", SampleKind.CLIP, ruler_frames(3)))
    clips += [Clip(f"pack{i}", "train", SampleKind.PSEUDO_VIDEO, ruler_frames(5)) for i in range(2)]
    return write_dataset(tmp_path_factory.mktemp("ruler") / "dataset", clips, ruler=True)


@pytest.fixture(scope="session")
def pan_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips and a pseudo-video in train, a clip and a pseudo-video in validation."""
    kinds = [SampleKind.CLIP] * 4 + [SampleKind.PSEUDO_VIDEO, SampleKind.CLIP]
    kinds.append(SampleKind.PSEUDO_VIDEO)
    clips = [
        Clip(f"pan{i}", "train" if i < 5 else "validation", kind, pan_frames(5, seed=i))
        for i, kind in enumerate(kinds)
    ]
    return write_dataset(tmp_path_factory.mktemp("pan") / "dataset", clips)


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Callable[[Sequence[Clip]], Path]:
    """Writes a dataset of the clips given."""
    return lambda clips: write_dataset(tmp_path / "dataset", clips)
