"""Writes docs/reference.md from the schemas: `python -m docs.reference`."""

from collections.abc import Sequence
from pathlib import Path

from pydantic_core import PydanticUndefined

import schemas.motion
from schemas import codec_stage, draw, number, recipe, stages
from schemas.encoders import ENCODERS, EncoderTraits
from schemas.manifest import DataFile, Environment, Manifest, Shard
from schemas.motion import MOTION_DTYPE
from schemas.plan import PlannedSample, Span
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION, Record
from schemas.sample import (
    Frame,
    FrameRow,
    Generation,
    HrJpeg,
    HrTile,
    Member,
    Sample,
    SampleRow,
    Stream,
    StreamRow,
    member_names,
)
from schemas.source import Source
from schemas.tables import field_table
from schemas.view import ViewRow
from schemas.wording import markdown_table

PAGE = Path(__file__).with_name("reference.md")

_TABLES: dict[str, tuple[type[Record], str]] = {
    "index/plan.parquet": (PlannedSample, "what was going to be made, one row group per shard"),
    "index/sources.parquet": (Source, "every content found, those left out included"),
    "index/samples/*.parquet": (SampleRow, "every planned sample, those that failed included"),
    "index/streams/*.parquet": (StreamRow, "every LR stream"),
    "index/frames/*.parquet": (FrameRow, "every coded LR frame"),
    "index/shards.parquet": (Shard, "every shard; also `index/shards/*.json`, its commit marker"),
    "VIEW.parquet": (ViewRow, "what to train on; no part of the dataset: `pipelines.view`"),
}
_PARTS = (
    Span,
    draw.Origin,
    HrTile,
    HrJpeg,
    Member,
    Stream,
    Generation,
    Frame,
    DataFile,
    Environment,
)
_RECIPE = (
    recipe.Recipe,
    recipe.HrSettings,
    recipe.ClipSettings,
    recipe.PseudoVideoSettings,
    recipe.CameraSettings,
    recipe.StreamSettings,
    number.Range,
    number.Scaling,
    stages.BlurStage,
    stages.ResizeStage,
    stages.NoiseStage,
    stages.StillStage,
    stages.SharpenStage,
    stages.DenoiseStage,
    stages.RetimeStage,
    stages.DownscaleStage,
    codec_stage.CodecStage,
    codec_stage.EncoderSettings,
    codec_stage.ColorSettings,
    stages.ShuffleStage,
    stages.ChoiceStage,
    stages.Branch,
)
_DRAWS = (
    draw.SceneDraw,
    draw.View,
    draw.StreamDraw,
    draw.BlurDraw,
    draw.ResizeDraw,
    draw.NoiseDraw,
    draw.StillDraw,
    draw.SharpenDraw,
    draw.DenoiseDraw,
    draw.RetimeDraw,
    draw.PadDraw,
    draw.CropDraw,
    draw.CodecDraw,
    draw.ColorDraw,
    draw.LostSlice,
)


def page() -> str:
    """The reference page, in Markdown."""
    parts = [
        "# Reference",
        f"Schema version {SCHEMA_VERSION}; {LOSSY_HR_VERSION} of manifests and samples with HR as "
        "JPEG. Written by `make docs` from the definitions in `schemas/`; do not edit.",
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
        "A number is fixed (`3`), one of a list (`[1, 2, 4]`), or drawn from a `Range` "
        "(`{ min = 0.2, max = 3 }`). Fields without a default are required. What each recipe is "
        "for, and what it reproduces: [degradations.md](degradations.md).",
        *(f"### {record.__name__}\n\n{_doc(record)}\n\n{_fields(record)}" for record in _RECIPE),
        "### What each codec takes",
        _encoders(),
        "## Draws",
        "Stored as JSON in `scene_draw` and in each stream's `draw`, and enough to make the sample "
        "again. `post_steps` holds the same records.",
        *(f"### {record.__name__}\n\n{_doc(record)}\n\n{_fields(record)}" for record in _DRAWS),
    ]
    return "\n\n".join(parts) + "\n"


def _members() -> str:
    rows = [
        ("json", "the record below"),
        ("hr.zip", "HR tiles, lossless WebP or JPEG files in an uncompressed ZIP"),
        ("lr<k>.nut", "the bitstream of LR stream k, in NUT"),
        ("mv<k>.npy", "its motion vectors, empty where the codec gives none"),
    ]
    return _table(("member", "content"), [(f"`{name}`", what) for name, what in rows])


def _motion() -> str:
    names = MOTION_DTYPE.names or ()
    rows = [(f"`{name}`", f"`{MOTION_DTYPE[name]}`") for name in names]
    stored = "Stored as an (N, 8) array of int16, which `numpy.load(...).view(MOTION_DTYPE)` names."
    return f"{schemas.motion.__doc__}\n{stored}\n\n{_table(('column', 'type'), rows)}"


def _encoders() -> str:
    header = ("codec", "encoder", "rates", "presets", "B frames", "formats", "optional settings")
    return _table(header, [_encoder_row(name, traits) for name, traits in ENCODERS.items()])


def _encoder_row(name: str, traits: EncoderTraits) -> tuple[str, ...]:
    limits = {"crf": traits.crf, "qscale": traits.qscale}
    rates = [f"{mode} {_span(limits[mode])}" for mode in traits.rate_modes if mode in limits]
    presets = f"{traits.presets[0]} to {traits.presets[-1]}" if traits.presets else "none"
    extra = {"tunes": traits.tunes, "profiles": traits.profiles}
    settings = [*sorted(traits.takes), *(key for key, names in extra.items() if names)]
    return (
        f"`{name}`",
        traits.encoder,
        ", ".join([*rates, "bitrate"]),
        presets,
        str(traits.max_b_frames),
        ", ".join(traits.pixel_formats),
        ", ".join(settings),
    )


def _span(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


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
    if value is PydanticUndefined:
        return ""
    return "none" if value is None else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    """As in a recipe; of a record only what differs from its own defaults."""
    match value:
        case Record():
            return _toml(value.model_dump(mode="json", exclude_defaults=True))
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case dict():
            pairs = [f"{key or _toml(key)} = {_toml(item)}" for key, item in value.items()]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return str(value)


def _columns(record: type[Record]) -> str:
    rows = [(f"`{name}`", kind, doc) for name, kind, doc in field_table(record)]
    return _table(("column", "type", "meaning"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows)
    return markdown_table(header, cells)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
