"""A shard's tar against its index, byte by byte up to its end."""

import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from pipelines.verify.members import first_difference
from pipelines.verify.problem import Problem
from schemas.sample import JSON_MEMBER, Member, SampleRow, member_names
from schemas.shard import ShardError, archive_size, header_bytes, padded_size

END = "end of archive"


class CheckedTar(NamedTuple):
    """What reading a tar gave."""

    problems: list[Problem]
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
            checked.problems.append(Problem("index", JSON_MEMBER, told, row.key))
        for member in row.members:
            try:
                header = header_bytes(row.key, member.name, member.size)
            except ShardError as error:  # where the next member begins is not known, either
                checked.problems.append(Problem("index", member.name, str(error), row.key))
                return checked
            found = _check_member(file, row.key, member, position, header, checked.records)
            checked.problems.extend(found)
            position += tarfile.BLOCKSIZE + padded_size(member.size)
    checked.problems.extend(_check_end(file, position))
    return checked


def _check_member(
    file: BinaryIO,
    key: str,
    member: Member,
    position: int,
    expected: bytes,
    records: dict[str, bytes],
) -> Iterator[Problem]:
    num_held = file.seek(0, io.SEEK_END) - position - tarfile.BLOCKSIZE
    if member.offset != position + tarfile.BLOCKSIZE:
        told = f"the index says byte {member.offset}, it follows at {position + tarfile.BLOCKSIZE}"
        yield Problem("index", member.name, told, key)
    file.seek(position)
    header = file.read(tarfile.BLOCKSIZE)
    if header != expected:
        at = position + first_difference(header, expected)
        told = f"the header differs from byte {at} of the tar"
        yield Problem("tar_header", f"{member.name} header", told, key)
    data = file.read(min(member.size, max(0, num_held)))
    if len(data) != member.size:
        told = f"cut short after {len(data)} of {member.size} bytes"
        yield Problem("tar_data", member.name, told, key)
        return
    if (found := zlib.crc32(data)) != member.crc32:
        told = f"CRC-32 is {found:08x}, the index says {member.crc32:08x}"
        yield Problem("tar_data", member.name, told, key)
    elif member.name == JSON_MEMBER:
        records[key] = data
    padding = file.read(padded_size(member.size) - member.size)
    if any(padding) or len(padding) != padded_size(member.size) - member.size:
        at = position + tarfile.BLOCKSIZE + member.size
        told = f"the padding from byte {at} of the tar is not all zero, or cut short"
        yield Problem("tar_padding", f"{member.name} padding", told, key)


def _check_end(file: BinaryIO, position: int) -> Iterator[Problem]:
    file.seek(position)
    rest = file.read(archive_size(position) - position)
    beyond = file.read(1)
    if any(rest):
        at = position + len(rest) - len(rest.lstrip(b"\0"))
        yield Problem("tar_end", END, f"byte {at} of the tar is not zero")
    if beyond or len(rest) != archive_size(position) - position:
        found = file.seek(0, 2)
        told = f"the tar has {found} bytes, and should have {archive_size(position)}"
        yield Problem("tar_end", END, told)
