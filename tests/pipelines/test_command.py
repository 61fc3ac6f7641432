import errno
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest

from pipelines import contact_sheet
from pipelines.beam_log import file_failure, noted, told_error
from pipelines.command import (
    EXIT_FINDINGS,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    run_command,
    writing_to,
)
from pipelines.errors import UserError
from pipelines.export import __main__ as export
from schemas.manifest import MANIFEST_NAME, DatasetError
from schemas.recipe import RecipeError
from schemas.record import SchemaVersionError
from schemas.shard import ShardError
from schemas.store import StoreError


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_the_status_is_that_of_the_work() -> None:
    assert run_command("verify", lambda: EXIT_FINDINGS) == EXIT_FINDINGS


@pytest.mark.parametrize(
    "kind", [UserError, RecipeError, DatasetError, SchemaVersionError, ShardError, StoreError]
)
def test_what_users_can_mend_is_one_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("verify", raising(kind("no such thing"))) == EXIT_USER_ERROR
    assert capsys.readouterr() == ("", "pipelines.verify: no such thing\n")


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_interruption_is_one_line_wherever_it_was_raised(
    goes_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError("in a step")
    wrapped.__cause__ = KeyboardInterrupt()
    for error in (KeyboardInterrupt(), wrapped):
        assert run_command("publish", raising(error), goes_on=goes_on) == EXIT_INTERRUPTED
        told = capsys.readouterr().err
        assert told.startswith("pipelines.publish: interrupted") and told.count("\n") == 1
        assert ("goes on" in told) == goes_on


def test_an_interruption_is_not_lost_in_a_destructor() -> None:
    class Interrupting:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def work() -> int:
        Interrupting()
        time.sleep(60)
        return 0

    assert run_command("verify", work) == EXIT_INTERRUPTED


def test_a_store_that_fails_inside_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        with beam.Pipeline() as root:
            _ = root | beam.Create([1]) | beam.Map(_fail)
        return 0

    assert run_command("synthesize", work) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "gs://b/x: the store did not answer" in told


@pytest.mark.parametrize(
    "error",
    [StoreError("gs://b/x: 'no'"), UserError("too few"), OSError(28, "No space left", "/x\ny")],
)
def test_what_travels_as_the_text_of_a_traceback_is_told_alike(error: Exception) -> None:
    try:
        try:
            with noted():
                raise error
        except type(error) as caught:
            raise RuntimeError(f"{caught} [while running it]") from caught
    except RuntimeError:
        text = RuntimeError(f"the job failed:\n{traceback.format_exc()}")
    found = file_failure(text) if isinstance(error, OSError) else told_error(text)
    assert found is not None and type(found) is type(error) and found.args == error.args
    assert getattr(found, "filename", None) == getattr(error, "filename", None)


def _fail(element: int) -> None:
    raise StoreError("gs://b/x: the store did not answer")


@pytest.mark.parametrize(
    ("number", "file", "told"),
    [
        (errno.ENOSPC, None, "cannot write to {output}: No space left on device; "),
        (errno.EIO, "{output}/.staging/12/shard.tar", "cannot write to {output}: Input/output"),
        (errno.EACCES, "{output}", "cannot write to {output}: Permission denied; "),
        (errno.EIO, "{output} of old/a.mp4", "{output} of old/a.mp4: Input/output error; "),
        (errno.EACCES, "/photos/a.png", "/photos/a.png: Permission denied; "),
    ],
)
def test_an_output_is_told_from_other_files(
    tmp_path: Path, number: int, file: str | None, told: str
) -> None:
    output = tmp_path / "made"
    name = None if file is None else file.format(output=output)
    raised = RuntimeError("in a step")
    raised.__cause__ = OSError(number, os.strerror(number), name)
    with pytest.raises(UserError) as caught, writing_to(output):
        raise raised
    assert str(caught.value).startswith(told.format(output=output))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("a bug"), KeyError("a bug")])
def test_a_bug_propagates(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command("verify", raising(error))


@pytest.mark.parametrize("command", [contact_sheet.main, export.main])
def test_commands_that_need_pixels_tell_a_publication(
    command: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MANIFEST_NAME).write_text("{}")
    assert command([str(tmp_path), f"--output={tmp_path / 'out'}"]) == EXIT_USER_ERROR
    assert "pipelines.materialize" in capsys.readouterr().err
