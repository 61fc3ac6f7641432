"""How fast degrading is, beside how others do it: `python -m benchmarks.degradations`.

Contenders do the same work on the same input in turn, round after round, in one run. What counts
is CPU time, of this process and of the ones it starts: all run on one thread, so images a CPU
second are images a second on a core of their own, whatever else the machine does meanwhile.

    vcisr          a batch of patches to decoded LR frames: VCISR's chain and ours
    realbasicvsr   a clip to decoded LR frames: RealBasicVSR's chain and ours
    codecs         encoding and decoding in memory, by codec, preset and size
    blur           our stage, OpenCV's filter alone, torch as VCISR calls it
    poisson        our stage, NumPy's generator alone, torch as VCISR calls it
    resize         our stage, OpenCV's resize alone, the same weights as dense matrices

Every round draws anew, the same in every run. A draw decides much of a chain's speed, so ratios
are those of the sums over all rounds; the least and the greatest round stand beside them.

Input is in memory; nothing is read from disk but what a chain itself puts there. Without --input
the photographs of the demo corpus are used.
"""

import argparse
import functools
import importlib.metadata
import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.anchors.realbasicvsr import MmagicChain
from benchmarks.anchors.vcisr import VcisrChain, blur_batch, poisson_noise
from benchmarks.stopwatch import Stopwatch, cpu_seconds
from pipelines.demo import demo_inputs
from schemas.draw import (
    BlurDraw,
    Codec,
    CodecDraw,
    FrameStageDraw,
    NoiseDraw,
    ResizeDraw,
    ResizeKernel,
    StreamDraw,
)
from schemas.encoders import ENCODERS
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe, shipped_recipes
from schemas.sample import SampleKind
from transforms.blur import blur_kernel, kernel_at
from transforms.codec import coded_size, decode, encode, pad_to
from transforms.color import rgb_to_yuv
from transforms.cut import USM
from transforms.degrade import Clip, apply_stages, make_streams
from transforms.draw import draw_scene, draw_stream
from transforms.frame_stages import apply_frame_stages
from transforms.pixels import to_float, to_uint8
from transforms.sharpen import sharpen
from transforms.streams import split_at_last_codec

_SEED = 0
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_PATCH = 360  # VCISR's
_PATCHES_IN_A_ROW = 8  # of one picture, before the next
_CLIP_SIZE, _CLIP_FRAMES = 256, 15  # RealBasicVSR's
_PAN = 2  # pixels a frame
_MICRO_IMAGES = 8
_MICRO_REPEATS = 3
_MAX_TAPS = 21  # of a blur kernel

_CODEC_SIZES = ((64, 64), (128, 128), (180, 320), (360, 640))  # rows, columns
_CODEC_FRAMES = 15
_MORE_PRESETS: dict[Codec, tuple[str, ...]] = {
    "h264": ("veryfast", "slow"),
    "hevc": ("veryfast",),
    "av1": ("8",),
}
# Settings of middling quality, on each codec's own scale.
_RATES: dict[Codec, float] = {"h264": 28, "hevc": 30, "vp8": 40, "vp9": 40, "av1": 45}
_MPEG_QSCALE = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    photos = _read_photos(options.input or demo_inputs())
    print(_machine())
    for name in options.sections:
        _SECTIONS[name](photos, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.degradations",
        description="Measure our degradation chains beside those of others, on one thread.",
    )
    parser.add_argument("--sections", nargs="+", choices=list(_SECTIONS), default=list(_SECTIONS))
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--images", type=int, default=64, metavar="N", help="in a VCISR batch")
    parser.add_argument("--input", action="append", default=[], metavar="PATH")
    return parser


def _machine() -> str:
    versions = ("torch", "numpy", "opencv-python-headless", "av", "imageio-ffmpeg")
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in versions)
    return (
        f"{_cpu_name()}, {os.cpu_count()} logical cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {packages}"
    )


def _cpu_name() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# Inputs


def _read_photos(paths: Sequence[str]) -> list[np.ndarray]:
    """The images among the paths and in folders among them, (H, W, 3) uint8 RGB."""
    files = [file for path in map(Path, paths) for file in _files(path)]
    pictures = [cv2.imread(str(file)) for file in files if file.suffix.lower() in _IMAGES]
    photos = [cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) for bgr in pictures if bgr is not None]
    if not photos:
        raise SystemExit(f"no images in {', '.join(paths)}")
    return photos


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _patches(photos: Sequence[np.ndarray], count: int, size: int) -> list[np.ndarray]:
    """Square patches, several of one picture, then of the next."""
    rng = np.random.default_rng(_SEED)
    large = [_at_least(photo, size, size) for photo in photos]
    patches = []
    for number in range(count):
        photo = large[number // _PATCHES_IN_A_ROW % len(large)]
        top, left = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
        patches.append(photo[top : top + size, left : left + size].copy())
    return patches


def _panned(photo: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """(count, height, width, 3): a window that moves over a picture."""
    photo = _at_least(photo, height + _PAN * count, width + _PAN * count)
    starts = range(0, _PAN * count, _PAN)
    return np.stack([photo[s : s + height, s : s + width] for s in starts])


def _at_least(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture, enlarged where it is smaller than that."""
    factor = max(height / photo.shape[0], width / photo.shape[1])
    if factor <= 1:
        return photo
    size = (max(width, round(photo.shape[1] * factor)), max(height, round(photo.shape[0] * factor)))
    return cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)


# Measuring


class Contender(NamedTuple):
    """One way to do the work."""

    name: str
    run: Callable[[Sequence[np.ndarray], np.random.Generator], object]
    """does all of it once"""
    watch: Stopwatch | None = None
    """where it counts CPU time by stage"""


class Measured(NamedTuple):
    """What a contender took, a number a round."""

    name: str
    cpu: list[float]
    wall: list[float]
    stages: list[dict[str, float]]
    """CPU seconds by stage"""

    def without(self, stage: str) -> "Measured":
        """The same without the CPU time of a stage; no elapsed time is known of that."""
        cpu = [all_ - by.get(stage, 0.0) for all_, by in zip(self.cpu, self.stages, strict=True)]
        stages = [{k: v for k, v in by.items() if k != stage} for by in self.stages]
        return Measured(f"{self.name}, without {stage}", cpu, [], stages)


def measure(
    contenders: Sequence[Contender], inputs: Sequence[np.ndarray], rounds: int
) -> list[Measured]:
    """Run all contenders in turn, round after round, each starting with the round's generator."""
    for contender in contenders:
        contender.run(inputs[:2], np.random.default_rng(_SEED))  # what is set up once is not timed
    measured = [Measured(contender.name, [], [], []) for contender in contenders]
    for number in range(rounds):
        pairs = list(zip(contenders, measured, strict=True))
        # Each is first once: what runs first may find the machine cooler.
        for contender, result in pairs[number % len(pairs) :] + pairs[: number % len(pairs)]:
            _measure_once(contender, result, inputs, number)
    return measured


def _measure_once(
    contender: Contender, result: Measured, inputs: Sequence[np.ndarray], number: int
) -> None:
    rng = np.random.default_rng([_SEED, number])
    if contender.watch:
        contender.watch.seconds.clear()
    started, cpu_started = time.perf_counter(), cpu_seconds()
    contender.run(inputs, rng)
    result.cpu.append(cpu_seconds() - cpu_started)
    result.wall.append(time.perf_counter() - started)
    result.stages.append(dict(contender.watch.seconds) if contender.watch else {})


# Reporting


def _print_results(title: str, unit: str, units: int, measured: Sequence[Measured]) -> None:
    """Rates and ratios to the first, then what share of the CPU time each stage has."""
    baseline = measured[0]
    print(f"\n{title}, {len(baseline.cpu)} rounds, load {os.getloadavg()[0]:.1f}")
    header = f"{unit}/CPU s"
    print(f"  {'':42} {header:>16} {'ratio':>8} {'(rounds)':>14} {'ratio, wall':>12}")
    for one in measured:
        rate = units * len(one.cpu) / sum(one.cpu)
        rounds = [b / c for b, c in zip(baseline.cpu, one.cpu, strict=True)]
        wall = f"{sum(baseline.wall) / sum(one.wall):.2f}" if one.wall else ""
        spread = f"({min(rounds):.2f}-{max(rounds):.2f})"
        ratio = sum(baseline.cpu) / sum(one.cpu)
        print(f"  {one.name:42} {rate:16.2f} {ratio:8.2f} {spread:>14} {wall:>12}")
    for one in measured:
        if any(one.stages):
            print(f"  {one.name}: {_shares(one)}")


def _shares(measured: Measured) -> str:
    seconds: dict[str, float] = {}
    for name, spent in itertools.chain.from_iterable(by.items() for by in measured.stages):
        seconds[name] = seconds.get(name, 0.0) + spent
    total = sum(measured.cpu)
    seconds["rest"] = total - sum(seconds.values())
    return ", ".join(f"{name} {spent / total:.0%}" for name, spent in seconds.items())


# Chains


class Chain(Protocol):
    """Degrades the frames of one batch or clip."""

    watch: Stopwatch

    def __call__(self, images: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray: ...


class OurChain:
    """A recipe, up to the LR frames that its first stream decodes to.

    It does more than the others: the bitstream is muxed, its frame types, quantisers and motion
    vectors are read and recorded. What is left out is HR storage and the writing of shards.

    Args:
        recipe: the chain, with a codec; its first stream is made.
        kind: whether frames are a clip, or independent images packed as one; these are cut into
            packs of the recipe's size, each with draws of its own.
    """

    def __init__(self, recipe: Recipe, kind: SampleKind) -> None:
        self._recipe = recipe
        self._kind = kind
        self.watch = Stopwatch()

    def __call__(self, images: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Degrade (H, W, 3) uint8 RGB frames of one size; returns (T, h, w, 3) uint8."""
        if self._kind is SampleKind.CLIP:
            return self._degrade(images, int(rng.integers(2**31)))
        size = self._recipe.pseudo_video.frames
        packs = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self._degrade(p, int(rng.integers(2**31))) for p in packs])

    def _degrade(self, images: Sequence[np.ndarray], seed: int) -> np.ndarray:
        with self.watch.stage("draw"):
            recipe, planned = self._planned(images)
            sizes = {span.source_id: images[0].shape[:2] for span in planned.spans}
            scene = draw_scene(recipe, seed, planned, sizes)
            draw = draw_stream(recipe, seed, planned, scene, 0)
        if recipe.hr.sharpen == "target_and_input":
            with self.watch.stage("sharpen"):
                images = [to_uint8(sharpen(to_float(image), USM, 0)) for image in images]
        stages = [*scene.stages, *draw.stages]
        before, codec, after = split_at_last_codec(stages)
        clip = Clip(list(images), [])
        for stage in before:  # one by one only to time them apart
            with self.watch.stage(_stage_name(stage)):
                clip = apply_stages(clip, [stage])
        with self.watch.stage("codec and records"):
            lr = np.stack([f if f.dtype == np.uint8 else to_uint8(f) for f in clip.frames])
            rest = StreamDraw(stages=[codec, *after] if codec else [])
            scene = scene.model_copy(update={"stages": []})
            (made,) = make_streams(recipe, scene, [rest], lr)
            return made.decoded

    def _planned(self, images: Sequence[np.ndarray]) -> tuple[Recipe, PlannedSample]:
        """A recipe whose patch is the whole frame, and the sample that it makes of the frames."""
        height, width = images[0].shape[:2]
        whole = {"patch_height": height, "patch_width": width, "pre_downscale": 1}
        hr = self._recipe.hr.model_copy(update=whole)
        is_clip = self._kind is SampleKind.CLIP
        spans = [Span(source_id=str(number), start=0, count=1) for number in range(len(images))]
        planned = PlannedSample(
            shard="",
            key="benchmark",
            kind=self._kind,
            split="",
            group="",
            licence="",
            clip=0,
            patch=0,
            spans=[Span(source_id="0", start=0, count=len(images))] if is_clip else spans,
            estimated_bytes=0,
        )
        one = {"hr": hr, "streams": self._recipe.streams[:1]}
        return self._recipe.model_copy(update=one), planned


def _stage_name(stage: object) -> str:
    if isinstance(stage, NoiseDraw):
        return stage.kind
    return str(getattr(stage, "op", stage))


def _our_contenders(names: Sequence[str], kind: SampleKind) -> Iterator[Contender]:
    """One for each of these recipes that is shipped."""
    for name in names:
        if name in shipped_recipes():
            chain = OurChain(load_recipe(name), kind)
            yield Contender(f"ours, recipe {name}", chain, chain.watch)


def _vcisr(photos: Sequence[np.ndarray], options: argparse.Namespace) -> None:
    patches = _patches(photos, options.images, _PATCH)
    released, quick = VcisrChain(), VcisrChain(quadratic_concat=False, grouped_blur=True)
    contenders = [
        Contender("VCISR as released", released, released.watch),
        Contender("VCISR, joined once, grouped convolution", quick, quick.watch),
        *_our_contenders(("vcisr",), SampleKind.PSEUDO_VIDEO),
    ]
    measured = measure(contenders, patches, options.rounds)
    measured.insert(1, measured[0].without("join"))
    title = f"vcisr: batches of {len(patches)} images, {_PATCH}x{_PATCH}"
    _print_results(title, "images", len(patches), measured)


def _realbasicvsr(photos: Sequence[np.ndarray], options: argparse.Namespace) -> None:
    clip = list(_panned(photos[0], _CLIP_FRAMES, _CLIP_SIZE, _CLIP_SIZE))
    chain = MmagicChain()
    contenders = [
        Contender("RealBasicVSR as mmagic has it", chain, chain.watch),
        *map(_mirroring, _our_contenders(("realbasicvsr",), SampleKind.CLIP)),
    ]
    measured = measure(contenders, clip, options.rounds)
    frames = 2 * len(clip)
    title = f"realbasicvsr: clips of {frames} frames, {_CLIP_SIZE}x{_CLIP_SIZE}"
    _print_results(title, "frames", frames, measured)


def _mirroring(contender: Contender) -> Contender:
    """The same on the clip and the clip backwards, which the other chain adds by itself."""
    return contender._replace(run=lambda clip, rng: contender.run([*clip, *clip[::-1]], rng))


# Codecs


def _codecs(photos: Sequence[np.ndarray], options: argparse.Namespace) -> None:
    print(f"\ncodecs: clips of {_CODEC_FRAMES} frames a CPU second, encoded and decoded in memory")
    sizes = "".join(f"{f'{width}x{height}':>10}" for height, width in _CODEC_SIZES)
    print(f"  {'codec':12} {'preset':10}{sizes}   decoding's share, by size")
    clips = [_panned(photos[0], _CODEC_FRAMES, *size) for size in _CODEC_SIZES]
    for codec, preset in _codec_rows():
        times = [_time_codec(clip, codec, preset, options.rounds) for clip in clips]
        rates = "".join(f"{1 / (encoding + decoding):10.2f}" for encoding, decoding in times)
        shares = " ".join(
            f"{decoding / (encoding + decoding):4.0%}" for encoding, decoding in times
        )
        print(f"  {codec:12} {preset or '-':10}{rates}   {shares}", flush=True)


def _codec_rows() -> Iterator[tuple[Codec, str]]:
    """Each codec with its fastest preset, its default, and some others."""
    for codec, traits in ENCODERS.items():
        wanted = {traits.default_preset, *traits.presets[:1], *_MORE_PRESETS.get(codec, ())}
        ordered = [preset for preset in traits.presets if preset in wanted]
        yield from ((codec, preset) for preset in ordered or [""])


def _time_codec(clip: np.ndarray, codec: Codec, preset: str, rounds: int) -> tuple[float, float]:
    """CPU seconds to encode and to decode a clip, the best round of each."""
    padded = pad_to(clip, *coded_size(codec, "yuv420p", *clip.shape[1:3]))
    draw = _codec_draw(padded, codec, preset)
    times = [_time_codec_once(padded, draw) for _ in range(rounds + 1)][1:]  # the first is warm-up
    encoding, decoding = zip(*times, strict=True)
    return min(encoding), min(decoding)


def _time_codec_once(clip: np.ndarray, draw: CodecDraw) -> tuple[float, float]:
    # Frames anew each time: an encoder may keep or mark those that it was given.
    frames = rgb_to_yuv(clip, draw.pixel_format, draw.color)
    started = cpu_seconds()
    packets = encode(frames, draw)
    encoded = cpu_seconds()
    decoded = list(decode(packets, draw.codec))
    assert len(decoded) == len(frames)
    return encoded - started, cpu_seconds() - encoded


def _codec_draw(clip: np.ndarray, codec: Codec, preset: str) -> CodecDraw:
    traits = ENCODERS[codec]
    return CodecDraw(
        codec=codec,
        rate_mode=traits.rate_modes[0],
        rate_value=_RATES.get(codec, _MPEG_QSCALE),
        preset=preset,
        gop_frames=min(250, traits.max_gop_frames),
        b_frames=min(3, traits.max_b_frames) if codec in ("h264", "hevc") else 0,
        pixel_format="yuv420p",
        color=traits.default_color,
        fps=25,
        height=clip.shape[1],
        width=clip.shape[2],
    )


# Single stages


def _blur(photos: Sequence[np.ndarray], options: argparse.Namespace) -> None:
    for size in (7, 13, 21):
        draw = _blur_draw(size)
        kernel = blur_kernel(kernel_at(draw, 0))
        padded = np.pad(kernel, (_MAX_TAPS - size) // 2)  # as VCISR has every kernel
        contenders = [
            _per_image("torch, as VCISR calls it", functools.partial(_torch_blur, padded)),
            _per_image("torch, grouped", functools.partial(_torch_blur, padded, grouped=True)),
            _per_image("OpenCV's filter2D", functools.partial(_opencv_blur, kernel)),
            _our_stage("ours", draw),
            _our_stage("ours, a new kernel each time", draw, num_frames=len(draw.theta)),
        ]
        _measure_stage(f"blur: {size} taps", contenders, photos, options)


def _blur_draw(size: int) -> BlurDraw:
    """A rotated kernel that turns from frame to frame."""
    theta = np.linspace(0.3, 1.3, _MICRO_REPEATS * _MICRO_IMAGES)
    return BlurDraw(
        kernel="anisotropic",
        size=size,
        sigma_x=[2.0],
        sigma_y=[1.0],
        theta=theta.tolist(),
        beta=[1.0],
        cutoff=[0.0],
    )


def _torch_blur(kernel: np.ndarray, image: np.ndarray, grouped: bool = False) -> torch.Tensor:
    batch = torch.from_numpy(image.transpose(2, 0, 1)[None])
    return blur_batch(batch, torch.from_numpy(kernel), grouped=grouped)


def _opencv_blur(kernel: np.ndarray, image: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image, -1, kernel)


def _poisson(photos: Sequence[np.ndarray], options: argparse.Namespace) -> None:
    for gray in (False, True):
        draw = NoiseDraw(kind="poisson", level=[1.0], gray=[gray], seed=_SEED)
        contenders = [
            _per_image("torch, as VCISR calls it", functools.partial(_torch_poisson, gray)),
            _per_image("NumPy's poisson alone", functools.partial(_numpy_poisson, gray)),
            _our_stage("ours", draw),
        ]
        title = f"poisson: {'gray' if gray else 'colour'}"
        _measure_stage(title, contenders, photos, options)


def _torch_poisson(gray: bool, image: np.ndarray) -> torch.Tensor:
    batch = torch.from_numpy(image.transpose(2, 0, 1)[None])
    generator = torch.Generator().manual_seed(_SEED)
    return poisson_noise(batch, torch.ones(1), torch.tensor([gray]), generator)


def _numpy_poisson(gray: bool, image: np.ndarray) -> np.ndarray:
    signal = image[:, :, :1] if gray else image
    return np.random.default_rng(_SEED).poisson(signal * 256)


def _resize(photos: Sequence[np.ndarray], options: argparse.Namespace) -> None:
    small = _PATCH // 4
    dense = _dense_weights(_PATCH, small)
    kernels: tuple[ResizeKernel, ...] = ("matlab_bicubic", "area", "bicubic", "torch_bicubic")
    draws = [ResizeDraw(height=[small], width=[small], kernel=kernel) for kernel in kernels]
    contenders = [
        _per_image("dense matrices, antialiased bicubic", lambda image: _dense(image, dense)),
        _per_image("OpenCV's resize, bicubic", lambda image: _opencv(image, small)),
        _per_image("torch's interpolate, bicubic", lambda image: _torch(image, small)),
        *(_our_stage(f"ours, {draw.kernel}", draw) for draw in draws),
    ]
    _measure_stage(f"resize: {_PATCH} to {small}", contenders, photos, options)


def _dense_weights(old: int, new: int) -> np.ndarray:
    """(new, old): OpenCV's bicubic shrunk by widening the kernel, rows of identity resampled."""
    enlarged = cv2.resize(np.eye(new, dtype=np.float32), (old, new), interpolation=cv2.INTER_CUBIC)
    return enlarged / enlarged.sum(axis=1, keepdims=True)


def _dense(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.einsum("yh,hwc,xw->yxc", weights, image, weights, optimize=True)


def _opencv(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)


def _torch(image: np.ndarray, side: int) -> torch.Tensor:
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None])
    return F.interpolate(batch, size=(side, side), mode="bicubic")


def _per_image(name: str, work: Callable[[np.ndarray], object]) -> Contender:
    def run(images: Sequence[np.ndarray], rng: np.random.Generator) -> None:
        for image in itertools.chain.from_iterable(itertools.repeat(images, _MICRO_REPEATS)):
            work(image)

    return Contender(name, run)


def _our_stage(name: str, draw: FrameStageDraw, num_frames: int = 1) -> Contender:
    """Our stage on each image, as if frames of a clip of so many, over and over."""
    frames = itertools.cycle(range(num_frames))
    return _per_image(name, lambda image: apply_frame_stages(image, [draw], next(frames)))


def _measure_stage(
    title: str,
    contenders: Sequence[Contender],
    photos: Sequence[np.ndarray],
    options: argparse.Namespace,
) -> None:
    patches = _patches(photos, _MICRO_IMAGES, _PATCH)
    images = [to_float(patch) for patch in patches]
    measured = measure(contenders, images, options.rounds)
    title = f"{title}, {_PATCH}x{_PATCH} float32, one image at a time"
    _print_results(title, "images", _MICRO_REPEATS * len(images), measured)


_SECTIONS: dict[str, Callable[[Sequence[np.ndarray], argparse.Namespace], None]] = {
    "vcisr": _vcisr,
    "realbasicvsr": _realbasicvsr,
    "codecs": _codecs,
    "blur": _blur,
    "poisson": _poisson,
    "resize": _resize,
}


if __name__ == "__main__":
    sys.exit(main())
