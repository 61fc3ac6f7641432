"""The processes of a training: one, or as many as `torchrun` started."""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed
from torch import Tensor

from training.config import UserError

_PATIENCE = datetime.timedelta(hours=2)  # others wait while the first process validates


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    device: torch.device
    """where this one computes"""
    rank: int = 0
    """its number"""
    count: int = 1
    """of them all"""

    @property
    def is_first(self) -> bool:
        """Whether this is the one that validates, logs and writes."""
        return self.rank == 0

    def mean(self, x: Tensor) -> Tensor:
        """The mean over all processes, in each of them."""
        if self.count > 1:
            torch.distributed.all_reduce(x)
        return x / self.count

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            torch.distributed.barrier()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the others that `torchrun` started, by NCCL on GPUs and by gloo on CPUs.

    Args:
        device: auto, cpu or cuda.

    Raises:
        UserError: if there is no such device.
    """
    kind = choose_device(device).type
    if kind == "cuda":
        # Sizes repeat, so that the fastest kernels may be looked for; TF32 where float32 is asked.
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    if "LOCAL_RANK" not in os.environ:
        yield Processes(torch.device(kind))
        return
    here = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else None
    if here is not None:
        if here.index >= torch.cuda.device_count():
            raise UserError(
                f"torchrun started process {here.index} on a machine of "
                f"{torch.cuda.device_count()} GPUs: give a smaller --nproc-per-node"
            )
        torch.cuda.set_device(here)
    torch.distributed.init_process_group("nccl" if here else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(
            here or torch.device(kind),
            torch.distributed.get_rank(),
            torch.distributed.get_world_size(),
        )
    finally:
        torch.distributed.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """The device that auto, cpu or cuda means, here.

    Raises:
        UserError: if there is no GPU that torch can use, and one is asked for.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"--device cuda: torch {torch.__version__} finds no GPU; use --device cpu, or install "
            "a build of torch for this machine's driver"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
