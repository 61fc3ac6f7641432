"""Writing to stores, through the clients of Beam's file systems.

Beam and the stores' libraries are imported where a URL asks for them: whoever writes to a disk
needs none of them.
"""

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.store import Place, StoreError, StorePath, retried

_COPY_BYTES = 2**20


def upload(file: Path, target: StorePath) -> None:
    """Copy a finished local file to a store; readers see the old object or the new one.

    Beam's writer to S3 makes an object of what it has when an upload breaks off. So the size is
    compared, and what a dataset's files are good for is told by objects that are written later.

    Raises:
        StoreError: if the store refuses, or does not come back.
    """
    size = file.stat().st_size

    def copy() -> None:
        with (
            _told_by_beam(),
            file.open("rb") as source,
            _writer(target.scheme).open(str(target), "wb") as sink,
        ):
            shutil.copyfileobj(source, sink, _COPY_BYTES)
        if (stored := StorePath(str(target)).size) != size:
            raise OSError(f"{stored} bytes were stored of {size}")

    retried(copy, str(target), _write_errors(target.scheme))


def remove(file: Place) -> None:
    """Delete a file, if it is there."""
    if isinstance(file, Path):
        file.unlink(missing_ok=True)
    elif file.is_file():
        delete = functools.partial(_writer(file.scheme).delete, str(file))
        retried(delete, str(file), _write_errors(file.scheme))


def remove_tree(folder: Place) -> None:
    """Delete a folder with all that is in it, if there is one."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for file in folder.walk():
        remove(file)


@functools.cache
def _writer(scheme: str) -> Any:
    """Beam's client for a kind of store; one a process, since it takes a second to make."""
    from apache_beam.options.pipeline_options import PipelineOptions

    # Not by way of FileSystems, whose options a worker process may lack: all is in the environment.
    options = PipelineOptions([])
    try:
        if scheme == "s3":
            import boto3  # noqa: F401
            from apache_beam.io.aws.s3io import S3IO

            return S3IO(options=options)
        from apache_beam.internal.gcp import auth
        from apache_beam.io.gcp.gcsio import GcsIO
    except ImportError as error:
        raise StoreError(
            f"writing to {scheme}:// needs {error.name}, which is not installed: "
            "pip install 'vcsr[stores]'"
        ) from error
    if "STORAGE_EMULATOR_HOST" in os.environ:
        # An emulator asks for no credentials; Beam would look for them for half a minute.
        auth._Credentials._credentials_init = True
    return GcsIO(pipeline_options=options)


@functools.cache
def _write_errors(scheme: str) -> tuple[type[Exception], ...]:
    """What the store's libraries raise."""
    _writer(scheme)  # says so if they are not installed
    if scheme == "s3":
        from apache_beam.io.aws.clients.s3.messages import S3ClientError
        from botocore.exceptions import BotoCoreError, ClientError

        return OSError, S3ClientError, BotoCoreError, ClientError
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.resumable_media import DataCorruption, InvalidResponse

    return OSError, GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption


@contextmanager
def _told_by_beam() -> Iterator[None]:
    """Beam fails to read the status of an answer that never came; what happened lies below."""
    try:
        yield
    except AttributeError as error:
        if error.obj is None and isinstance(error.__context__, Exception):
            raise OSError(str(error.__context__)) from error
        raise
