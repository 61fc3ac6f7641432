import json
import platform
import subprocess
from pathlib import Path

import av
import pytest

from pipelines import environment
from pipelines.environment import describe_host, log_environment
from pipelines.job import Job
from schemas.manifest import Environment
from schemas.recipe_files import load_recipe

CAVSR = load_recipe("cavsr")
ENCODERS = {"h264": "x264 - core 165"}


def job(output: Path, num_workers: int = 2) -> Job:
    told = Environment(libraries={}, encoders=ENCODERS)
    return Job(output=str(output), recipe=CAVSR, seed=3, num_workers=num_workers, environment=told)


def test_the_record_tells_software_and_machine(tmp_path: Path) -> None:
    record = describe_host(job(tmp_path))
    assert record["recipe"] == {"name": "cavsr", "sha256": CAVSR.sha256}
    assert (record["seed"], record["num_workers"], record["encoders"]) == (3, 2, ENCODERS)
    assert record["packages"]["av"] == av.__version__
    assert {"numpy", "apache-beam", "pydantic-core"} <= set(record["packages"])
    assert "torch-which-is-not-there" not in record["packages"]
    assert record["ffmpeg"]["version"] == av.ffmpeg_version_info
    assert all("--enable-libx264" in text for text in record["ffmpeg"]["configuration"])
    assert record["ffmpeg"]["libraries"]["libavcodec"].count(".") == 2
    assert record["python"].endswith(platform.python_version())
    assert record["cpu"]["cores"] >= 1
    if platform.system() == "Linux":
        assert record["cpu"]["features"] == sorted(record["cpu"]["features"]) != []


def test_the_record_tells_nothing_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCSR_TOKEN", "s3cret-value")
    text = json.dumps(describe_host(job(tmp_path)))
    assert "s3cret-value" not in text and "VCSR_TOKEN" not in text
    assert str(tmp_path) not in text and str(Path.home()) not in text


def test_the_record_tells_no_path_of_who_built_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = (
        "--disable-static --prefix=/home/somebody/vendor --enable-libx264 --arch=x86_64 "
        "--extra-cflags='-I/home/somebody/include -O2' --cc=C:\\Users\\somebody\\cl "
        "'--extra-ldflags=-L/home/somebody' /home/somebody --extra-version='two words'"
    )
    meta = {"libavcodec": {"configuration": configuration, "license": "GPL"}}
    monkeypatch.setattr("av._core.library_meta", meta)
    told = environment._software.__wrapped__()["ffmpeg"]["configuration"]
    assert "somebody" not in str(told)
    assert told == [
        "--disable-static --prefix --enable-libx264 --arch=x86_64 --extra-cflags --cc "
        "'--extra-ldflags --extra-version='two words'"
    ]


def test_equal_hosts_share_a_record_and_others_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = log_environment(job(tmp_path))
    file = job(tmp_path).layout.environment(first)
    assert json.loads(file.read_bytes()) == describe_host(job(tmp_path))
    written = file.stat().st_mtime_ns
    assert log_environment(job(tmp_path)) == first
    assert file.stat().st_mtime_ns == written
    monkeypatch.setattr(environment, "_machine", lambda: {"cpu": {"model": "another"}})
    second = log_environment(job(tmp_path))
    assert sorted(path.stem for path in file.parent.iterdir()) == sorted([first, second])
    assert first != second


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    told = subprocess.run(
        ["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True
    )
    return told.stdout.strip()


def test_the_commit_is_that_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pipelines"
    package.mkdir()
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    assert environment._commit() == ""  # no checkout
    git(tmp_path, "init", "--quiet")
    (tmp_path / "other.txt").write_text("somebody else's")
    git(tmp_path, "add", "other.txt")
    git(tmp_path, "commit", "--quiet", "-m", "m")
    (package / "__init__.py").write_text("")
    assert environment._commit() == ""  # somebody else's checkout
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "m")
    assert environment._commit() == git(tmp_path, "rev-parse", "HEAD")
    commit = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert environment._commit() == commit
    (tmp_path / "other.txt").write_text("changed, and no code")
    assert environment._commit() == commit
    (package / "new.py").write_text("")
    assert environment._commit() == f"{commit}-dirty"
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("changed = True")
    assert environment._commit() == f"{commit}-dirty"


def test_asking_for_the_commit_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pipelines"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "m")
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    (package / "__init__.py").touch()  # so that git would refresh its index
    before = (tmp_path / ".git" / "index").stat()
    assert environment._commit()
    after = (tmp_path / ".git" / "index").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_without_git_the_commit_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert environment._commit() == ""
