"""Finds the sources of a dataset by their content, wherever they lie and whatever they are called.

Files of another size than any source are not opened, and what has a source's name is looked at
first, so that little is read in vain.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipelines.cache import local_copies
from pipelines.corpus import Entry
from pipelines.media import file_sha256, folder_sha256
from pipelines.pool import Done, WorkerPool
from pipelines.probe import files_of
from pipelines.progress import watched
from schemas.source import Source, SourceKind
from schemas.store import StorePath, place


class FoundSources(NamedTuple):
    """Where sources lie on this machine."""

    paths: dict[str, list[str]]
    """of each source that was found its file, or the frames of its folder, in order"""
    absent: dict[str, str]
    """of each other source a line for a person: missing or changed"""


def find_sources(
    wanted: Sequence[Source], entries: Sequence[Entry], pool: WorkerPool
) -> FoundSources:
    """Look for sources among entries, by hash as probing computes it.

    Args:
        wanted: the sources.
        entries: where to look.
        pool: hashes files.
    """
    files = [file for entry in entries if entry.is_folder for file in files_of(entry)]
    candidates = [entry for entry in [*entries, *files] if not entry.refused]
    sizes = {candidate: _size(candidate) for candidate in candidates}
    names = {name for source in wanted for uri in source.uris for name in _names(uri)}
    paths: dict[str, list[str]] = {}
    for is_named in (True, False):
        missing = {
            (s.size, s.kind is SourceKind.FRAMES) for s in wanted if s.source_id not in paths
        }
        plausible = [
            candidate
            for candidate in candidates
            if names.isdisjoint(_names(candidate.uri)) is not is_named
            and (sizes[candidate], candidate.is_folder) in missing
        ]
        for digest, candidate in _hashed(plausible, pool):
            paths.setdefault(digest, list(candidate.paths))
    by_name = {name: candidate for candidate in candidates for name in _names(candidate.uri)}
    absent = {
        source.source_id: _why_absent(source, by_name, sizes)
        for source in wanted
        if source.source_id not in paths
    }
    ids = {source.source_id for source in wanted}
    return FoundSources({digest: paths[digest] for digest in paths.keys() & ids}, absent)


def _names(uri: str) -> set[str]:
    """What a source is called, with and without the input's own name."""
    return {uri, uri.partition("/")[2] or uri}


def _size(entry: Entry) -> int:
    """Bytes of all files; -1 where one is gone."""
    try:
        return sum(entry.sizes or map(_file_size, entry.paths))
    except OSError:
        return -1


def _file_size(path: str) -> int:
    file = place(path)
    return file.size if isinstance(file, StorePath) else os.path.getsize(path)


def _hashed(entries: Sequence[Entry], pool: WorkerPool) -> Iterable[tuple[str, Entry]]:
    outcomes = pool.map_ordered(_content_sha256, entries)
    for entry, outcome in watched(outcomes, len(entries), "finding sources", "file"):
        if isinstance(outcome, Done) and outcome.value:
            yield outcome.value, entry


def _content_sha256(entry: Entry) -> str:
    """What identifies the content; empty where it cannot be read."""
    try:
        with local_copies(entry.paths) as paths:
            digests = [file_sha256(path) for path in paths]
    except OSError:
        return ""
    return folder_sha256(digests) if entry.is_folder else digests[0]


def _why_absent(source: Source, by_name: Mapping[str, Entry], sizes: Mapping[Entry, int]) -> str:
    called = (name for uri in source.uris for name in sorted(_names(uri), key=len, reverse=True))
    uri, digest = source.uris[0], source.source_id
    found = next((by_name[name] for name in called if name in by_name), None)
    if found is None:
        return f"{uri} is missing (SHA-256 {digest})"
    size = sizes[found]
    told = f"{size} bytes, was {source.size}" if size != source.size else "of equal size"
    if size < 0:
        told = "cannot be read"
    return f"{uri} changed: {found.paths[0]} is other content ({told}; SHA-256 was {digest})"
