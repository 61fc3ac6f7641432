"""Finds the inputs: which files there are, what they are called, and which belong together.

Nothing is opened here; probing finds out what an entry is. Hidden files and folders are skipped.
Links to folders are not followed, since they may lead in circles. What must not be opened (a pipe,
a link that leads out of the input) is an entry that says why.
"""

import csv
import glob
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pipelines.errors import UserError
from schemas.source import SPLITS
from schemas.store import StorePath, absolute, place

P = TypeVar("P", Path, StorePath)

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,5}$")
_STEREO = re.compile(r"[_-](left|right|l|r)$", re.IGNORECASE)
_BREAKING = ("Cc", "Zl", "Zp")  # Unicode's control characters and line breaks
_VIMEO = re.compile(r"(?:^|/)(\d{5})/\d{4}(?:/|$)")


REFUSALS = {
    "link_outside": "a link that leads out of the input; --follow-links takes it",
    "special_file": "neither a file nor a folder: a pipe, a socket or a device",
    "undecodable_name": "its path is not UTF-8: rename it",
    "unusable_name": "its path has an empty part, '.' or '..': rename it",
    "unreadable": "a folder that cannot be listed",
}
"""Why an entry is not opened: the reason in its row, and the words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One input: a file, or a folder whose files may be the frames of a clip."""

    uri: str
    """the input's name and the path below it, with forward slashes, such as photos/a.png"""
    paths: tuple[str, ...]
    """absolute, or URLs; of a folder its files, in numeric order"""
    is_folder: bool
    """whether the paths are the numbered files of one folder"""
    refused: str = ""
    """one of REFUSALS, if it must not be opened"""
    sizes: tuple[int, ...] = ()
    """bytes of each, of what lies in a store: listing it told"""


def discover(inputs: Sequence[str], *, follow_links: bool = True) -> list[Entry]:
    """Find everything that the inputs name.

    Args:
        inputs: folders (searched with all below them), globs, or single files; paths or URLs.
        follow_links: take files outside of a folder that links in it lead to. Links inside of it,
            and inputs that are links themselves, are always followed.

    Returns:
        Entries sorted by uri, each file in one of them only.

    Raises:
        UserError: if an input is missing or empty.
        StoreError: if a store cannot be read.
    """
    found: dict[tuple[str, ...], Entry] = {}
    for text in inputs:
        try:
            entries = list(_entries_of(text, follow_links))
        except OSError as error:
            problem = f"cannot read the input {text!r}: {error.strerror}"
            raise UserError(problem) from error
        if not entries:
            raise UserError(
                f"the input {text!r} holds no files (hidden ones are skipped): "
                "give a folder, a glob or a file with images or videos"
            )
        for entry in entries:
            found.setdefault(entry.paths, entry)
    kept = _without_repeats(list(found.values()))
    return _with_own_uris(sorted(kept, key=lambda entry: (entry.uri, entry.paths)))


def _with_own_uris(entries: list[Entry]) -> list[Entry]:
    """Inputs of equal names have entries of equal uris: the second one gets #2, and so on."""
    seen: Counter[str] = Counter()
    own = []
    for entry in entries:
        seen[entry.uri] += 1
        number = seen[entry.uri]
        own.append(entry if number == 1 else replace(entry, uri=f"{entry.uri}#{number}"))
    return own


def _without_repeats(entries: list[Entry]) -> list[Entry]:
    """Inputs may overlap. A file that one input gives alone stays with its folder's entry."""
    in_folders = {path for entry in entries if entry.is_folder for path in entry.paths}
    return [entry for entry in entries if entry.is_folder or entry.paths[0] not in in_folders]


def _entries_of(text: str, follow_links: bool) -> Iterator[Entry]:
    path = place(absolute(text))
    if isinstance(path, StorePath):
        yield from _stored(path, text)
    elif path.is_dir():
        yield from _walk(path, path.name, None if follow_links else path)
    elif path.is_file():
        yield _entry(path, path.name, None)
    elif glob.has_magic(text):
        yield from _matches(text, follow_links)
    else:
        problem = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise UserError(f"the input {text!r} {problem}: check the path ({path})")


def _stored(path: StorePath, text: str) -> Iterator[Entry]:
    """The entries that a URL names: of an object, of a folder, of a glob."""
    path.check()
    if path.exists():
        yield from _walk_stored(path, path.name)
    elif glob.has_magic(text):
        base = _fixed_part(path)
        matches = sorted(_glob(base, path.relative_to(base).parts), key=str)
        if not matches:
            raise _no_match(text)
        for match in matches:
            uri = PurePosixPath(base.name) / match.relative_to(base)
            yield from _walk_stored(match, uri.as_posix())
    else:
        raise UserError(f"the input {text!r} does not exist: check the URL")


def _glob(folder: StorePath, parts: Sequence[str]) -> set[StorePath]:
    """What `glob.glob` finds on a disk: ** is any number of folders, hidden ones are skipped."""
    if not parts:
        return {folder}
    children = [child for child in folder.iterdir() if not child.name.startswith(".")]
    if parts[0] == "**":
        below = set().union(*(_glob(child, parts) for child in children if child.is_dir()))
        return below | _glob(folder, parts[1:])
    matching = [child for child in children if fnmatchcase(child.name, parts[0])]
    return set().union(*(_glob(child, parts[1:]) for child in matching))


def _walk_stored(top: StorePath, top_uri: str) -> Iterator[Entry]:
    """The entry of an object, and those of all objects below it."""
    if top.is_file():
        yield _stored_entry([top], top_uri, is_folder=False)
    folders = defaultdict[PurePosixPath, list[StorePath]](list)
    for file in top.walk():
        below = file.relative_to(top)
        if not any(part.startswith(".") for part in below.parts):
            folders[below.parent].append(file)
    for below, files in sorted(folders.items()):
        uri = (PurePosixPath(top_uri) / below).as_posix()
        ordered = _in_numeric_order(files)
        if ordered and all(file.is_plain for file in files):
            yield _stored_entry(ordered, uri, is_folder=True)
        else:
            for file in files:
                yield _stored_entry([file], f"{uri}/{file.name}", is_folder=False)


def _stored_entry(files: Sequence[StorePath], uri: str, *, is_folder: bool) -> Entry:
    return Entry(
        uri=_printable(uri),
        paths=tuple(map(str, files)),
        is_folder=is_folder,
        refused="" if files[0].is_plain else "unusable_name",
        sizes=tuple(file.size for file in files),
    )


def _matches(pattern: str, follow_links: bool) -> Iterator[Entry]:
    matches = sorted(glob.glob(os.path.abspath(pattern), recursive=True))
    if not matches:
        raise _no_match(pattern)
    base = _fixed_part(Path(os.path.abspath(pattern)))
    bounds = None if follow_links else base
    for match in map(Path, matches):
        uri = (Path(base.name) / match.relative_to(base)).as_posix()
        if match.is_dir() and (bounds is None or _is_inside(match, bounds)):
            yield from _walk(match, uri, bounds)
        else:
            yield _entry(match, uri, bounds)


def _no_match(pattern: str) -> UserError:
    return UserError(
        f"the glob {pattern!r} matches nothing: check it, and quote it so that the shell "
        "does not expand it"
    )


def _fixed_part(pattern: P) -> P:
    """The folder above the first part that is a pattern."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _walk(top: Path, top_uri: str, bounds: Path | None) -> Iterator[Entry]:
    """The entries of a folder and of all below it.

    Args:
        top: the folder.
        top_uri: its uri.
        bounds: where links may lead; None for anywhere.
    """
    waiting = [(top, top_uri)]  # folders may be nested deeper than calls may
    while waiting:
        folder, uri = waiting.pop()
        try:
            children = _visible_children(folder)
        except OSError as error:
            if folder == top:
                problem = f"cannot list the folder {str(folder)!r}: {error.strerror}"
                raise UserError(problem) from error
            yield Entry(
                uri=_printable(uri), paths=(str(folder),), is_folder=False, refused="unreadable"
            )
            continue
        folders = [child for child in children if child.is_dir(follow_symlinks=False)]
        waiting += [(Path(c.path), f"{uri}/{c.name}") for c in folders]
        files = [child for child in children if not _is_or_leads_to_folder(child)]
        entries = [
            _entry(Path(c.path), f"{uri}/{c.name}", bounds if c.is_symlink() else None)
            for c in files
        ]
        ordered = _in_numeric_order([Path(c.path) for c in files])
        if ordered and not any(entry.refused for entry in entries):
            yield Entry(uri=_printable(uri), paths=tuple(map(str, ordered)), is_folder=True)
        else:
            yield from entries


def _visible_children(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as children:
        visible = [child for child in children if not child.name.startswith(".")]
    return sorted(visible, key=lambda child: child.name)


def _is_or_leads_to_folder(child: os.DirEntry[str]) -> bool:
    # Asked apart, since a path may be too long to be followed.
    return child.is_dir(follow_symlinks=False) or (child.is_symlink() and os.path.isdir(child.path))


def _entry(path: Path, uri: str, bounds: Path | None) -> Entry:
    """The entry of a single file, or of whatever is in the place of one."""
    refused = _refusal(path, bounds)
    return Entry(uri=_printable(uri), paths=(str(path),), is_folder=False, refused=refused)


def _refusal(path: Path, bounds: Path | None) -> str:
    # Any folder on the way may be a link, too: a glob follows them.
    if not _is_utf_8(str(path)):
        return "undecodable_name"
    if bounds is not None and not _is_inside(path, bounds):
        return "link_outside"
    # A link that leads nowhere becomes a row that says so when it is opened.
    return "" if os.path.isfile(path) or not os.path.exists(path) else "special_file"


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(uri: str) -> str:
    """A name gets marks in place of bytes that are not UTF-8, and of what would break a line."""
    text = uri.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("\ufffd" if unicodedata.category(c) in _BREAKING else c for c in text)


def _in_numeric_order(files: list[P]) -> list[P] | None:
    """The files in the order of their numbers; None where they are no numbered series."""
    numbered = {}
    prefixes = set()
    for file in files:
        match = _NUMBERED.fullmatch(file.stem)
        if match is None:
            return None
        prefixes.add(match["prefix"])
        numbered[int(match["number"])] = file
    if len(prefixes) != 1 or len(numbered) != len(files) or len(files) < 2:
        return None
    return [numbered[number] for number in sorted(numbered)]


def akin(uri: str) -> str:
    """What the place says of a source: those with equal labels belong together.

    These are the clips of one video of Vimeo-90K (`sequences/00001/0001`, `.../0002`), the two
    sides of a stereo pair (`x_left.png`, `x_right.png`, also `_l`, `_r`), and one thing in two
    formats (`flower.mp4`, `flower.webm`). Anything else has a label of its own.
    """
    if vimeo := _VIMEO.search(uri):
        return uri[: vimeo.end(1)]
    return _STEREO.sub("", _SUFFIX.sub("", uri))


@dataclass(frozen=True, kw_only=True)
class SourceRule:
    """One row of the user's source list."""

    pattern: str
    """glob over uris, in which * also matches slashes, or a source's SHA-256"""
    group: str = ""
    """sources with equal groups stay on one side of the split"""
    split: str = ""
    """train or validation, empty to leave it to the group"""
    licence: str = ""
    """of the sources"""
    attribution: str = ""
    """whom to name"""

    def matches(self, uri: str, source_id: str) -> bool:
        """Whether the rule is about a source."""
        return self.pattern == source_id or fnmatchcase(uri, self.pattern)


def read_source_list(path: str) -> list[SourceRule]:
    """Read the user's source list: CSV with a header, of which only `pattern` is required.

    Raises:
        UserError: if the file is missing, is no such table, or names another split.
    """
    try:
        with (
            place(path).open("rb") as opened,
            io.TextIOWrapper(opened, encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.DictReader(file, restkey="", restval="")
            _check_header(path, reader.fieldnames or [])
            return [_rule(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise UserError(f"cannot read the source list {path!r}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the source list {path!r} is no CSV in UTF-8: {error}") from error


def _check_header(path: str, header: Sequence[str]) -> None:
    known = [field.name for field in fields(SourceRule)]
    unknown = [name for name in header if name not in known]
    if unknown or "pattern" not in header:
        problem = f"has unknown columns {unknown}" if unknown else "has no column 'pattern'"
        raise UserError(
            f"the source list {path!r} {problem}: its first line must name columns out of {known}"
        )


def _rule(path: str, line: int, row: dict[str, str]) -> SourceRule:
    where = f"line {line} of the source list {path!r}"
    if "" in row:
        raise UserError(f"{where} has more values than columns: quote values that hold commas")
    rule = SourceRule(**{name: value.strip() for name, value in row.items()})
    if not rule.pattern:
        raise UserError(f"{where} has an empty pattern: give a glob over uris, or a SHA-256")
    if rule.split and rule.split not in SPLITS:
        raise UserError(f"{where} has the split {rule.split!r}: choose one of {list(SPLITS)}")
    return rule
