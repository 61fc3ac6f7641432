"""Servers for the session, and the environment in which this project finds them."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import pool
from pipelines import store as writing
from schemas import store
from schemas.store import StorePath
from tests.pipelines.small import changed, make_corpus, synthesize
from tests.stores import servers
from tests.stores.proxy import Proxy, passes

BUCKET = "corpus"
RECIPE = changed(('name = "small"', 'name = "small"\nshard_mib = 0.06'))
"""Makes several shards."""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """No credentials but those of the test servers, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VCSR_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        patch.setenv(store.PATIENCE_VARIABLE, "60")
        patch.setenv("AWS_MAX_ATTEMPTS", "2")
        yield patch
    pool._pool.cache_clear()
    store._file_system.cache_clear()


@pytest.fixture(scope="session")
def _s3_proxy(
    environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    boto3 = pytest.importorskip("boto3", reason="the extra `stores` is not installed")
    if missing := servers.missing_server("swift-proxy-server"):
        pytest.skip(missing)
    server = servers.start_swift(tmp_path_factory.mktemp("swift"))
    proxy = Proxy(server.url)
    environment.setenv("AWS_ENDPOINT_URL", proxy.url)
    store._file_system.cache_clear()
    pool._pool.cache_clear()  # workers that know nothing of the server
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield proxy
    proxy.stop()
    server.stop()


@pytest.fixture
def s3(_s3_proxy: Proxy) -> Iterator[Proxy]:
    """What stands before the S3 server; well-behaved unless told otherwise."""
    yield _s3_proxy
    _s3_proxy.answer = passes


@pytest.fixture(scope="session")
def gcs(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the emulator of Google's store."""
    storage = pytest.importorskip("google.cloud.storage", reason="no extra `stores`")
    if missing := servers.missing_server("gcp-storage-emulator"):
        pytest.skip(missing)
    server = servers.start_gcs(tmp_path_factory.mktemp("gcs"))
    environment.setenv("STORAGE_EMULATOR_HOST", server.url)
    store._file_system.cache_clear()
    pool._pool.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = storage.Client.create_anonymous_client()
        client.project = "test"
        client.create_bucket(BUCKET)
    yield server.url
    server.stop()


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> StorePath:
    """A bucket of each kind."""
    request.getfixturevalue({"s3": "s3", "gs": "gcs"}[request.param])
    return StorePath(f"{request.param}://{BUCKET}")


@pytest.fixture
def gcs_proxy(gcs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What stands before the emulator; ranges of objects are not to be read through it."""
    proxy = Proxy(gcs)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    _forget_clients()
    yield proxy
    _forget_clients()
    proxy.stop()


def _forget_clients() -> None:
    store._file_system.cache_clear()
    writing._writer.cache_clear()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset on a disk, beside its sources in `corpus` and its recipe in `local.toml`."""
    folder = tmp_path_factory.mktemp("local")
    return synthesize(make_corpus(folder / "corpus"), folder / "local", RECIPE)
