"""Writes docs/reference.md from the schemas: `python -m docs.reference`."""

from collections.abc import Sequence
from pathlib import Path

import schemas.motion
from schemas import draw, recipe
from schemas.manifest import DataFile, Environment, Manifest, Shard
from schemas.motion import MOTION_DTYPE
from schemas.plan import PlannedSample, Span
from schemas.record import SCHEMA_VERSION, Record
from schemas.sample import (
    Frame,
    FrameRow,
    HrTile,
    Member,
    Origin,
    PostStep,
    Sample,
    SampleRow,
    Stream,
    StreamRow,
    member_names,
)
from schemas.source import Source
from schemas.tables import field_table

PAGE = Path(__file__).with_name("reference.md")

_TABLES: dict[str, tuple[type[Record], str]] = {
    "index/plan.parquet": (PlannedSample, "what was going to be made, one row group per shard"),
    "index/sources.parquet": (Source, "every content found, those left out included"),
    "index/samples/*.parquet": (SampleRow, "every planned sample, those that failed included"),
    "index/streams/*.parquet": (StreamRow, "every LR stream"),
    "index/frames/*.parquet": (FrameRow, "every coded LR frame"),
    "index/shards.parquet": (Shard, "every shard; also `index/shards/*.json`, its commit marker"),
}
_PARTS = (Span, Origin, HrTile, PostStep, Member, Frame, Stream, DataFile, Environment)
_RECIPE = (
    recipe.Recipe,
    recipe.HrSettings,
    recipe.ClipSettings,
    recipe.PseudoVideoSettings,
    recipe.StreamSettings,
    recipe.BlurStage,
    recipe.ResizeStage,
    recipe.NoiseStage,
    recipe.JpegStage,
    recipe.DownscaleStage,
    recipe.CodecStage,
    recipe.EncoderSettings,
    recipe.Scaling,
    recipe.Range,
)
_DRAWS = (
    draw.SceneDraw,
    draw.StreamDraw,
    draw.BlurDraw,
    draw.ResizeDraw,
    draw.NoiseDraw,
    draw.JpegDraw,
    draw.CodecDraw,
)


def page() -> str:
    """The reference page, in Markdown."""
    parts = [
        "# Reference",
        f"Schema version {SCHEMA_VERSION}. Written by `make docs` from the definitions in "
        "`schemas/`; do not edit.",
        "## Members of a sample",
        "A shard `data/<shard>.tar` holds these members of each sample, named `<key>.<member>`; "
        f"for two streams: {', '.join(f'`{name}`' for name in member_names(2))}.",
        _members(),
        "## The record of a sample: member `json`",
        _fields(Sample),
        *(f"### {part.__name__}\n\n{_fields(part)}" for part in _PARTS),
        "### Motion vectors: members `mv<k>.npy`",
        _motion(),
        "## Tables",
        *(
            f"### `{name}`\n\n{what[0].upper()}{what[1:]}.\n\n{_columns(record)}"
            for name, (record, what) in _TABLES.items()
        ),
        "## `manifest.json`",
        _fields(Manifest),
        "## Recipes",
        *(f"### {record.__name__}\n\n{_doc(record)}\n\n{_fields(record)}" for record in _RECIPE),
        "## Draws",
        *(f"### {record.__name__}\n\n{_doc(record)}\n\n{_fields(record)}" for record in _DRAWS),
    ]
    return "\n\n".join(parts) + "\n"


def _members() -> str:
    rows = [
        ("json", "the record below"),
        ("hr.zip", "HR tiles, lossless WebP files in an uncompressed ZIP"),
        ("lr<k>.nut", "the bitstream of LR stream k, in NUT"),
        ("mv<k>.npy", "its motion vectors, empty where the codec gives none"),
    ]
    return _table(("member", "content"), [(f"`{name}`", what) for name, what in rows])


def _motion() -> str:
    names = MOTION_DTYPE.names or ()
    rows = [(f"`{name}`", f"`{MOTION_DTYPE[name]}`") for name in names]
    return f"{schemas.motion.__doc__}\n\n{_table(('column', 'type'), rows)}"


def _doc(record: type[Record]) -> str:
    return " ".join((record.__doc__ or "").split())


def _fields(record: type[Record]) -> str:
    rows = [
        (f"`{name}`", _default(field.get_default(call_default_factory=False)), field.description)
        for name, field in record.model_fields.items()
    ]
    has_defaults = any(default for _, default, _ in rows)
    if has_defaults:
        return _table(("field", "default", "meaning"), [(n, d, m or "") for n, d, m in rows])
    return _table(("field", "meaning"), [(n, m or "") for n, _, m in rows])


def _default(value: object) -> str:
    if isinstance(value, Record):
        value = value.model_dump(mode="json")
    text = repr(value)
    return "" if "Undefined" in text else f"`{text}`"


def _columns(record: type[Record]) -> str:
    rows = [(f"`{name}`", kind, doc) for name, kind, doc in field_table(record)]
    return _table(("column", "type", "meaning"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
