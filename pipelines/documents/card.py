"""`README.md`: the dataset card, as the Hugging Face Hub reads it and as a person does."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pipelines.documents.facts import Coding, Facts, hr_storage
from pipelines.layout import Layout
from pipelines.licences import UNKNOWN_LICENCE, spdx_identifier
from schemas.manifest import Manifest
from schemas.record import Status
from schemas.sample import HR_MEMBER, JSON_MEMBER, FrameType, SampleKind, lr_member, mv_member
from schemas.source import SPLITS
from schemas.wording import KIND_NAMES, counted, markdown_table

_DATASET = Layout(Path())
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_LARGEST = "n>1M"


def dataset_card(manifest: Manifest, facts: Facts) -> str:
    """The card: YAML for programs, then Markdown for people."""
    front = yaml.safe_dump(_front(manifest, facts), sort_keys=False, allow_unicode=True)
    parts = [
        _introduction(manifest, facts),
        "## Samples",
        _samples(manifest, facts),
        "## LR streams",
        _streams(facts),
        "## What was left out",
        _left_out(facts),
        "## Licences and attribution",
        _licences(facts),
        "## Loading",
        _loading(manifest),
        "## Checking and making again",
        _CHECKING,
        "## What it was made with",
        _environment(manifest),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def _front(manifest: Manifest, facts: Facts) -> dict[str, Any]:
    kinds = {kind for _, kind in facts.samples}
    return {
        "pretty_name": manifest.name,
        **_front_licence(facts),
        "size_categories": [_size_category(facts.samples.total())],
        "task_categories": [
            *(["video-to-video"] if kinds - {SampleKind.PSEUDO_VIDEO} else []),
            *(["image-to-image"] if SampleKind.PSEUDO_VIDEO in kinds else []),
        ],
        "tags": [
            "super-resolution",
            "compression",
            "webdataset",
            *sorted({coding.codec for coding in facts.streams}),
        ],
        "configs": [
            _config("default", _DATASET.tar, manifest),
            _config("samples", partial(_DATASET.table, "samples"), manifest),
        ],
        "dataset_info": [{"config_name": "default", "features": _features(len(manifest.streams))}],
    }


def _front_licence(facts: Facts) -> dict[str, str]:
    known = {spdx_identifier(licence) for licence in facts.licences}
    if len(known) == 1 and (only := known.pop()):
        return {"license": only.lower()}
    return {"license": "other", "license_name": "of-each-source", "license_link": "README.md"}


def _size_category(num_samples: int) -> str:
    return next((name for limit, name in _SIZES if num_samples < limit), _LARGEST)


def _config(name: str, path: Callable[[str], Path], manifest: Manifest) -> dict[str, Any]:
    splits = [split for split in SPLITS if manifest.splits.get(split)]
    files = [{"split": split, "path": path(f"{split}-*").as_posix()} for split in splits]
    return {"config_name": name, "data_files": files}


def _features(num_streams: int) -> list[dict[str, Any]]:
    """The members as `datasets` decodes them: inferred from the first samples, they would not fit
    those whose steps after the codec, or whose codec's vectors, are of another form."""
    streams: list[dict[str, Any]] = []
    for k in range(num_streams):
        streams += [
            {"name": lr_member(k), "dtype": "binary"},
            {"name": mv_member(k), "list": {"list": "int16"}},
        ]
    return [
        {"name": JSON_MEMBER, "dtype": "json"},
        {"name": HR_MEMBER, "dtype": "binary"},
        *streams,
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def _introduction(manifest: Manifest, facts: Facts) -> str:
    streams = ", ".join(_text(name) for name in manifest.streams)
    return (
        f"# {_text(manifest.name)}\n\n"
        f"{counted(facts.samples.total(), 'sample')} for super-resolution by "
        f"{manifest.scale}: HR frames, and {counted(len(manifest.streams), 'LR stream')} of each "
        f"({streams}) as real codecs left them, with what the bitstreams say of themselves: frame "
        "types, quantisers, packets, motion vectors, settings.\n\n"
        f"Made with the recipe `{_text(manifest.name)}` (in full in `recipe.yaml`, SHA-256 "
        f"`{manifest.recipe_sha256}`) and seed {manifest.seed}. `manifest.json` lists every file "
        f"with its hash; the format is version {manifest.schema_version}."
    )


def _samples(manifest: Manifest, facts: Facts) -> str:
    rows = [
        (split, f"{KIND_NAMES[kind]}s", number, facts.frames[split, kind])
        for (split, kind), number in sorted(facts.samples.items())
    ]
    return (
        f"{markdown_table(('split', 'kind', 'samples', 'HR frames'), rows)}\n\n"
        "Clips are consecutive frames of a video; camera clips are views of one image; "
        "pseudo-videos are patches of images, packed as the frames of a video and unrelated to "
        f"each other. Shards: {len(manifest.shards)}."
        f"{_hr_storage(manifest)}{_generations(manifest)}"
    )


def _hr_storage(manifest: Manifest) -> str:
    told = hr_storage(manifest)
    return (
        f"\n\n{told} Sample by sample, `hr_jpeg` of the records says by how much." if told else ""
    )


def _generations(manifest: Manifest) -> str:
    """What was added to what was made first, if anything was."""
    shards, samples = Counter[int](), Counter[int]()
    for shard in manifest.shards:
        shards[shard.generation] += 1
        samples[shard.generation] += shard.num_samples
    if len(shards) < 2:
        return ""
    rows = [(number, samples[number], shards[number]) for number in sorted(shards)]
    return (
        "\n\nSources were added in generations, which leave earlier shards and splits as they are:"
        f"\n\n{markdown_table(('generation', 'samples', 'shards'), rows)}"
    )


def _streams(facts: Facts) -> str:
    rows = [
        (
            coding.codec,
            _rate(coding),
            number,
            *(facts.frame_types[coding, frame_type] for frame_type in FrameType),
        )
        for coding, number in sorted(facts.streams.items())
    ]
    header = ("codec", "rate", "streams", *(f"{frame_type} frames" for frame_type in FrameType))
    return (
        f"{markdown_table(header, rows)}\n\n"
        "The stored generation of each stream. A rate factor or quantiser is on the codec's own "
        "scale; lossless streams hold degradations that end without a codec."
    )


def _rate(coding: Coding) -> str:
    least, limit = coding.rate_band
    if coding.rate_mode == "lossless":
        return "lossless"
    if coding.rate_mode == "bitrate":
        return f"{least / 1000:.4g} to {limit / 1000:.4g} kbit/s"
    return f"{coding.rate_mode} {least:g} to below {limit:g}"


def _left_out(facts: Facts) -> str:
    made, used, found = facts.samples.total(), facts.sources[True], facts.sources.total()
    rows = [
        (what, status, reason, number)
        for what, counts in (("source", facts.sources_left_out), ("sample", facts.samples_left_out))
        for (status, reason), number in _by_number(counts)
    ]
    told = (
        f"Of {counted(found, 'source')} {used} can be used; of "
        f"{counted(facts.num_planned, 'planned sample')} {made} were made."
    )
    header = ("what", "status", "reason", "number")
    return f"{told}\n\n{markdown_table(header, rows)}" if rows else told


def _by_number(counts: Counter[tuple[Status, str]]) -> list[tuple[tuple[Status, str], int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _licences(facts: Facts) -> str:
    rows = [
        (
            _text(licence) or UNKNOWN_LICENCE,
            number,
            "; ".join(map(_text, sorted(facts.attributions[licence]))) or "nobody is named",
        )
        for licence, number in sorted(facts.licences.items())
    ]
    return (
        f"{markdown_table(('licence', 'samples', 'attribution'), rows)}\n\n"
        "As the maker's list of sources states them. A sample's licence, and whom to name for it, "
        "are in its record and in `index/samples/`; a source's are in `index/sources.parquet`."
    )


def _loading(manifest: Manifest) -> str:
    shard = next((shard.shard for shard in manifest.shards if shard.num_samples), "train-000000")
    return f"""The tars, `data/`, are plain WebDataset:

```python
import webdataset

for sample in webdataset.WebDataset("data/{shard}.tar", shardshuffle=False):
    print(sample["__key__"], sample["json"][:100])
```

```python
from datasets import load_dataset

samples = load_dataset("PATH", "default")  # the members
table = load_dataset("PATH", "samples", data_dir="index/samples")  # the index
```

`PATH` is this folder. `datasets` takes one file format for all configurations of a folder, the
first one's; `data_dir` says that the index is another one (also `index/streams`, `index/frames`).
It rounds the numbers of `json`; the bytes in the tar are exact.

Exact pixels of an LR stream come from the reference decoder of the package that made this
(`transforms.decode`), batches for training from its loader (`training.dataset`). Any reader of
Parquet takes the tables:

```sql
-- where the packets of P frames with a quantiser of 30 to 36 lie (DuckDB)
SELECT shard, tar_offset, packet_bytes FROM 'index/frames/*.parquet'
WHERE frame_type = 'P' AND qp_mean BETWEEN 30 AND 36;
```"""


_CHECKING = """```sh
python -m pipelines.verify PATH              # bytes and labels; more with --grade pixel
python -m pipelines.resynth PATH KEY --verify   # make samples again and compare
python -m pipelines.materialize --help       # make a dataset of its recipe, plan and sources
```"""


def _environment(manifest: Manifest) -> str:
    environment = manifest.environment
    rows = [*environment.libraries.items(), *environment.encoders.items()]
    return markdown_table(
        ("library or encoder", "version"), [(_text(name), _text(told)) for name, told in rows]
    )


_ESCAPED = {
    "&": "&amp;", "\\": "&#92;", "<": "&lt;", "|": "\\|", "[": "\\[", "]": "\\]", "`": "\\`",
}  # fmt: skip
"""What begins tags, cells, links and code; the first two before those that hold them."""


def _text(value: str) -> str:
    """Somebody's words as one line of plain Markdown."""
    line = " ".join(value.split())
    for mark, escaped in _ESCAPED.items():
        line = line.replace(mark, escaped)
    return line
