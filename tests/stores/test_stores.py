"""Datasets and sources in stores, by real requests to servers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.cache import cache_folder, local_copies
from pipelines.command import EXIT_FINDINGS, EXIT_OK, EXIT_USER_ERROR
from pipelines.contact_sheet import main as sheet_main
from pipelines.corpus import discover
from pipelines.diff.__main__ import main as diff_main
from pipelines.export.__main__ import main as export_main
from pipelines.layout import Layout
from pipelines.materialize.__main__ import main as materialize_main
from pipelines.publish import main as publish_main
from pipelines.resynth import main as resynth_main
from pipelines.run_lock import only_run
from pipelines.store import upload
from pipelines.synthesize.__main__ import main as synthesize_main
from pipelines.verify.__main__ import main as verify_main
from pipelines.view import main as view_main
from schemas import store
from schemas.plan import PlannedSample
from schemas.store import StoreError, StorePath, place, place_argument
from schemas.tables import read_table
from tests.stores import servers
from tests.stores.conftest import BUCKET
from tests.stores.proxy import Proxy, fails_for, stalls_once

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pools of the stores' clients

S3, GS = f"s3://{BUCKET}", f"gs://{BUCKET}"


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> StorePath:
    """A bucket of each kind."""
    request.getfixturevalue({"s3": "s3", "gs": "gcs"}[request.param])
    return StorePath(f"{request.param}://{BUCKET}")


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


def test_inputs_are_found_as_on_a_disk(s3: Proxy, tmp_path: Path) -> None:
    root = StorePath(f"{S3}/found")
    for name in ("b.png", "a.png", ".hidden.png", "clip/10.png", "clip/9.png", "x/y/c.mp4"):
        file = tmp_path / "found" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
        upload(file, root / name)
    for pattern in ("found", "found/*.png", "found/**/*.mp4", "found/clip", "found/x/y/c.mp4"):
        there, here = discover([f"{S3}/{pattern}"]), discover([str(tmp_path / pattern)])
        assert [entry.uri for entry in there] == [entry.uri for entry in here]
        assert [entry.is_folder for entry in there] == [entry.is_folder for entry in here]
        for a, b in zip(there, here, strict=True):
            assert [Path(path).name for path in a.paths] == [Path(path).name for path in b.paths]
            assert a.sizes == tuple(os.path.getsize(path) for path in b.paths)


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


def test_training_reads_the_same_from_a_store(gcs: str, local: Path) -> None:
    from training.config import StreamSettings
    from training.dataset import SampleStream

    output = put_dataset(local, StorePath(f"{GS}/trained/ds"))
    settings = StreamSettings(frames=3, crop=8, batch_size=2)
    there, here = (SampleStream(root, "train", settings) for root in (output, local))
    for a, b in zip(there, here, strict=True):
        assert a.keys == b.keys
        assert torch.equal(a.lr, b.lr) and torch.equal(a.hr, b.hr)


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
