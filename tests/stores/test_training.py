"""Training on datasets in stores, by real requests to servers."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from schemas.manifest import DatasetError
from schemas.store import StorePath
from tests.stores.conftest import BUCKET
from tests.stores.proxy import Proxy, fails_for
from tests.stores.test_stores import put, put_dataset

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader  # noqa: E402

from training.batch import Batch  # noqa: E402
from training.config import StreamSettings, UserError  # noqa: E402
from training.dataset import SampleStream  # noqa: E402
from training.shards import CacheOptions  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SETTINGS = StreamSettings(frames=3, crop=8, batch_size=2)


@pytest.fixture
def remote(s3: Proxy, local: Path) -> Iterator[StorePath]:
    yield put_dataset(local, StorePath(f"s3://{BUCKET}/trained/ds"))


def check_same(found: Sequence[Batch], local: Path) -> None:
    expected = SampleStream(local, "train", SETTINGS).batches(0, len(found))
    for a, b in zip(found, expected, strict=True):
        assert a.keys == b.keys and torch.equal(a.flow_next, b.flow_next)
        assert torch.equal(a.lr, b.lr) and torch.equal(a.hr, b.hr)


def tars_read(s3: Proxy) -> Counter[str]:
    return Counter(path for method, path in s3.requests if method == "GET" and ".tar" in path)


def test_copies_of_shards_are_read_again_and_again(
    s3: Proxy, remote: StorePath, local: Path, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path / "cache")
    stream = SampleStream(remote, "train", SETTINGS, cache)
    s3.requests.clear()
    size = 2 * stream.batches_per_epoch
    check_same(list(stream.batches(0, size)), local)
    check_same(list(SampleStream(remote, "train", SETTINGS, cache)), local)
    assert len(tars_read(s3)) > 1 and set(tars_read(s3).values()) == {1}


def test_byte_ranges_are_read_where_no_copies_are_wanted(
    s3: Proxy, remote: StorePath, local: Path, tmp_path: Path
) -> None:
    cache = CacheOptions(gib=0, folder=tmp_path / "cache")
    check_same(list(SampleStream(remote, "train", SETTINGS, cache)), local)
    assert not (tmp_path / "cache").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_spawned_workers_share_copies_and_forked_ones_are_refused(
    s3: Proxy, remote: StorePath, local: Path, tmp_path: Path
) -> None:
    stream = SampleStream(remote, "train", SETTINGS, CacheOptions(folder=tmp_path / "cache"))
    s3.requests.clear()
    spawned = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    check_same(list(spawned), local)
    assert set(tars_read(s3).values()) == {1}
    forked = DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(UserError, match="survive a fork"):
        list(forked)


def test_a_store_that_fails_for_a_while_is_asked_again(
    s3: Proxy, remote: StorePath, local: Path, tmp_path: Path
) -> None:
    stream = SampleStream(remote, "train", SETTINGS, CacheOptions(folder=tmp_path / "cache"))
    s3.answer = fails_for(3.0, 503)
    check_same(list(stream), local)


def test_shards_that_do_not_fit_are_refused(remote: StorePath, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"more --cache-gib, or less than --mixed-shards 16"):
        SampleStream(remote, "train", SETTINGS, CacheOptions(gib=1e-6, folder=tmp_path))


def test_google_s_store_is_read_alike(gcs: str, local: Path, tmp_path: Path) -> None:
    remote = put_dataset(local, StorePath(f"gs://{BUCKET}/trained/ds"))
    cache = CacheOptions(folder=tmp_path / "cache")
    check_same(list(SampleStream(remote, "train", SETTINGS, cache)), local)
    assert any((tmp_path / "cache").glob("*.tar"))


def test_a_shard_that_changed_in_the_store_is_told(
    s3: Proxy, remote: StorePath, local: Path, tmp_path: Path
) -> None:
    stream = SampleStream(remote, "train", SETTINGS, CacheOptions(folder=tmp_path / "cache"))
    tar = next((local / "data").glob("train*.tar"))
    changed = bytearray(tar.read_bytes())
    changed[len(changed) // 2] ^= 1
    put(remote / "data" / tar.name, bytes(changed), tmp_path)
    with pytest.raises(DatasetError, match=rf"{tar.name} is not the file that the manifest names"):
        list(stream)
