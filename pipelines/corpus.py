"""Finds the inputs: which files there are, what they are called, and which belong together.

Nothing is opened here; probing finds out what an entry is. Hidden files and folders are skipped.
Links to files are followed, so that a folder of links is a selection; links to folders are not,
since they may lead in circles. What is neither a file nor a folder (a pipe, a device) is skipped.
"""

import csv
import glob
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pipelines.errors import UserError
from schemas.source import SPLITS
from schemas.store import Place, StorePath, absolute, place

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,5}$")
_STEREO = re.compile(r"[_-](left|right|l|r)$", re.IGNORECASE)
_VIMEO = re.compile(r"(?:^|/)(\d{5})/\d{4}(?:/|$)")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One input: a file, or a folder whose files may be the frames of a clip."""

    uri: str
    """the input's name and the path below it, with forward slashes, such as photos/a.png"""
    paths: tuple[str, ...]
    """absolute, or URLs; of a folder its files, in numeric order"""
    is_folder: bool
    """whether the paths are the numbered files of one folder"""
    sizes: tuple[int, ...] = ()
    """bytes of each, of what lies in a store: listing it told"""


def discover(inputs: Sequence[str]) -> list[Entry]:
    """Find everything that the inputs name.

    Args:
        inputs: folders (searched with all below them), globs, or single files; paths or URLs.

    Returns:
        Entries sorted by uri, each file in one of them only.

    Raises:
        UserError: if an input is missing or empty.
        StoreError: if a store cannot be read.
    """
    found: dict[tuple[str, ...], Entry] = {}
    for text in inputs:
        entries = list(_entries_of(text))
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


def _entries_of(text: str) -> Iterator[Entry]:
    path = place(absolute(text))
    if isinstance(path, StorePath):
        path.check()
    if path.is_dir():
        yield from _walk(path, path.name)
    elif path.is_file():
        yield _file_entry(path, path.name)
    elif glob.has_magic(text):
        yield from _matches(path, text)
    else:
        problem = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise UserError(f"the input {text!r} {problem}: check the path ({path})")


def _matches(pattern: Place, text: str) -> Iterator[Entry]:
    base = _fixed_part(pattern)
    if isinstance(base, StorePath):
        parts = pattern.relative_to(base).parts  # type: ignore[arg-type]
        matches: list[Place] = sorted(_glob(base, parts), key=str)
    else:
        matches = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]
    if not matches:
        raise UserError(
            f"the glob {text!r} matches nothing: check it, and quote it so that the shell "
            "does not expand it"
        )
    for match in matches:
        below = match.relative_to(base)  # type: ignore[arg-type]
        uri = (Path(base.name) / below).as_posix()
        if match.is_dir():
            yield from _walk(match, uri)
        elif match.is_file():
            yield _file_entry(match, uri)


def _fixed_part(pattern: Place) -> Place:
    """The folder above the first part that is a pattern."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


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


def _walk(folder: Place, uri: str) -> Iterator[Entry]:
    children = _visible_children(folder)
    files = [child for child in children if child.is_file() or _is_broken_link(child)]
    ordered = _in_numeric_order(files)
    if ordered:
        yield _entry(ordered, uri, is_folder=True)
    else:
        yield from (_file_entry(file, f"{uri}/{file.name}") for file in files)
    for child in children:
        if child.is_dir() and not child.is_symlink():
            yield from _walk(child, f"{uri}/{child.name}")


def _visible_children(folder: Place) -> list[Place]:
    try:
        children = [child for child in folder.iterdir() if not child.name.startswith(".")]
        return sorted(children, key=lambda child: child.name)
    except PermissionError as error:
        raise UserError(f"cannot list the folder {str(folder)!r}: {error.strerror}") from error


def _is_broken_link(path: Place) -> bool:
    return path.is_symlink() and not path.exists()  # becomes a row that says so


def _file_entry(path: Place, uri: str) -> Entry:
    return _entry([path], uri, is_folder=False)


def _entry(files: Sequence[Place], uri: str, *, is_folder: bool) -> Entry:
    return Entry(
        uri=_printable(uri),
        paths=tuple(map(str, files)),
        is_folder=is_folder,
        sizes=tuple(file.size for file in files if isinstance(file, StorePath)),
    )


def _printable(uri: str) -> str:
    """A name that is not UTF-8 gets marks in place of its bytes."""
    return uri.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _in_numeric_order(files: list[Place]) -> list[Place] | None:
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


def akin(entry: Entry) -> str:
    """What the place says of an entry: those with equal labels belong together.

    These are the clips of one video of Vimeo-90K (`sequences/00001/0001`, `.../0002`), the two
    sides of a stereo pair (`x_left.png`, `x_right.png`, also `_l`, `_r`), and one thing in two
    formats (`flower.mp4`, `flower.webm`). Anything else has a label of its own.
    """
    if vimeo := _VIMEO.search(entry.uri):
        return entry.uri[: vimeo.end(1)]
    return _STEREO.sub("", _SUFFIX.sub("", entry.uri))


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
