"""One rank of a training that only reads, for `test_elastic`: `python -m tests.training.rank`."""

import hashlib
import json
import sys
from pathlib import Path

import torch
import torch.distributed
from torch.utils.data import DataLoader

from training.batch import Batch
from training.checkpoint import write_atomically
from training.config import StreamSettings
from training.dataset import SampleStream

SETTINGS = StreamSettings(frames=4, crop=16, batch_size=2, seed=3)
STOP = 60


def line(number: int, batch: Batch) -> str:
    """What batch `number` is."""
    hashed = hashlib.sha256(batch.lr.contiguous().numpy().tobytes())
    hashed.update(batch.hr.contiguous().numpy().tobytes())
    hashed.update(batch.flow_next.contiguous().numpy().tobytes())
    return json.dumps([number, batch.keys, hashed.hexdigest()])


def main(folder: Path, dataset: Path, rank: int, num_ranks: int, num_workers: int) -> None:
    """Read to the end, or until killed; rank 0 keeps the state."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{num_ranks}", rank=rank, world_size=num_ranks
    )
    stream = SampleStream(dataset, "train", SETTINGS).batches(0, STOP)
    kept = folder / "state.json"
    if kept.exists():
        stream = stream.going_on(json.loads(kept.read_text()))
    start = stream.state_after(0)["next_batch"]
    lines = (folder / f"{num_ranks}-{rank}.jsonl").open("w", buffering=1)
    loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
    for taken, batch in enumerate(loader):
        lines.write(line(start + taken * num_ranks + rank, batch) + "\n")
        together = torch.tensor(1)
        torch.distributed.all_reduce(together)  # hangs if another rank has fewer batches
        assert int(together) == num_ranks
        if rank == 0:
            write_atomically(kept, json.dumps(stream.state_after(taken + 1)).encode())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
