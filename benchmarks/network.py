"""Time and memory of the network: `python -m benchmarks.network`.

The paper's size against the same architecture shaped as released: a pass over frames and a training
step, in turn, on one thread. Each measurement of memory is a process of its own.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.anchors.cavsr_network import ReleasedCavsr
from training.models.cavsr import Cavsr
from training.models.configs import CONFIGS, build
from training.models.layers import to_channels_last
from training.step import charbonnier

_MIB = 2**20
Work = Callable[[Cavsr, Sequence[Tensor], Tensor], None]

_REFERENCE = "released shape, modulation repaired"


def _ours(config: str, **changes: object) -> Cavsr:
    network = build(CONFIGS[config].model_copy(update=changes))
    assert isinstance(network, Cavsr)
    return network


NETWORKS: dict[str, Callable[[], Cavsr]] = {
    _REFERENCE: lambda: ReleasedCavsr(repaired=True),
    "released shape, modulation thrown away": lambda: ReleasedCavsr(repaired=False),
    "paper-compat": lambda: _ours("paper-compat"),
    "paper-compat, shared modulation": lambda: _ours("paper-compat", shared_modulation=True),
    "cavsr": lambda: _ours("cavsr"),
    "cavsr-shared": lambda: _ours("cavsr-shared"),
    "m": lambda: _ours("m"),
    "xs": lambda: _ours("xs"),
}


def _network(name: str) -> Cavsr:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    network.freeze_encoder()
    to_channels_last(network)
    return network


def _inputs(frames: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lr = torch.rand(1, frames, 3, height, width)
    types = torch.tensor([[0] + [2, 2, 2, 1] * frames])[:, :frames]
    return lr, types, *(torch.randn(2, 1, frames, 2, height, width))


def _train(network: Cavsr, inputs: Sequence[Tensor], target: Tensor) -> None:
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-5)
    restored = network.train().restorations(*inputs)
    torch.stack([charbonnier(x, target) for x in restored]).sum().backward()
    optimizer.step()
    network.zero_grad()


def _restore(network: Cavsr, inputs: Sequence[Tensor], _: Tensor) -> None:
    with torch.inference_mode():
        network.eval()(*inputs)


def compare_passes(names: Sequence[str], size: tuple[int, int, int], rounds: int) -> None:
    """Print times of passes over (frames, height, width)."""
    frames, height, width = size
    print(f"\npass, {frames} frames of {width}x{height}")
    _compare(names, _restore, size, rounds)


def compare_steps(names: Sequence[str], rounds: int) -> None:
    """Print times of training steps."""
    print("\ntraining step, 5 frames of 64x64, auxiliary heads where there are any")
    _compare(names, _train, (5, 64, 64), rounds)


def _compare(names: Sequence[str], work: Work, size: tuple[int, int, int], rounds: int) -> None:
    """Print seconds a frame, and ratios to the reference."""
    print(f"{'':42} {'s a frame':>10} {'times faster':>13}  (range)")
    inputs = _inputs(*size)
    target = torch.rand(1, size[0], 3, 4 * size[1], 4 * size[2])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _, name in itertools.product(range(rounds), names):
        network = _network(name)
        work(network, [x[:, :2] for x in inputs], target[:, :2])  # warm
        started = time.process_time()
        work(network, inputs, target)
        seconds[name].append((time.process_time() - started) / size[0])
    for name, found in seconds.items():
        ratios = [a / b for a, b in zip(seconds[_REFERENCE], found, strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:42} {min(found):10.3f} {statistics.median(ratios):13.2f}  {spread}")


def memory(config: str, lengths: Sequence[int], side: int) -> None:
    """Print the peak of resident memory over clip length, of passes and of training steps."""
    print(f"\npeak memory above that of 1 frame, MiB: {config}, LR {side}x{side}")
    print(f"{'frames':>8} {'pass':>8} {'training':>9} {'training, activations twice':>28}")
    modes = ("pass", "training", "checkpointed")
    base = [_peak(config, mode, 1, side) for mode in modes]
    for frames in lengths:
        peaks = [_peak(config, mode, frames, side) - b for mode, b in zip(modes, base, strict=True)]
        print(f"{frames:8} {peaks[0]:8.0f} {peaks[1]:9.0f} {peaks[2]:28.0f}")


def _peak(config: str, mode: str, frames: int, side: int) -> float:
    command = [sys.executable, "-m", "benchmarks.network", "--peak", config, mode]
    told = subprocess.run(
        [*command, str(frames), str(side)], check=True, capture_output=True, text=True
    )
    return float(told.stdout)


def _print_peak(config: str, mode: str, frames: int, side: int) -> None:
    network = _network(config)
    network.checkpoints_parts = mode == "checkpointed"
    target = torch.rand(1, frames, 3, 4 * side, 4 * side)
    (_restore if mode == "pass" else _train)(network, _inputs(frames, side, side), target)
    print(_peak_mib())


def _peak_mib() -> float:
    # Of getrusage's, a child begins with that of its parent.
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / _MIB


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network",
        description="Time and memory of the network, against its shape as released.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS)[:6])
    add("--frames", type=int, default=3, help="of a pass")
    add("--height", type=int, default=180)
    add("--width", type=int, default=320)
    add("--rounds", type=int, default=3)
    add("--memory", default="xs", choices=list(NETWORKS), help="whose memory is measured")
    add("--lengths", type=int, nargs="+", default=[5, 10, 20, 40])
    add("--side", type=int, default=64, help="of LR, for memory")
    parts = ["passes", "steps", "memory"]
    add("--parts", nargs="+", choices=parts, default=parts)
    add("--peak", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        config, mode, frames, side = given.peak
        _print_peak(config, mode, int(frames), int(side))
        return
    names = list(dict.fromkeys([_REFERENCE, *given.networks]))
    if "passes" in given.parts:
        compare_passes(names, (given.frames, given.height, given.width), given.rounds)
    if "steps" in given.parts:
        compare_steps(names, given.rounds)
    if "memory" in given.parts:
        memory(given.memory, given.lengths, given.side)


if __name__ == "__main__":
    main()
