"""Datasets and sources in stores, by real requests to servers."""

import functools
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import store as writing
from pipelines.cache import local_copies
from pipelines.command import EXIT_FINDINGS, EXIT_OK, EXIT_USER_ERROR
from pipelines.contact_sheet import main as sheet_main
from pipelines.corpus import discover
from pipelines.diff.__main__ import main as diff_main
from pipelines.export.__main__ import main as export_main
from pipelines.layout import Layout
from pipelines.materialize.__main__ import main as materialize_main
from pipelines.probe import probe
from pipelines.publish import main as publish_main
from pipelines.resynth import main as resynth_main
from pipelines.run_lock import only_run
from pipelines.status import main as status_main
from pipelines.store import upload
from pipelines.synthesize.__main__ import main as synthesize_main
from pipelines.verify.__main__ import main as verify_main
from pipelines.view import main as view_main
from schemas import store
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.recipe_files import load_recipe
from schemas.record import Status
from schemas.store import StoreError, StorePath, cache_folder, place, place_argument, version
from schemas.tables import read_table
from tests.pipelines.small import changed, make_corpus
from tests.stores import servers
from tests.stores.conftest import BUCKET
from tests.stores.proxy import Proxy, fails_for, stalls_once

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pools of the stores' clients

S3, GS = f"s3://{BUCKET}", f"gs://{BUCKET}"


def put(target: StorePath, data: bytes, tmp_path: Path) -> StorePath:
    file = tmp_path / "upload"
    file.write_bytes(data)
    upload(file, target)
    return target


def arguments(local: Path, source: str | Path, output: str, *others: str) -> list[str]:
    recipe = local.with_suffix(".toml")
    return [f"--input={source}", f"--output={output}", f"--recipe={recipe}", "--workers=1", *others]


def put_corpus(local: Path, name: str) -> str:
    """The sources of the local dataset, in a folder of the same name."""
    target = place(f"{S3}/{name}/corpus")
    assert isinstance(target, StorePath)
    for file in sorted((local.parent / "corpus").iterdir()):
        upload(file, target / file.name)
    return str(target)


def contents(root: Path | StorePath) -> dict[str, bytes]:
    """All files but the logs."""
    files = root.walk() if isinstance(root, StorePath) else root.rglob("*")
    named = {Layout(root).relative(file): file for file in files if file.is_file()}
    return {name: file.read_bytes() for name, file in named.items() if not name.startswith("logs/")}


def test_an_object_is_read_like_a_file(bucket: StorePath, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    file = put(bucket / "like/Ordner ü/a+b %20 c.bin", data, tmp_path)
    assert file.is_file() and not file.is_dir() and file.parent.is_dir()
    assert file.size == len(data) and file.read_bytes() == data
    with file.open() as opened:
        opened.seek(2_000_000)
        assert opened.read(10) == data[2_000_000:2_000_010]
        assert opened.seek(-5, os.SEEK_END) == len(data) - 5
        assert opened.read() == data[-5:]
    assert [str(found) for found in (bucket / "like").walk()] == [str(file)]
    nothing = bucket / "like" / "nothing"
    assert not nothing.exists() and not list(nothing.walk())
    with pytest.raises(FileNotFoundError):
        nothing.open()


def test_an_object_is_replaced_whole(bucket: StorePath, tmp_path: Path) -> None:
    file = put(bucket / "replaced.bin", b"old" * 4_000_000, tmp_path)
    put(file, b"new", tmp_path)
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("num_bytes", [0, 1, 40_000_000])
def test_files_of_any_length_are_written(bucket: StorePath, tmp_path: Path, num_bytes: int) -> None:
    data = os.urandom(num_bytes)
    file = put(bucket / "length.bin", data, tmp_path)
    assert file.size == num_bytes and file.read_bytes() == data


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_upload_that_is_given_up_leaves_what_was_there(
    bucket: StorePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    """Beam's own stream to S3 makes an object of the parts that it has."""
    target = put(bucket / "given-up.bin", b"old", tmp_path)

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise error
            return super().read(20 * 2**20)

    monkeypatch.setenv(store.PATIENCE_VARIABLE, "0")
    (tmp_path / "upload").write_bytes(bytes(40 * 2**20))
    with monkeypatch.context() as patch, pytest.raises((error, StoreError)):
        patch.setattr(Path, "open", lambda *_: Breaking(bytes(40 * 2**20)))
        upload(tmp_path / "upload", target)
    assert target.read_bytes() == b"old"


def test_inputs_are_found_as_on_a_disk(bucket: StorePath, tmp_path: Path) -> None:
    root = bucket / "found"
    for name in ("b.png", "a.png", ".hidden.png", "clip/10.png", "clip/9.png", "x/y/c.mp4"):
        file = tmp_path / "found" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
        upload(file, root / name)
    patterns = ("found", "found/*.png", "found/*", "found/**/*.mp4", "found/clip", "found/x")
    for pattern in (*patterns, "found/x/y/c.mp4"):
        there, here = discover([str(bucket / pattern)]), discover([str(tmp_path / pattern)])
        assert [entry.uri for entry in there] == [entry.uri for entry in here]
        assert [entry.is_folder for entry in there] == [entry.is_folder for entry in here]
        for a, b in zip(there, here, strict=True):
            assert [Path(path).name for path in a.paths] == [Path(path).name for path in b.paths]
            assert a.sizes == tuple(os.path.getsize(path) for path in b.paths)


def test_a_name_that_stores_do_not_agree_on_is_a_row(s3: Proxy) -> None:
    import boto3

    for name in ("sound.png", "a//double.png"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"names/{name}", Body=b"no picture")
    found = {entry.paths[0]: entry for entry in discover([f"{S3}/names"])}
    assert {path: entry.refused for path, entry in found.items()} == {
        f"{S3}/names/sound.png": "",
        f"{S3}/names/a//double.png": "unusable_name",
    }
    refused = probe(found[f"{S3}/names/a//double.png"], load_recipe("cavsr"), 0)
    assert refused is not None and refused.source.reason == "unusable_name"


def put_dataset(local: Path, target: StorePath) -> StorePath:
    """The local dataset, without its logs."""
    for name, data in contents(local).items():
        put(target / name, data, local.parent)
    return target


@pytest.mark.slow
def test_a_dataset_in_a_store_has_the_bytes_of_a_local_one(
    s3: Proxy, gcs: str, local: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = put_corpus(local, "same")
    for output in (f"{S3}/same/ds", f"{GS}/same/ds"):
        assert synthesize_main(arguments(local, source, output)) == EXIT_OK
        assert contents(place(output)) == contents(local)
        told = capfd.readouterr()
        written = b"".join(file.read_bytes() for file in StorePath(output).walk())
        assert servers.SECRET_KEY not in told.out + told.err
        assert servers.SECRET_KEY.encode() not in written
    requests = len(s3.requests)
    assert synthesize_main(arguments(local, source, f"{S3}/same/ds")) == 0  # finds all of it done
    again = s3.requests[requests:]
    assert not [path for method, path in again if method == "PUT" and "/data/" in path]


@pytest.mark.slow
def test_sources_are_added_and_failures_made_again_as_on_a_disk(
    bucket: StorePath, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = make_corpus(tmp_path / "old"), make_corpus(tmp_path / "new", seed=50)
    (tmp_path / "ds.toml").write_text(
        changed(('name = "small"', 'name = "small"\nshard_mib = 0.03'))
    )
    video = new / "long.mp4"
    content = video.read_bytes()
    retry, add = f"--retry={Status.FAILED_RETRYABLE}", "--add-sources"
    for output in (str(tmp_path / "ds"), str(bucket / "added" / "ds")):
        run = functools.partial(arguments, tmp_path / "ds")
        assert synthesize_main(run(old, output)) == EXIT_OK
        assert synthesize_main(run(new, output, add, "--plan-only")) == EXIT_OK
        video.write_bytes(bytes(len(content)))  # was sound when it was probed
        assert synthesize_main(run(new, output, add)) == EXIT_OK
        assert status_main([output]) == EXIT_OK
        told = capfd.readouterr().out
        assert re.search(r"retry     \d samples?: once", told)
        assert re.search(r"left out   2 \S+ \(failed-retryable\)", told)
        video.write_bytes(content)
        shards = {shard.shard for shard in read_manifest(place(output)).shards}
        before = {name: version(f"{output}/data/{name}.tar") for name in shards}
        assert synthesize_main(run(old, output, retry)) == EXIT_OK
        after = {name: version(f"{output}/data/{name}.tar") for name in shards}
        assert 0 < len(before.items() - after.items()) < len(shards)
    assert contents(bucket / "added" / "ds") == contents(tmp_path / "ds")


@pytest.mark.slow
def test_commands_read_a_url_like_a_folder(gcs: str, local: Path, tmp_path: Path) -> None:
    there = put_dataset(local, StorePath(f"{GS}/read/ds"))
    key = read_table(str(local / "index" / "plan.parquet"), PlannedSample)[0].key
    source = f"--input={local.parent / 'corpus'}"
    for root, name in ((there, "there"), (local, "here")):
        dataset, output = str(root), tmp_path / name
        frames = f"--output={output / 'png'}"
        made = [dataset, key, source, f"--output={output / 'made'}", "--workers=1", "--verify"]
        one = ["--workers=1"]
        assert export_main([dataset, frames, "--stream=coded", *one]) == EXIT_OK
        assert view_main([dataset, f"--output={output / 'v'}", "--where=num_frames > 4"]) == EXIT_OK
        assert resynth_main(made) == EXIT_OK
        assert sheet_main([dataset, f"--output={output / 'sheet.png'}"]) == EXIT_OK
        assert publish_main([dataset, f"--output={output / 'published'}", *one]) == EXIT_OK
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert diff_main([str(there), str(local)]) == EXIT_OK
    assert verify_main([str(there), source, "--grade=pixel", "--workers=1"]) == EXIT_OK
    put(there / "data" / "stray.bin", b"stray", tmp_path)
    put(there / "manifest.json.part", b"stray", tmp_path)
    assert verify_main([str(there), "--grade=structural", "--workers=1"]) == EXIT_FINDINGS


@pytest.mark.slow
def test_a_publication_in_a_store_becomes_a_dataset_in_a_store(
    gcs: str, local: Path, tmp_path: Path
) -> None:
    published, output = StorePath(f"{GS}/again/published"), StorePath(f"{GS}/again/ds")
    assert publish_main([str(local), f"--output={tmp_path / 'p'}", "--workers=1"]) == EXIT_OK
    for name, data in contents(tmp_path / "p").items():
        put(published / name, data, tmp_path)
    source, to = f"--input={local.parent / 'corpus'}", f"--output={output}"
    assert materialize_main([str(published), source, to, "--workers=1"]) == EXIT_OK
    assert contents(output) == contents(local)
    inside = f"--output={published}/ds"
    assert materialize_main([str(published), source, inside, "--workers=1"]) == EXIT_USER_ERROR


def test_one_run_of_a_machine_at_a_time_writes_to_a_place(
    gcs: str, local: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = f"{GS}/locked/ds"
    with only_run(Layout(StorePath(output))):
        status = synthesize_main(arguments(local, local.parent / "corpus", output))
    assert status == EXIT_USER_ERROR
    assert f"another run writes to {output} (process {os.getpid()}" in capfd.readouterr().err
    assert not StorePath(output).exists()


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_stopped(s3: Proxy, local: Path) -> None:
    source, output = put_corpus(local, "killed"), StorePath(f"{S3}/killed/ds")
    command = [sys.executable, "-m", "pipelines.synthesize"]
    process = subprocess.Popen(
        [*command, *arguments(local, source, str(output))],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    marker = output / "index/shards"
    while not marker.is_dir() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = next(marker.iterdir())
    made = (output / f"data/{first.stem}.tar").version
    assert not (output / "manifest.json").is_file()
    assert synthesize_main(arguments(local, source, str(output))) == 0
    assert contents(output) == contents(local)
    assert (output / f"data/{first.stem}.tar").version == made


@pytest.mark.parametrize("status", [503, -1])
def test_what_fails_for_a_while_is_tried_again(
    bucket: StorePath, s3: Proxy, gcs_proxy: Proxy, tmp_path: Path, status: int
) -> None:
    target = bucket / "while.bin"
    proxy = {"s3": s3, "gs": gcs_proxy}[bucket.scheme]
    proxy.answer = fails_for(1, status)
    put(target, b"written", tmp_path)
    proxy.answer = fails_for(1, status)
    assert target.read_bytes() == b"written"


def test_a_store_that_stalls_is_asked_again(
    s3: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = put(StorePath(f"{S3}/stalls.bin"), b"stored", tmp_path)
    monkeypatch.setattr(store, "_REQUEST_SECONDS", 1.0)
    store._file_system.cache_clear()
    s3.answer = stalls_once(3)
    requests = len(s3.requests)
    assert target.read_bytes() == b"stored"
    assert s3.requests[requests] == s3.requests[requests + 1]
    store._file_system.cache_clear()


def test_a_store_that_stays_away_is_told(
    bucket: StorePath, s3: Proxy, gcs_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.PATIENCE_VARIABLE, "1")
    s3.answer = gcs_proxy.answer = lambda method, path: 503
    with pytest.raises(StoreError, match=r"did not answer for 1 s .* VCSR_STORE_PATIENCE"):
        (bucket / "away.bin").read_bytes()


def test_an_upload_that_breaks_off_is_made_good(s3: Proxy, tmp_path: Path) -> None:
    """Beam makes an object of the first part, and says that the second failed."""
    failures = iter([503] * 3)
    s3.answer = lambda method, path: next(failures, 0) if "partNumber=2" in path else 0
    data = os.urandom(11 * 2**20)
    assert put(StorePath(f"{S3}/broken.bin"), data, tmp_path).read_bytes() == data


@pytest.mark.long
def test_a_store_that_goes_away_ends_the_run_with_a_message(
    s3: Proxy, local: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(store.PATIENCE_VARIABLE, "2")
    source, output = local.parent / "corpus", f"{S3}/away/ds"
    s3.answer = lambda method, path: 503 if "/data/" in path and method != "GET" else 0
    assert synthesize_main(arguments(local, source, output)) == EXIT_USER_ERROR
    told = [line for line in capfd.readouterr().err.splitlines() if "tried again" not in line]
    assert [line for line in told if "did not answer for 2 s" in line] == told[-1:]
    assert f"{output}/data/" in told[-1] and "Traceback" not in "".join(told)
    s3.answer = lambda method, path: 0
    assert synthesize_main(arguments(local, source, output)) == EXIT_OK
    assert contents(place(output)) == contents(local)


def test_mistakes_are_told_before_any_work(
    s3: Proxy, local: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(output: str, source: str | Path = local.parent / "corpus") -> str:
        store._file_system.cache_clear()
        capfd.readouterr()
        assert synthesize_main(arguments(local, source, output)) == EXIT_USER_ERROR
        out, err = capfd.readouterr()
        assert not out and servers.SECRET_KEY not in err
        last: str = err.splitlines()[-1]
        return last

    assert "there is no bucket 'nowhere'" in told("s3://nowhere/ds")
    assert "there is no bucket 'nowhere'" in told(f"{S3}/ds", "s3://nowhere/photos")
    assert "does not exist" in told(f"{S3}/ds", f"{S3}/no-such-folder")
    assert "s3://BUCKET/PATH" in told("ftp://host/ds")
    assert "has an empty part, '.', '..'" in told(f"{S3}/a/../ds")
    assert "has an empty part, '.', '..'" in told(f"{S3}/ds", f"{S3}/photos//1")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
        line = told(f"{S3}/ds")
        assert "the store refuses" in line and "AWS_ACCESS_KEY_ID" in line
        assert "wrong-and-secret" not in line
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_ports(1)[0]}")
        patch.setenv(store.PATIENCE_VARIABLE, "1")
        assert "did not answer for 1 s" in told(f"{S3}/ds")
    store._file_system.cache_clear()


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError, match="holds credentials") as refusal:
        StorePath("s3://key:geheim@bucket/x")
    assert "geheim" not in str(refusal.value)
    with pytest.raises(Exception, match="holds credentials"):
        place_argument("s3://key:geheim@bucket/x")
    with pytest.raises(StoreError, match="holds credentials") as refusal:
        StorePath("s3://key:gehe/im@bucket/x")
    assert "gehe" not in str(refusal.value)
    with pytest.raises(StoreError, match="leads nowhere") as refusal:
        place("https://bucket.example/x?X-Amz-Signature=geheim")
    assert "geheim" not in str(refusal.value)


def test_credentials_in_an_endpoint_are_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:geheim@127.0.0.1:1")
    store._file_system.cache_clear()
    writing._writer.cache_clear()
    for act in (lambda path: path.read_bytes(), lambda path: put(path, b"x", tmp_path)):
        with pytest.raises(StoreError, match="AWS_ENDPOINT_URL holds credentials"):
            act(StorePath(f"{S3}/x"))
    assert "geheim" not in "".join(capfd.readouterr())


def test_copies_are_kept_as_far_as_there_is_room(
    s3: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VCSR_CACHE_GIB", str(250_000 / 2**30))
    files = [put(StorePath(f"{S3}/kept/{i}.bin"), bytes([i]) * 100_000, tmp_path) for i in range(3)]
    with local_copies([str(file) for file in files]) as paths:
        # All are there while they are held, whatever was deleted to make room.
        assert [Path(path).read_bytes() for path in paths] == [file.read_bytes() for file in files]
        assert [Path(path).name for path in paths] == ["0.bin", "1.bin", "2.bin"]
    kept = [path for path in (cache_folder() / "sources").glob("*/*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) == 200_000
    requests = len(s3.requests)
    with local_copies([str(files[2])]) as (path,):
        assert Path(path).read_bytes() == bytes([2]) * 100_000
    assert {method for method, _ in s3.requests[requests:]} == {"HEAD"}
    put(files[2], bytes([9]) * 99_999, tmp_path)  # another object of the same name
    with local_copies([str(files[2]), "/local/path"]) as (path, other):
        assert Path(path).read_bytes() == bytes([9]) * 99_999
        assert other == "/local/path"
    with local_copies([f"{S3}/kept/none.bin"]) as (path,):
        assert not Path(path).exists()
    assert not list((cache_folder() / "held").iterdir())
