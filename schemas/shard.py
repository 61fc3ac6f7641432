"""The container: samples <-> one tar, readable by `tar -t` and plain WebDataset.

Equal samples give equal bytes: USTAR headers, no times, no owners, members in a fixed order.
Change the container here only.
"""

import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from schemas.sample import JSON_MEMBER, Member, Sample, member_names

PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""What may name a shard, a sample or a stream: it becomes part of a path."""

_MAX_NAME_BYTES = 100  # USTAR; longer names need extension headers that some readers refuse


class ShardError(ValueError):
    """A shard or a member of it is not what its index says."""


class ShardWriter:
    """Writes samples into a tar, one after the other, and hashes what it writes.

    Args:
        file: a writable binary file at position 0.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._sink = _HashingSink(file)
        sink: Any = self._sink  # a part of a file is enough
        self._tar = tarfile.TarFile(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, sample: Sample, members: Mapping[str, bytes]) -> list[Member]:
        """Append one sample.

        Args:
            sample: becomes the `json` member.
            members: every other member, by extension.

        Returns:
            The byte range of each member, in the order of the tar.

        Raises:
            ValueError: if the key or the set of members is not that of a sample.
        """
        if not PLAIN_NAME.fullmatch(sample.key):
            raise ValueError(f"{sample.key = !r} must match {PLAIN_NAME.pattern!r}")
        data = {JSON_MEMBER: sample.model_dump_json().encode(), **members}
        names = member_names(len(sample.streams))
        if sorted(data) != sorted(names):
            raise ValueError(f"{sample.key}: members are {sorted(data)}, expected {sorted(names)}")
        return [self._add_member(sample.key, name, data[name]) for name in names]

    def _add_member(self, key: str, name: str, data: bytes) -> Member:
        info = _tar_info(key, name, len(data))
        if len(info.name.encode()) > _MAX_NAME_BYTES:
            raise ValueError(f"{info.name = !r} exceeds {_MAX_NAME_BYTES} bytes")
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return Member(name=name, offset=offset, size=len(data), crc32=zlib.crc32(data))

    def close(self) -> tuple[int, str]:
        """Finish the tar; the file stays open.

        Returns:
            Its size in bytes and its SHA-256, hexadecimal.
        """
        self._tar.close()
        return self._sink.size, self._sink.sha256.hexdigest()


def _tar_info(key: str, name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{key}.{name}")
    info.size = size
    return info


def header_bytes(key: str, name: str, size: int) -> bytes:
    """The tar header that a member has here, all of it.

    Raises:
        ShardError: if no member can have such a name or size.
    """
    try:
        header = _tar_info(key, name, size).tobuf(tarfile.USTAR_FORMAT)
    except ValueError as error:
        raise ShardError(f"no member of {size} bytes can be named {key}.{name}: {error}") from error
    if not PLAIN_NAME.fullmatch(key):
        raise ShardError(f"{key!r} is no key of a sample")
    return header


def padded_size(size: int) -> int:
    """Bytes that a member of so many takes up in the tar, without its header."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def archive_size(end: int) -> int:
    """Bytes of a tar whose last member ends at byte `end`: zeros fill it up."""
    return -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


class _HashingSink:
    """The part of a file that tarfile writes to, hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size


def read_member(file: BinaryIO, member: Member) -> bytes:
    """Read one member of a shard by its byte range.

    Args:
        file: the shard, readable and seekable.
        member: the range, from table `samples`.

    Raises:
        ShardError: if the bytes are missing or not those that were written.
    """
    data = MemberParts(file, member)[:]
    if zlib.crc32(data) != member.crc32:
        raise ShardError(f"{member.name} at {member.offset} does not match its checksum")
    return data


class MemberParts:
    """A member of a shard, of which slices are read as they are asked for.

    There is no checksum of a part: it takes a member that has its own inside.

    Args:
        file: the shard, readable and seekable; open as long as parts are read.
        member: the range, from table `samples`.

    Raises:
        ShardError: if the shard ends before the member does.
    """

    def __init__(self, file: BinaryIO, member: Member) -> None:
        # A read takes memory for all that was asked for, also where the file has less.
        num_held = file.seek(0, io.SEEK_END) - member.offset
        if member.offset < 0 or not 0 <= member.size <= num_held:
            told = f"{max(0, num_held)} bytes at {member.offset}, not {member.size}"
            raise ShardError(f"{member.name}: {told}")
        self._file, self._member = file, member

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._member.size)
        self._file.seek(self._member.offset + start)
        return self._file.read(max(0, stop - start))


def iter_samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Walk through a shard without its index.

    Yields:
        (key, members by extension), in the order of the tar.

    Raises:
        ShardError: if the tar is cut short.
    """
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                sample_key, _, name = info.name.partition(".")
                if sample_key != key and members:
                    yield key, members
                    members = {}
                key = sample_key
                stream = tar.extractfile(info)
                members[name] = stream.read() if stream else b""
                if len(members[name]) != info.size:
                    raise ShardError(f"{info.name} is cut short")
            _check_end_of_archive(file, tar.offset)
    except tarfile.TarError as error:
        raise ShardError(f"not a whole tar: {error}") from error
    if members:
        yield key, members


def _check_end_of_archive(file: BinaryIO, offset: int) -> None:
    # tarfile takes a file cut at a member's border for a whole one; the two zero blocks at the
    # end, which begin at `offset`, tell.
    file.seek(offset)
    if file.read(2 * tarfile.BLOCKSIZE) != bytes(2 * tarfile.BLOCKSIZE):
        raise ShardError("the tar has no end-of-archive blocks: it is cut short")
