"""LitData and MosaicML Streaming, in an interpreter where the library is installed.

Both parts are here: what starts that interpreter, and what runs in it. There the library's own
writer stores the members of a dataset's samples as bytes, and its own reader hands them out in the
order in which they were written; members are decoded by the same functions as everywhere.

That interpreter needs the library and what the project itself depends on:

    python3 -m venv VENV && VENV/bin/pip install -c constraints.txt LIBRARY .

LIBRARY is litdata or mosaicml-streaming. The latter imports torchvision, whose wheel on PyPI goes
with PyPI's build of PyTorch for CUDA only (6 GB), not with the one for CPUs.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.loader.windows import (
    Epochs,
    Reading,
    Request,
    batches,
    decode_pixels,
    decode_window,
    digest,
    parse_sample,
    timed,
    use_one_thread,
)
from schemas.shard import iter_samples

_ROOT = Path(__file__).parents[2]
_KEY = "key"  # the field beside the members
_CHUNK_BYTES = 64 * 2**20  # the default of both


class Elsewhere:
    """A dataset in another format, written and read by another interpreter.

    Args:
        library: one of LIBRARIES.
        python: the interpreter.
        dataset: whose samples to convert.
        folder: where to; new.
        epochs: what is read.
        batch_size: windows in a batch.
    """

    def __init__(
        self,
        library: str,
        python: str,
        dataset: Path,
        folder: Path,
        epochs: Epochs,
        batch_size: int,
    ) -> None:
        self._library, self._python, self._folder = library, python, folder
        self._batch_size = batch_size
        self._requests = folder.with_suffix(".json")
        self._requests.write_text(json.dumps(epochs))
        self._run("convert", *(str(tar) for tar in sorted((dataset / "data").glob("*.tar"))))

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())

    def digest(self) -> str:
        """Of the first epoch's pictures."""
        return str(self._run("digest", str(self._requests)))

    def measure(self) -> Reading:
        """Read everything once, in a process of its own; its start and a first epoch left out."""
        return Reading(*self._run("read", str(self._requests), str(self._batch_size)))

    def _run(self, task: str, *arguments: str) -> Any:
        command = [self._python, "-m", __name__, self._library, task, str(self._folder)]
        command += arguments
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{self._python} does not {task} with {self._library} (what it needs is told in "
                f"benchmarks/loader/elsewhere.py):\n{done.stderr}"
            )
        return json.loads(done.stdout.splitlines()[-1])  # libraries have their say before


# What runs there


def main(arguments: Sequence[str]) -> int:
    """Do one task; its result is the last line of the standard output, as JSON."""
    library, task, folder, *rest = arguments
    use_one_thread()
    write, open_reader = LIBRARIES[library]
    result: Any = None
    if task == "convert":
        write(folder, rest)
    else:
        epochs = [[Request(*fields) for fields in epoch] for epoch in json.loads(_text(rest[0]))]
        samples = open_reader(folder)
        if task == "digest":
            result = _digest(samples, epochs[0])
        else:
            _read(samples, epochs[:1], int(rest[1]))  # warm: opened files, started threads
            result = timed(lambda: _read(samples, epochs, int(rest[1])))
    print(f"\n{json.dumps(result)}")
    return 0


def _text(path: str) -> str:
    return Path(path).read_text()


def _read(samples: Iterable[Mapping[str, Any]], epochs: Epochs, batch_size: int) -> int:
    windows = (
        decode_window(sample, requests[sample[_KEY]])
        for requests in map(_by_key, epochs)
        for sample in samples
    )
    return sum(len(batch.keys) for batch in batches(windows, batch_size))


def _digest(samples: Iterable[Mapping[str, Any]], epoch: Sequence[Request]) -> str:
    requests = _by_key(epoch)
    return digest(
        (sample[_KEY], decode_pixels(parse_sample(sample), sample, requests[sample[_KEY]]))
        for sample in samples
    )


def _by_key(epoch: Sequence[Request]) -> dict[str, Request]:
    return {request.key: request for request in epoch}


def iter_tar(tar: str) -> Iterator[dict[str, Any]]:
    """The samples of a shard: the key, and every member's bytes by extension."""
    with open(tar, "rb") as file:
        for key, members in iter_samples(file):
            yield {_KEY: key, **members}


def _write_litdata(folder: str, tars: Sequence[str]) -> None:
    import litdata

    litdata.optimize(iter_tar, list(tars), folder, chunk_bytes=_CHUNK_BYTES, num_workers=1)


def _open_litdata(folder: str) -> Iterable[Mapping[str, Any]]:
    import litdata

    return litdata.StreamingDataset(folder, shuffle=False)


def _write_mds(folder: str, tars: Sequence[str]) -> None:
    from streaming import MDSWriter

    samples = (sample for tar in tars for sample in iter_tar(tar))
    first = next(samples)
    columns = {name: "str" if name == _KEY else "bytes" for name in first}
    with MDSWriter(out=folder, columns=columns, size_limit=_CHUNK_BYTES) as writer:
        writer.write(first)
        for sample in samples:
            writer.write(sample)


def _open_mds(folder: str) -> Iterable[Mapping[str, Any]]:
    from streaming import StreamingDataset

    return StreamingDataset(local=folder, shuffle=False, batch_size=1, num_canonical_nodes=1)


_Write = Callable[[str, Sequence[str]], None]
_Open = Callable[[str], Iterable[Mapping[str, Any]]]
LIBRARIES: dict[str, tuple[_Write, _Open]] = {
    "litdata": (_write_litdata, _open_litdata),
    "mds": (_write_mds, _open_mds),
}
"""How each writes a folder from tars, and how it opens one for an epoch after the other."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
