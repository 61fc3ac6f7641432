"""A shard's tar against its index, byte by byte up to its end."""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from schemas.sample import JSON_MEMBER, Member, SampleRow, member_names
from schemas.shard import archive_size, header_bytes, padded_size

END = "end of archive"


class TarProblem(NamedTuple):
    """One thing that is wrong with a tar."""

    check: str
    """tar_header, tar_data, tar_padding, tar_end or index"""
    key: str
    """the sample; empty at the end of the archive"""
    member: str
    """the member, or what part of the tar it is"""
    detail: str
    """what was found, and what was expected"""


class CheckedTar(NamedTuple):
    """What reading a tar gave."""

    problems: list[TarProblem]
    records: dict[str, bytes]
    """the `json` member of each sample where it is whole, by key"""


def check_tar(file: BinaryIO, rows: Sequence[SampleRow]) -> CheckedTar:
    """Compare a tar with the rows of the samples that were made.

    Args:
        file: the shard, readable and seekable.
        rows: in the order of the tar.
    """
    checked = CheckedTar([], {})
    position = 0
    for row in rows:
        names = [member.name for member in row.members]
        if names != member_names((len(names) - 2) // 2):
            told = f"the index lists the members {names}"
            checked.problems.append(TarProblem("index", row.key, JSON_MEMBER, told))
        for member in row.members:
            checked.problems.extend(_check_member(file, row.key, member, position, checked.records))
            position += tarfile.BLOCKSIZE + padded_size(member.size)
    checked.problems.extend(_check_end(file, position))
    return checked


def _check_member(
    file: BinaryIO, key: str, member: Member, position: int, records: dict[str, bytes]
) -> Iterator[TarProblem]:
    if member.offset != position + tarfile.BLOCKSIZE:
        told = f"the index says byte {member.offset}, it follows at {position + tarfile.BLOCKSIZE}"
        yield TarProblem("index", key, member.name, told)
    file.seek(position)
    header = file.read(tarfile.BLOCKSIZE)
    if header != header_bytes(key, member.name, member.size):
        at = position + _first_difference(header, header_bytes(key, member.name, member.size))
        told = f"the header differs from byte {at} of the tar"
        yield TarProblem("tar_header", key, f"{member.name} header", told)
    data = file.read(member.size)
    if len(data) != member.size:
        told = f"cut short after {len(data)} of {member.size} bytes"
        yield TarProblem("tar_data", key, member.name, told)
        return
    if (found := zlib.crc32(data)) != member.crc32:
        told = f"CRC-32 is {found:08x}, the index says {member.crc32:08x}"
        yield TarProblem("tar_data", key, member.name, told)
    elif member.name == JSON_MEMBER:
        records[key] = data
    padding = file.read(padded_size(member.size) - member.size)
    if any(padding) or len(padding) != padded_size(member.size) - member.size:
        at = position + tarfile.BLOCKSIZE + member.size
        told = f"the padding from byte {at} of the tar is not all zero, or cut short"
        yield TarProblem("tar_padding", key, f"{member.name} padding", told)


def _check_end(file: BinaryIO, position: int) -> Iterator[TarProblem]:
    file.seek(position)
    rest = file.read(archive_size(position) - position)
    beyond = file.read(1)
    if any(rest):
        at = position + len(rest) - len(rest.lstrip(b"\0"))
        yield TarProblem("tar_end", "", END, f"byte {at} of the tar is not zero")
    if beyond or len(rest) != archive_size(position) - position:
        found = file.seek(0, 2)
        told = f"the tar has {found} bytes, and should have {archive_size(position)}"
        yield TarProblem("tar_end", "", END, told)


def _first_difference(found: bytes, expected: bytes) -> int:
    pairs = zip(found, expected, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
