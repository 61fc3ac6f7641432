"""One file of a dataset against what the manifest says of it."""

from pipelines.errors import reason_of
from pipelines.shards import describe_file
from schemas.manifest import MANIFEST_NAME, DataFile
from schemas.store import Place


def file_problem(file: Place, described: DataFile) -> tuple[str, str] | None:
    """(check, detail) of a file that is not as described; None if it is.

    Args:
        file: where it should be.
        described: its size and hash.
    """
    try:
        if not file.is_file():
            return "missing", f"{MANIFEST_NAME} lists it"
        found = describe_file(file, described.path, described.rows)
    except (OSError, ValueError) as error:  # a disk that fails, a name that no file can have
        return "unreadable", f"cannot be read: {reason_of(error)}"
    if found.size != described.size:
        return "size", f"{found.size} bytes, {MANIFEST_NAME} says {described.size}"
    if found.sha256 != described.sha256:
        return "hash", f"SHA-256 is {found.sha256}, {MANIFEST_NAME} says {described.sha256}"
    return None
