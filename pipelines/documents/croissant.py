"""`croissant.json`: the dataset for machines (MLCommons Croissant 1.1, JSON-LD).

Files with their hashes, and record sets over the Parquet tables. What is inside the tars is told
by the tables: Croissant knows no WebDataset samples.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.documents.facts import Facts, hr_storage
from pipelines.layout import Layout
from pipelines.licences import spdx_identifier
from schemas.manifest import DataFile, Manifest
from schemas.record import Record
from schemas.sample import FrameRow, SampleRow, StreamRow
from schemas.source import Source
from schemas.tables import arrow_schema, field_table

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {"tar": "application/x-tar", "parquet": "application/x-parquet"}
_DATASET = Layout(Path())
_SETS: dict[str, tuple[Path, type[Record], str, tuple[str, ...]]] = {
    "samples": (_DATASET.table("samples", "*"), SampleRow, "Planned samples", ("key",)),
    "streams": (_DATASET.table("streams", "*"), StreamRow, "LR streams", ("key", "stream")),
    "frames": (
        _DATASET.table("frames", "*"),
        FrameRow,
        "Coded LR frames",
        ("key", "stream", "display_index"),
    ),
    "sources": (_DATASET.sources, Source, "Sources, those left out included", ()),
}
"""Record set -> its files, their rows, what they are, and the fields that tell them apart."""
_TYPES = {pa.bool_(): "sc:Boolean", pa.int64(): "cr:Int64", pa.float64(): "cr:Float64"}


def croissant(manifest: Manifest, facts: Facts) -> bytes:
    """The description as JSON-LD."""
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": manifest.name,
        "description": (
            f"Super-resolution by {manifest.scale}: HR frames and LR streams "
            f"({', '.join(manifest.streams)}) as codecs left them, with the codecs' metadata. "
            f"Recipe {manifest.name} ({manifest.recipe_sha256}), seed {manifest.seed}. "
            f"{hr_storage(manifest)}"
        ).strip(),
        "version": f"{manifest.schema_version}.0",
        "citeAs": _citation(manifest),
        "keywords": ["super-resolution", "compression", "WebDataset"],
        **_licences(facts),
        "distribution": [*_file_sets(), *_file_objects(manifest)],
        "recordSet": [_record_set(name) for name in _SETS],
    }
    return (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode()


def _citation(manifest: Manifest) -> str:
    return (
        f"@misc{{vcsr-{manifest.recipe_sha256[:12]}-{manifest.seed}, title = {{{manifest.name}}}, "
        f"note = {{Super-resolution dataset; recipe SHA-256 {manifest.recipe_sha256}, "
        f"seed {manifest.seed}}}}}"
    )


def _licences(facts: Facts) -> dict[str, Any]:
    """Addresses where the licences are known ones, else what the source list says."""
    licences = [licence for licence in sorted(facts.licences) if licence]
    known = {licence: spdx_identifier(licence) for licence in licences}
    named = sorted(set().union(*facts.attributions.values()))
    told: dict[str, Any] = {}
    if licences:
        told["license"] = [
            f"https://spdx.org/licenses/{known[licence]}.html" if known[licence] else licence
            for licence in licences
        ]
    if named:
        told["creditText"] = "; ".join(named)
    return told


def _file_sets() -> list[dict[str, Any]]:
    return [
        _file_set("shards", _DATASET.tar("*"), "WebDataset shards"),
        *(_file_set(f"{name}-files", path, what) for name, (path, _, what, _) in _SETS.items()),
    ]


def _file_set(name: str, pattern: Path, what: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": f"{what}. Every file is listed by itself, with its SHA-256.",
        "encodingFormat": _format(pattern.as_posix()),
        "includes": pattern.as_posix(),
    }


def _file_objects(manifest: Manifest) -> list[dict[str, Any]]:
    files = [file for shard in manifest.shards for file in shard.files]
    return [_file_object(file) for file in [*files, *manifest.tables]]


def _file_object(file: DataFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.size} B",
        "encodingFormat": _format(file.path),
        "sha256": file.sha256,
    }


def _format(path: str) -> str:
    return _FORMATS[path.rpartition(".")[2]]


def _record_set(name: str) -> dict[str, Any]:
    _, record, what, key = _SETS[name]
    docs = {field: doc for field, _, doc in field_table(record)}
    fields = [_field(name, field, docs[field.name]) for field in arrow_schema(record)]
    identifying = {"key": [{"@id": f"{name}/{field}"} for field in key]} if key else {}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": what,
        **identifying,
        "field": fields,
    }


def _field(record_set: str, field: pa.Field, doc: str) -> dict[str, Any]:
    return _typed_field(f"{record_set}/{field.name}", f"{record_set}-files", field, doc)


def _typed_field(name: str, files: str, field: pa.Field, doc: str) -> dict[str, Any]:
    is_list = pa.types.is_list(field.type)
    value_type = field.type.value_type if is_list else field.type
    described: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name}
    described["description"] = doc
    if is_list:
        described |= {"isArray": True, "arrayShape": "-1"}
    source = {"fileSet": {"@id": files}, "extract": {"column": field.name}}
    if not pa.types.is_struct(value_type):
        return {**described, "dataType": _TYPES.get(value_type, "sc:Text"), "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": f"{name}/{part.name}",
            "dataType": _TYPES.get(part.type, "sc:Text"),
            "source": {**source, "transform": {"jsonPath": f"$.{part.name}"}},
        }
        for part in value_type
    ]
    return {**described, "subField": parts}
