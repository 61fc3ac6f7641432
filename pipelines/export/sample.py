"""Writing one sample. Runs in a worker process: here media is decoded."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines import cpu_limit
from pipelines.errors import MediaError, reason_of
from pipelines.export.metadata import metadata_npz
from pipelines.export.tree import (
    GT,
    RECORDS,
    Settings,
    frame_files,
    metadata_files,
    sample_files,
)
from pipelines.layout import publish
from schemas.manifest import canonical_json
from schemas.record import Record, check_schema_version
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    Sample,
    SampleFields,
    SampleRow,
    Stream,
    lr_member,
    member_names,
    mv_member,
)
from schemas.shard import read_member
from schemas.store import Place
from transforms.codec import CodecError
from transforms.decode import decode_hr, decode_lr
from transforms.motion import read_blocks

# Run lengths cost a third less time than the default and give smaller files of photographs.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportTask:
    """A sample to be written, and all that it takes."""

    tar: Place
    """the shard's file"""
    shard: str
    row: SampleRow
    settings: Settings
    output: Path
    sources: list[dict[str, Any]]
    """what the record says of its sources"""


class Written(Record):
    """What was written of a sample."""

    files: int
    """PNG and npz files"""
    frames: int
    """PNG files"""
    bytes: int
    """of these files"""


class SampleRecord(Record):
    """`records/<key>.json`. Written last, it says that the sample is whole."""

    sample: Sample
    """as it is stored in its shard"""
    sources: list[dict[str, Any]]
    """the sources, with all their places, licence and attribution"""
    folders: dict[str, str]
    """stream -> its folder of LR frames"""
    written: Written
    """without this file"""


@dataclasses.dataclass(frozen=True)
class Damage:
    """Why a sample could not be exported."""

    detail: str


def export_sample(task: ExportTask) -> Written | Damage:
    """Write a sample, unless it is there already.

    Raises:
        OSError: if the output cannot be written.
    """
    if (written := _written_before(task)) is not None:
        return written
    try:
        sample, members = _read(task)
        files = frames = num_bytes = 0
        for path, data in _files(task.settings, sample, members):
            cpu_limit.renew()
            target = task.output / path
            target.parent.mkdir(parents=True, exist_ok=True)
            num_bytes += target.write_bytes(data)
            files += 1
            frames += target.suffix == ".png"
    except MediaError as error:
        remove_sample(task)
        return Damage(error.detail)
    written = Written(files=files, frames=frames, bytes=num_bytes)
    folders = task.settings.folders
    record = SampleRecord(sample=sample, sources=task.sources, folders=folders, written=written)
    write_whole(_record_path(task), canonical_json(record.model_dump(mode="json")))
    return written


def write_whole(target: Path, data: bytes) -> None:
    """Write a small file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(data)
    publish(partial, target)


def _record_path(task: ExportTask) -> Path:
    return task.output / RECORDS / f"{task.row.key}.json"


def _written_before(task: ExportTask) -> Written | None:
    """What an earlier attempt wrote, if all of it is still there."""
    try:
        record = SampleRecord.model_validate_json(_record_path(task).read_bytes())
        paths = sample_files(task.settings, task.row)
        num_bytes = sum((task.output / path).stat().st_size for path in paths)
    except (OSError, ValueError):
        return None
    return record.written if num_bytes == record.written.bytes else None


def remove_sample(task: ExportTask) -> None:
    """Take back what is there of a sample, and the folders that are its own.

    Loaders that take every folder they find must not find half a clip.
    """
    _record_path(task).unlink(missing_ok=True)
    for path in sample_files(task.settings, task.row):
        file = task.output / path
        file.unlink(missing_ok=True)
        for folder in file.relative_to(task.output).parents:
            # Folders above the key's are shared with samples that others are writing right now.
            place = task.output / folder
            if task.row.key not in folder.parts or not place.is_dir() or any(place.iterdir()):
                break
            place.rmdir()


def _read(task: ExportTask) -> tuple[Sample, dict[str, bytes]]:
    """The sample's record and members, checked.

    Raises:
        MediaError: if they are not what the index says.
    """
    try:
        with task.tar.open("rb") as file:
            members = {m.name: read_member(file, m) for m in task.row.members}
        fields = json.loads(members[JSON_MEMBER])
        check_schema_version(str(fields.get("schema_version", "")), "its record")
        sample = Sample.model_validate(fields)
        missing = set(member_names(len(sample.streams))) - members.keys()
    except OSError as error:
        raise MediaError("corrupt", f"the shard cannot be read: {reason_of(error)}") from error
    except (ValueError, KeyError) as error:  # ShardError and pydantic's error are kinds of these
        raise MediaError("corrupt", f"{task.row.key}: {error}") from error
    missing |= task.settings.folders.keys() - {stream.name for stream in sample.streams}
    if missing:
        raise MediaError("corrupt", f"{task.row.key}: it has no {', '.join(sorted(missing))}")
    if any(getattr(sample, name) != getattr(task.row, name) for name in SampleFields.model_fields):
        raise MediaError("corrupt", f"{task.row.key}: its record is not what the index says")
    return sample, members


def _files(
    settings: Settings, sample: Sample, members: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every file, decoded one stream at a time.

    Raises:
        MediaError: if a member does not decode, or to other pixels than were recorded.
    """
    chosen = [stream for stream in sample.streams if stream.name in settings.folders]
    for t, path in frame_files(settings, sample, GT).items():
        yield path, _png(_decoded_hr(sample, members[HR_MEMBER], t))
    for stream in chosen:
        folder = settings.folders[stream.name]
        frames = _decoded_lr(sample, stream, members[lr_member(stream.stream)])
        for t, path in frame_files(settings, sample, folder).items():
            yield path, _png(frames[t])
        size = (frames.shape[1], frames.shape[2])
        blocks = _vectors(sample, members[mv_member(stream.stream)])
        for path, first, count in metadata_files(settings, sample, folder):
            yield path, metadata_npz(stream, blocks, size, first, count, settings.mv_units)


def _decoded_hr(sample: Sample, member: bytes, frame: int) -> np.ndarray:
    try:
        return decode_hr(sample, member, frame, 1)[0]
    except ValueError as error:
        raise MediaError("corrupt", f"{sample.key}: {HR_MEMBER}: {error}") from error


def _decoded_lr(sample: Sample, stream: Stream, member: bytes) -> np.ndarray:
    """(T, h, w, 3) uint8, those that were recorded."""
    try:
        frames = decode_lr(stream, member)
    except (CodecError, ValueError) as error:
        raise MediaError("corrupt", f"{sample.key}: stream {stream.name}: {error}") from error
    if hashlib.sha256(frames.tobytes()).hexdigest() != stream.decoded_sha256:
        detail = "decodes to other pixels than were recorded: use the release that made the dataset"
        raise MediaError("corrupt", f"{sample.key}: stream {stream.name} {detail}")
    return frames


def _vectors(sample: Sample, member: bytes) -> np.ndarray:
    try:
        return read_blocks(member)
    except ValueError as error:
        raise MediaError("corrupt", f"{sample.key}: {error}") from error


def _png(frame: np.ndarray) -> bytes:
    """A PNG file of (h, w, 3) uint8 RGB; equal pixels give equal bytes."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), _PNG_OPTIONS)
    if not encoded:
        raise RuntimeError("OpenCV did not encode a PNG")
    return data.tobytes()
