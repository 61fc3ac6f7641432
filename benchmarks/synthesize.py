"""How fast synthesis is, beside the encoding alone: `python -m benchmarks.synthesize`.

Two things run in turn, each with one and with two processes, round after round:

    pipeline  the whole command on a fresh output; planning and making are timed apart
    raw       the codecs and the HR storage alone, on the same samples. HR patches and LR frames
              lie in memory as uint8; timed are RGB -> YUV, encoding, decoding, YUV -> RGB and
              the WebP tiles, at the same settings. Nothing is read, searched, hashed or written.

The best round of each is compared, since a shared machine only ever makes things slower; CPU time
tells more than elapsed time where others use the same cores. Then one more run in this process,
under the profiler, tells where a sample's time goes.

Without --input the demo corpus is used, and mirrored copies of it: ten photographs in four
orientations and two videos with mirrored ones beside them, some fifty samples of `cavsr`.
"""

import argparse
import cProfile
import itertools
import multiprocessing
import os
import pickle
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from PIL import Image

from benchmarks.profiling import print_stages
from benchmarks.running import run_quietly
from pipelines.demo import demo_inputs
from pipelines.finish import finish_dataset
from pipelines.job import Job, describe_environment
from pipelines.layout import Layout
from pipelines.pool import Done, Result, Task, WorkerDied, WorkerPool, shared_pool
from pipelines.shards import write_shard
from pipelines.synthesize.__main__ import main as synthesize
from schemas.draw import CodecDraw, SceneDraw, StreamDraw
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.recipe_files import load_recipe
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample
from schemas.shard import iter_samples
from schemas.tables import read_table
from transforms.codec import (
    LOSSLESS_CODEC,
    decode,
    encode,
    encode_lossless,
)
from transforms.color import rgb_to_yuv, yuv_to_rgb
from transforms.decode import decode_hr
from transforms.degrade import Clip, apply_stages
from transforms.pixels import to_uint8
from transforms.streams import split_at_last_codec
from transforms.tiles import encode_webp

_PROCESSES = (1, 2)
_COPY_CRF = "18"  # of mirrored videos: as hard to decode as the original, not much harder
_LOSSLESS_FPS = 25

# Stage -> (file, function) whose time, with all that they call, is the stage's.
_STAGES = {
    "read sources": [("make.py", "read_pictures")],
    "draw": [("draw.py", "draw_scene"), ("draw.py", "draw_stream")],
    "crop": [("cut.py", "cut_frames")],
    "degrade": [("degrade.py", "apply_stages")],
    "RGB -> YUV": [("color.py", "rgb_to_yuv")],
    "encode": [("codec.py", "_run_encoder")],
    "decode, with side data": [("codec.py", "decode_with_side_data")],
    "YUV -> RGB": [("color.py", "yuv_to_rgb"), ("decode.py", "apply_post_steps")],
    "container": [("bitstream.py", "mux_nut"), ("bitstream.py", "packet_positions")],
    "frame records": [("bitstream.py", "frame_records")],
    "motion vectors": [("motion.py", "extract_blocks"), ("motion.py", "write_blocks")],
    "HR tiles (WebP)": [("tiles.py", "pack_tiles")],
    "transfer (pickle)": [("synthesize.py", "_transferred")],
    "tar": [("shard.py", "add"), ("shard.py", "close")],
    "tables": [("shards.py", "_publish_table"), ("finish.py", "finish_dataset")],
}
_RAW_STAGES = (
    "RGB -> YUV",
    "encode",
    "decode, with side data",
    "YUV -> RGB",
    "HR tiles (WebP)",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vcsr-benchmark-") as name:
        folder = Path(name)
        bench = _Bench(folder, options.input or _demo_corpus(folder / "inputs"), options.recipe)
        bench.prepare_raw()
        if len(bench.samples) < 2:  # every process needs one
            print("the input gives fewer than 2 samples: give more with --input", file=sys.stderr)
            return 2
        rounds = [bench.measure_round(number) for number in range(options.rounds)]
        _print_comparison(rounds)
        raw = dict.fromkeys(_RAW_STAGES, "raw")
        print_stages(
            "where a sample goes, one process", bench.profile(), _STAGES, len(bench.samples), raw
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.synthesize",
        description="Measure synthesis beside its encoding alone, with one and two processes.",
    )
    parser.add_argument("--input", action="append", default=[], metavar="PATH")
    parser.add_argument("--recipe", default="cavsr")
    parser.add_argument("--rounds", type=int, default=2, metavar="N")
    return parser


# Inputs


def _demo_corpus(folder: Path) -> list[str]:
    """The demo corpus and mirrored copies, enough to keep two processes busy for a while."""
    folder.mkdir()
    inputs = demo_inputs()
    for path in map(Path, inputs.copy()):
        if path.suffix == ".mp4":
            inputs.append(_mirror_video(path, folder / path.name))
        else:
            inputs += _mirror_photo(path, folder)
    return inputs


def _mirror_photo(path: Path, folder: Path) -> list[str]:
    with Image.open(path) as opened:
        photo = np.asarray(opened.convert("RGB"))
    copies = {"h": photo[:, ::-1], "v": photo[::-1], "hv": photo[::-1, ::-1]}
    targets = [folder / f"{path.stem}-{name}.png" for name in copies]
    for target, pixels in zip(targets, copies.values(), strict=True):
        Image.fromarray(pixels).save(target)
    return [str(target) for target in targets]


def _mirror_video(path: Path, target: Path) -> str:
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        video = source.streams.video[0]
        stream = copy.add_stream("libx264", video.average_rate, options={"crf": _COPY_CRF})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for frame in source.decode(video):
            pixels = frame.to_ndarray(format="rgb24")[:, ::-1].astype(np.uint8)
            copy.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        copy.mux(stream.encode(None))
    return str(target)


# Measuring


class _Run(NamedTuple):
    """One timed run."""

    processes: int
    plan_seconds: float
    """0 for raw work"""
    seconds: float
    samples: int
    load: float
    """runnable processes on the machine over the last minute, when the run began"""
    parent_cpu_seconds: float
    """of this process while the samples were made; 0 for raw work"""
    workers_cpu_seconds: float
    """of the processes that make samples, their start left out"""

    @property
    def rate(self) -> float:
        """Samples a second, planning left out."""
        return self.samples / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU time of a sample in all processes, milliseconds: steadier than `rate`."""
        return 1000 * (self.parent_cpu_seconds + self.workers_cpu_seconds) / self.samples


class _Bench:
    """The inputs, a recipe without a validation split, and a place for outputs."""

    def __init__(self, folder: Path, inputs: list[str], recipe: str) -> None:
        self._folder = folder
        self._recipe = load_recipe(recipe).model_copy(update={"validation_fraction": 0.0})
        self._inputs = [part for path in inputs for part in ("--input", path)]
        self._numbers = itertools.count()
        self.samples: list[Path] = []
        """raw work, one file a sample"""

    def _synthesize(self, output: Path, workers: int, *more: str) -> None:
        recipe = self._folder / "recipe.yaml"  # JSON is YAML
        recipe.write_text(self._recipe.model_dump_json(exclude_none=True))
        arguments = [*self._inputs, "--output", str(output), "--recipe", str(recipe)]
        run_quietly(synthesize, [*arguments, "--workers", str(workers), *more])

    def _new_output(self) -> Path:
        return self._folder / f"dataset-{next(self._numbers)}"

    def prepare_raw(self) -> None:
        """Make the dataset once, and from it what the raw work starts with."""
        output = self._new_output()
        self._synthesize(output, max(_PROCESSES))
        for number, work in enumerate(_raw_work(output)):
            self.samples.append(self._folder / f"raw-{number:05d}.pickle")
            self.samples[-1].write_bytes(pickle.dumps(work))

    def measure_round(self, number: int) -> dict[str, list[_Run]]:
        """Time everything once, and say so."""
        runs: dict[str, list[_Run]] = {"raw": [], "pipeline": []}
        for processes, (name, measure) in itertools.product(
            _PROCESSES, [("raw", self._measure_raw), ("pipeline", self._measure_pipeline)]
        ):
            run = measure(processes)
            runs[name].append(run)
            print(f"round {number}  {name:8}  {_in_words(run)}", flush=True)
        return runs

    def _measure_pipeline(self, workers: int) -> _Run:
        output, load = self._new_output(), os.getloadavg()[0]
        started = time.perf_counter()
        self._synthesize(output, workers, "--plan-only")
        planned, parent, children = time.perf_counter(), time.process_time(), _workers_cpu(workers)
        self._synthesize(output, workers)
        return _Run(
            processes=workers,
            plan_seconds=planned - started,
            seconds=time.perf_counter() - planned,
            samples=sum(read_manifest(output).splits.values()),
            load=load,
            parent_cpu_seconds=time.process_time() - parent,
            workers_cpu_seconds=_workers_cpu(workers) - children,
        )

    def _measure_raw(self, processes: int) -> _Run:
        load = os.getloadavg()[0]
        parts = [self.samples[first::processes] for first in range(processes)]
        spawn = multiprocessing.get_context("spawn")
        barrier = spawn.Barrier(processes)
        with spawn.Pool(processes, _set_barrier, (barrier,)) as pool:
            times = pool.map(_do_raw_work, parts, chunksize=1)
        seconds, cpu_seconds = zip(*times, strict=True)
        return _Run(processes, 0.0, max(seconds), len(self.samples), load, 0.0, sum(cpu_seconds))

    def profile(self) -> pstats.Stats:
        """Run the making of samples in this process, under the profiler."""
        output = self._new_output()
        self._synthesize(output, 1, "--plan-only")
        layout = Layout(output)
        job = Job(
            output=str(output),
            recipe=self._recipe,
            seed=0,
            num_workers=1,
            environment=describe_environment(self._recipe),
        )
        num_shards = len({row.shard for row in read_table(str(layout.plan), PlannedSample)})
        profiler = cProfile.Profile()
        with profiler:
            finish_dataset(job, [write_shard(job, n, _NoPool()) for n in range(num_shards)])
        return pstats.Stats(profiler)


class _NoPool(WorkerPool):
    """Runs tasks where it is, but sends tasks and results through pickle as a pool would."""

    def __init__(self) -> None:
        cv2.setNumThreads(0)

    def map_ordered(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], tasks_ahead: int = 0
    ) -> Iterator[tuple[Task, Done[Result] | WorkerDied]]:
        for task in tasks:
            yield task, self.run(function, task)

    def run(self, function: Callable[[Task], Result], task: Task) -> Done[Result] | WorkerDied:
        return Done(_transferred(function(_transferred(task))))


def _transferred(value: Result) -> Result:
    return pickle.loads(pickle.dumps(value))


# Raw work


class _RawStream(NamedTuple):
    frames: np.ndarray
    """(T, h, w, 3) uint8, of the size that is encoded"""
    codec: CodecDraw | None
    """None for lossless storage"""


class _RawSample(NamedTuple):
    tiles: list[np.ndarray]
    streams: list[_RawStream]


def _raw_work(dataset: Path) -> Iterator[_RawSample]:
    """What the codecs and the HR storage got when a dataset was made, from what it stores."""
    for tar in sorted((dataset / "data").glob("*.tar")):
        with tar.open("rb") as file:
            for _, members in iter_samples(file):
                sample = Sample.model_validate_json(members[JSON_MEMBER])
                hr = decode_hr(sample, members[HR_MEMBER])
                yield _RawSample(_tiles(sample, hr), _raw_streams(sample, hr))


def _tiles(sample: Sample, hr: np.ndarray) -> list[np.ndarray]:
    return [
        hr[t.frame, t.top : t.top + t.height, t.left : t.left + t.width].copy()
        for t in sample.hr_tiles
    ]


def _raw_streams(sample: Sample, hr: np.ndarray) -> list[_RawStream]:
    scene = SceneDraw.model_validate_json(sample.scene_draw)
    streams = []
    for stream in sample.streams:
        stages = StreamDraw.model_validate_json(stream.draw).stages
        before, codec, _ = split_at_last_codec(stages)
        clip = apply_stages(Clip(list(hr), []), [*scene.stages, *before])
        frames = [f if f.dtype == np.uint8 else to_uint8(f) for f in clip.frames]
        streams.append(_RawStream(np.stack(frames), codec))
    return streams


_barrier: Barrier  # set in each process of raw work


def _set_barrier(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - the only way to hand a barrier to a pool's processes
    _barrier = barrier
    cv2.setNumThreads(0)


def _workers_cpu(num_workers: int) -> float:
    """CPU seconds that the workers of the pipeline's pool have used since they were started."""
    pool = shared_pool(num_workers)
    # More tasks than workers, each long enough that every worker gets one.
    told = pool.map_ordered(_own_cpu, range(4 * num_workers))
    used = dict(outcome.value for _, outcome in told if isinstance(outcome, Done))
    return sum(used.values())


def _own_cpu(_: int) -> tuple[int, float]:
    time.sleep(0.05)
    return os.getpid(), time.process_time()


def _do_raw_work(files: list[Path]) -> tuple[float, float]:
    """Elapsed and CPU seconds for these samples, from when all processes have theirs in memory."""
    samples: list[_RawSample] = [pickle.loads(file.read_bytes()) for file in files]
    _do_raw_sample(samples[0])  # warm: what is loaded or set up once is not the work
    _barrier.wait()
    started, cpu_started = time.perf_counter(), time.process_time()
    for sample in samples:
        _do_raw_sample(sample)
    return time.perf_counter() - started, time.process_time() - cpu_started


def _do_raw_sample(sample: _RawSample) -> None:
    for tile in sample.tiles:
        encode_webp(tile)
    for frames, codec in sample.streams:
        if codec is None:
            packets = encode_lossless(frames, _LOSSLESS_FPS)
            yuv_to_rgb(list(decode(packets, LOSSLESS_CODEC)))
        else:
            packets = encode(rgb_to_yuv(frames, codec.pixel_format, codec.color), codec)
            yuv_to_rgb(list(decode(packets, codec.codec)), codec.color)


# Reporting


def _in_words(run: _Run) -> str:
    parent_ms = 1000 * run.parent_cpu_seconds / run.samples
    return (
        f"{run.processes} processes  {run.rate:6.2f} samples/s  ({run.samples} in "
        f"{run.seconds:.1f} s; planned in {run.plan_seconds:.1f} s; load before {run.load:.1f}; "
        f"CPU of a sample {run.cpu_ms:.0f} ms, {parent_ms:.0f} of it in the parent)"
    )


def _print_comparison(rounds: list[dict[str, list[_Run]]]) -> None:
    best = {
        name: [max((r[name][k] for r in rounds), key=lambda run: run.rate) for k in range(2)]
        for name in ("raw", "pipeline")
    }
    print(f"\nsamples/s, best of {len(rounds)} rounds   1 process   2 processes    2 / 1")
    for name, (one, two) in best.items():
        print(f"  {name:26} {one.rate:12.2f} {two.rate:12.2f} {two.rate / one.rate:10.2f}")
    ratios = [pipe.rate / raw.rate for raw, pipe in zip(*best.values(), strict=True)]
    print(f"  {'pipeline / raw':26} {ratios[0]:12.2f} {ratios[1]:12.2f}")
    for name in best:
        cpu = [min(r[name][k].cpu_ms for r in rounds) for k in range(2)]
        print(f"  {f'{name}, CPU ms a sample':26} {cpu[0]:12.0f} {cpu[1]:12.0f}")
    plans = [min(r["pipeline"][k].plan_seconds for r in rounds) for k in range(2)]
    print(f"  {'planning, seconds':26} {plans[0]:12.1f} {plans[1]:12.1f}\n")


if __name__ == "__main__":
    sys.exit(main())
