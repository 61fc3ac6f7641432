"""What the tables of a dataset say of it as a whole."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from pipelines.layout import Layout
from schemas.manifest import DatasetError, Manifest, Shard
from schemas.record import Record, Status
from schemas.sample import FrameRow, SampleKind, SampleRow, StreamRow
from schemas.source import Source
from schemas.tables import read_columns

_BAND = 5  # of rate factors and quantisers


class Coding(NamedTuple):
    """A kind of LR stream. Sorts by codec, then by rate."""

    codec: str
    rate_mode: str
    rate_band: tuple[float, float]
    """least rate, and the first that is too large; (0, 0) for lossless"""


@dataclass
class Facts:
    """Counts over all tables."""

    num_planned: int = 0
    """samples, those left out included"""
    samples: Counter[tuple[str, SampleKind]] = field(default_factory=Counter)
    """made, by split and kind"""
    frames: Counter[tuple[str, SampleKind]] = field(default_factory=Counter)
    """HR frames of them"""
    sources: Counter[bool] = field(default_factory=Counter)
    """by whether they can be used"""
    samples_left_out: Counter[tuple[Status, str]] = field(default_factory=Counter)
    """by status and reason"""
    sources_left_out: Counter[tuple[Status, str]] = field(default_factory=Counter)
    """by status and reason"""
    licences: Counter[str] = field(default_factory=Counter)
    """samples made, by licence; empty where it is not known"""
    attributions: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """licence -> whom to name"""
    streams: Counter[Coding] = field(default_factory=Counter)
    """LR streams"""
    frame_types: Counter[tuple[Coding, str]] = field(default_factory=Counter)
    """coded LR frames"""


def read_facts(shards: Iterable[Shard], layout: Layout) -> Facts:
    """Count what a dataset holds.

    Args:
        shards: all of them.
        layout: where its tables are.

    Raises:
        OSError: if a table is missing or damaged.
        ValueError: if tables do not fit together.
    """
    facts = Facts()
    _count_sources(facts, layout)
    for shard in shards:
        facts.num_planned += shard.num_samples + shard.num_left_out
        _count_samples(facts, layout, shard.shard)
        _count_streams(facts, layout, shard.shard)
    return facts


def hr_storage(manifest: Manifest) -> str:
    """How HR is stored, if not all of it exactly; else empty."""
    quality = manifest.recipe.get("hr", {}).get("jpeg_quality")
    if quality is None:
        return ""
    return (
        f"HR of the train split is stored as JPEG 4:4:4 of quality {quality}, which is not exact; "
        "HR of the validation split is exact, and so is all that LR was made of."
    )


def _count_sources(facts: Facts, layout: Layout) -> None:
    for row in read_columns(str(layout.sources), Source, ["status", "reason"]).to_pylist():
        is_used = row["status"] == Status.OK
        facts.sources[is_used] += 1
        if not is_used:
            facts.sources_left_out[Status(row["status"]), row["reason"]] += 1


def _count_samples(facts: Facts, layout: Layout, shard: str) -> None:
    columns = ["status", "reason", "split", "kind", "num_frames", "licence", "attributions"]
    table = read_columns(str(layout.table("samples", shard)), SampleRow, columns)
    for row in table.to_pylist():
        if row["status"] != Status.OK:
            facts.samples_left_out[Status(row["status"]), row["reason"]] += 1
            continue
        group = (row["split"], SampleKind(row["kind"]))
        facts.samples[group] += 1
        facts.frames[group] += row["num_frames"]
        facts.licences[row["licence"]] += 1
        facts.attributions[row["licence"]].update(row["attributions"])


def _count_streams(facts: Facts, layout: Layout, shard: str) -> None:
    def read(table: str, record: type[Record], columns: list[str]) -> pa.Table:
        return read_columns(str(layout.table(table, shard)), record, columns)

    columns = ["key", "stream", "codec", "rate_mode", "rate_value"]
    codings = {
        (row["key"], row["stream"]): Coding(
            row["codec"], row["rate_mode"], _band(row["rate_mode"], row["rate_value"])
        )
        for row in read("streams", StreamRow, columns).to_pylist()
    }
    facts.streams.update(codings.values())
    frames = read("frames", FrameRow, ["key", "stream", "frame_type"])
    counts = frames.group_by(["key", "stream", "frame_type"]).aggregate([([], "count_all")])
    for row in counts.to_pylist():
        coding = codings.get((row["key"], row["stream"]))
        if coding is None:
            raise DatasetError(f"{shard}: frames of no stream: {row['key']}, {row['stream']}")
        facts.frame_types[coding, row["frame_type"]] += row["count_all"]


def _band(rate_mode: str, rate: float) -> tuple[float, float]:
    """The interval of rates that a rate is counted in: bitrates by octaves, others by fives."""
    if rate_mode == "lossless":
        return 0, 0
    if rate_mode == "bitrate":
        octave = math.floor(math.log2(rate))
        return 2.0**octave, 2.0 ** (octave + 1)
    start = _BAND * (rate // _BAND)
    return start, start + _BAND
