"""Reading for ever takes no more memory."""

import resource
from pathlib import Path

import pytest

from training.config import StreamSettings
from training.dataset import SampleStream

_BATCH = 10
_STATM = Path("/proc/self/statm")

pytestmark = pytest.mark.skipif(not _STATM.exists(), reason="memory is read from /proc")


@pytest.mark.parametrize(
    ("num_samples", "most_bytes_each"),
    [(3000, 8000), pytest.param(100_000, 200, marks=pytest.mark.long)],
)
def test_memory_does_not_grow_with_samples(
    ruler_dataset: Path, num_samples: int, most_bytes_each: int
) -> None:
    settings = StreamSettings(frames=4, crop=8, batch_size=_BATCH)
    stream = SampleStream(ruler_dataset, "train", settings)
    warm = num_samples // 10
    seen, before = 0, 0
    for number in range(10 * num_samples):
        seen += len(stream.batch(number).keys)
        if not before and seen >= warm:
            before, first = resident_bytes(), seen
        if seen >= num_samples:
            break
    assert resident_bytes() - before < most_bytes_each * (seen - first)


def resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
