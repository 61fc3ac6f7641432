"""`--retry failed-retryable`: which failures there are, and which shards are made again."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.failures import failed
from pipelines.layout import Layout
from pipelines.synthesize.__main__ import main
from schemas.manifest import read_manifest
from schemas.record import Status
from schemas.sample import SampleRow
from tests.pipelines import accidents
from tests.pipelines.killing import Finished, digests, finished_files
from tests.pipelines.small import changed, make_corpus, rows, synthesize

RETRY = "--retry=failed-retryable"
SHARDS = changed(('name = "small"', 'name = "small"\nshard_mib = 0.03'))


@pytest.mark.parametrize(
    ("stage", "reason", "status"),
    [
        ("probe", "unreadable", Status.FAILED_RETRYABLE),
        ("probe", "corrupt", Status.FAILED_PERMANENT),
        ("probe", "empty_file", Status.FAILED_PERMANENT),
        ("read", "truncated", Status.FAILED_RETRYABLE),
        ("read", "not_media", Status.FAILED_RETRYABLE),  # it was a video when it was probed
        ("make", "worker_died", Status.FAILED_RETRYABLE),
        ("make", "stalled", Status.FAILED_RETRYABLE),
        ("make", "cpu_limit", Status.FAILED_PERMANENT),
        ("make", "memory_limit", Status.FAILED_PERMANENT),
        ("encode", "encoder_failed", Status.FAILED_PERMANENT),
    ],
)
def test_a_failure_is_of_a_class(stage: str, reason: str, status: Status) -> None:
    assert failed(stage, reason, "why").status is status


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a corpus that lies beside it, in shards of one task each."""
    folder = tmp_path_factory.mktemp("whole")
    return synthesize(make_corpus(folder / "in"), folder / "set", SHARDS)


def without_a_source(whole: Path, folder: Path) -> tuple[Path, Callable[..., int]]:
    """The dataset, made while a video was away after it had been planned; it is back now."""
    corpus, output = make_corpus(folder / "in"), folder / "set"
    (folder / "set.toml").write_text(SHARDS)

    def run(*others: str) -> int:
        options = [f"--input={corpus}", f"--recipe={folder / 'set.toml'}", f"--output={output}"]
        return main(["--runner=DirectRunner", "--workers=1", *options, *others])

    assert run("--plan-only") == 0
    video = corpus / "long.mp4"
    content = video.read_bytes()
    video.write_bytes(bytes(len(content)))
    assert run() == 0
    video.write_bytes(content)
    assert digests(output) != digests(whole)
    return output, run


def lacking(output: Path) -> set[str]:
    """Shards that lack samples which may be made now."""
    found = rows(output, "samples", SampleRow)
    return {row.shard for row in found if row.status is Status.FAILED_RETRYABLE}


def files_of(finished: set[Finished], shards: set[str]) -> set[Finished]:
    return {file for file in finished if file.path.stem in shards}


def test_only_shards_that_lack_a_retryable_sample_are_made_again(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, run = without_a_source(whole, tmp_path)
    assert re.search(
        "retry     2 samples: once .* --retry failed-retryable\n", capsys.readouterr().out
    )
    before, again = finished_files(output), lacking(output)
    others = {shard.shard for shard in read_manifest(output).shards} - again
    assert len(again) == 2 and others
    assert run() == 0  # goes on, and there is nothing to do
    assert finished_files(output) == before
    capsys.readouterr()
    assert run(RETRY) == 0
    said = capsys.readouterr().out
    assert "Retry: 2 shards\n" in said and "retry  " not in said
    after = finished_files(output)
    assert files_of(after, others) == files_of(before, others)
    assert files_of(after, again).isdisjoint(before)
    assert digests(output) == digests(whole)
    assert run(RETRY) == 0
    assert "Retry: nothing to make again\n" in capsys.readouterr().out
    assert finished_files(output) == after


def test_repeated_bundles_make_a_shard_again_once(whole: Path, tmp_path: Path) -> None:
    output, run = without_a_source(whole, tmp_path)
    (shard, _) = sorted(lacking(output))
    assert run(RETRY, "--direct_runner_bundle_repeat=2") == 0
    assert '"attempts": 2' in Layout(output).shard_log(shard).read_text()
    assert digests(output) == digests(whole)


def test_a_retry_that_was_interrupted_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, run = without_a_source(whole, tmp_path)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.shards.check_libraries", interrupt)
        assert run(RETRY) == 130
    assert not Layout(output).manifest.exists()
    assert run() == 0
    assert digests(output) == digests(whole)


def test_what_fails_again_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "in")
    (corpus / "long.mp4").rename(corpus / "deadly.mp4")
    monkeypatch.setattr("pipelines.shards.make", accidents.make_unless_deadly)
    output = synthesize(corpus, tmp_path / "set", SHARDS)
    before = digests(output)
    assert len(lacking(output)) == 1
    synthesize(corpus, output, SHARDS, RETRY)
    assert digests(output) == before


def test_another_class_cannot_be_retried(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--retry=failed-permanent"])
    assert "choose from" in capsys.readouterr().err
