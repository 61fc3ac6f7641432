"""Writing to stores, through the clients of Beam's file systems.

Beam and the stores' libraries are imported where a URL asks for them: whoever writes to a disk
needs none of them.
"""

import contextlib
import functools
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from schemas.store import Place, StoreError, StorePath, check_endpoint, retried

_COPY_BYTES = 2**20
_PART_BYTES = 2**24  # of which S3 takes 10,000


def upload(file: Path, target: StorePath) -> None:
    """Copy a finished local file to a store; readers see the old object or the new one.

    Raises:
        StoreError: if the store refuses, or does not come back.
    """
    size = file.stat().st_size

    def copy() -> None:
        with _told_by_beam(), file.open("rb") as source:
            _COPIES[target.scheme](source, target)
        if (stored := StorePath(str(target)).size) != size:
            raise OSError(f"{stored} bytes were stored of {size}")

    retried(copy, str(target), _write_errors(target.scheme))


def _copy_to_s3(source: BinaryIO, target: StorePath) -> None:
    """Part by part.

    Beam's own stream makes an object of the parts that it has when it is closed by an exception,
    and of an empty file none.
    """
    from apache_beam.io.aws.clients.s3 import messages

    client = _writer("s3").client
    where = target.bucket, target.key
    begun = messages.UploadRequest(*where, "application/octet-stream")
    upload_id = client.create_multipart_upload(begun).upload_id
    try:
        parts = list[dict[str, Any]]()
        for number in itertools.count(1):
            data = source.read(_PART_BYTES)
            if not data and parts:
                break
            part = messages.UploadPartRequest(*where, upload_id, number, data)
            parts.append({"ETag": client.upload_part(part).etag, "PartNumber": number})
    except BaseException:
        with contextlib.suppress(*_write_errors("s3")):  # what is left costs money, but no more
            client.client.abort_multipart_upload(
                Bucket=target.bucket, Key=target.key, UploadId=upload_id
            )
        raise
    whole = messages.CompleteMultipartUploadRequest(*where, upload_id, parts)
    client.complete_multipart_upload(whole)


def _copy_to_google(source: BinaryIO, target: StorePath) -> None:
    """By Beam's stream, which gives up what it has when an exception ends it."""
    with _writer("gs").open(str(target), "wb") as sink:
        shutil.copyfileobj(source, sink, _COPY_BYTES)


_COPIES = {"s3": _copy_to_s3, "gs": _copy_to_google}


def remove(file: Place) -> None:
    """Delete a file, if it is there."""
    if isinstance(file, Path):
        file.unlink(missing_ok=True)
    elif file.is_file():
        retried(lambda: _delete(file), str(file), _write_errors(file.scheme))


def _delete(file: StorePath) -> None:
    if file.scheme == "s3":  # without Beam's own patience, which knows nothing of ours
        from apache_beam.io.aws.clients.s3 import messages

        with _told_by_beam():
            _writer("s3").client.delete(messages.DeleteRequest(file.bucket, file.key))
    else:
        _writer("gs").delete(str(file))


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

    check_endpoint()
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
