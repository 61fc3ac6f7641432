"""How others degrade on a CPU: the chains that ours is timed against.

Written anew after what two released chains do, step by step, with their batching, libraries and
formulas, but without the code: VCISR's (arXiv 2311.00996; torch on a batch, then FFmpeg's command
line and PNG files) and RealBasicVSR's as mmagic has it (CVPR 2022; NumPy and OpenCV frame by
frame, then PyAV). What only changes pixels and not the time is done right instead of as released:
channels are RGB, a frame that FFmpeg does not return is an error.

The classical parts follow Real-ESRGAN (arXiv 2107.10833), in two orders one after the other.
"""

import contextlib
import io
import math
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import scipy.special
import torch
import torch.nn.functional as F
from av.video.frame import PictureType

from benchmarks.reference import run_ffmpeg

_LUMA = (0.299, 0.587, 0.114)  # BT.601, as in JPEG
_BLOCK = 8
_GRAY_CHANCE, _GAUSSIAN_CHANCE, _SECOND_BLUR_CHANCE = 0.4, 0.5, 0.8
_JPEG_QUALITY = (30, 95)


class Stopwatch:
    """CPU seconds by stage, of this process and of the children it has waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside as this stage's."""
        started = cpu_seconds()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + cpu_seconds() - started


def cpu_seconds() -> float:
    """CPU time so far of this process and of the children it has waited for, all threads."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


# Kernels

_MAX_TAPS = 21
_SINC_CHANCE = 0.1
_FAMILIES = ("gaussian", "gaussian", "generalized", "generalized", "plateau", "plateau")
_FAMILY_CHANCES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # isotropic and anisotropic in turn
_BETAS = {"gaussian": (1.0, 1.0), "generalized": (0.5, 4.0), "plateau": (1.0, 2.0)}


class _Kernel(NamedTuple):
    """One kernel; `family` is one of `_BETAS` or sinc, which has a cutoff only."""

    family: str
    taps: int
    sigma_x: float
    sigma_y: float
    theta: float
    beta: float
    cutoff: float

    def pixels(self) -> np.ndarray:
        """(taps, taps), of sum 1."""
        axis = np.arange(self.taps) - self.taps // 2
        x, y = np.meshgrid(axis, axis)
        weights = self._sinc(np.hypot(x, y)) if self.family == "sinc" else self._bell(x, y)
        return weights / weights.sum()

    def _bell(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        cos, sin = math.cos(self.theta), math.sin(self.theta)
        power = ((cos * x + sin * y) / self.sigma_x) ** 2 + (
            (cos * y - sin * x) / self.sigma_y
        ) ** 2
        power = power**self.beta
        return 1 / (1 + power) if self.family == "plateau" else np.exp(-power / 2)

    def _sinc(self, radius: np.ndarray) -> np.ndarray:
        # J1(w r) w / (2 pi r), whose limit at 0 is w^2 / (4 pi).
        safe = np.where(radius == 0, 1, radius)
        ring = self.cutoff * scipy.special.j1(self.cutoff * safe) / (2 * np.pi * safe)
        return np.where(radius == 0, self.cutoff**2 / (4 * np.pi), ring)


def _draw_kernel(rng: np.random.Generator, sigma: tuple[float, float]) -> _Kernel:
    taps = 2 * int(rng.integers(3, 11)) + 1
    number = int(rng.choice(len(_FAMILIES), p=_FAMILY_CHANCES))
    family = "sinc" if rng.random() < _SINC_CHANCE else _FAMILIES[number]
    sigma_x, is_round = rng.uniform(*sigma), number % 2 == 0
    least, most = _BETAS.get(family, (1.0, 1.0))
    # As likely below 1 as above it; so half of all plateaus have exactly 1.
    beta = rng.uniform(least, 1) if rng.random() < 0.5 else rng.uniform(1, most)
    return _Kernel(
        family=family,
        taps=taps,
        sigma_x=sigma_x,
        sigma_y=sigma_x if is_round else rng.uniform(*sigma),
        theta=0.0 if is_round else rng.uniform(-math.pi, math.pi),
        beta=beta,
        cutoff=rng.uniform(math.pi / (3 if taps < 13 else 5), math.pi),
    )


# What both chains draw


class _Order(NamedTuple):
    """Ranges of one of the two orders; noise on the 0-255 scale."""

    sigma: tuple[float, float]
    resize_chances: tuple[float, float, float]
    """of up, down and neither"""
    factor: tuple[float, float]
    gaussian: tuple[float, float]
    poisson: tuple[float, float]
    factor_step: float
    """along a clip"""


_FIRST = _Order((0.2, 3), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), 0.015)
_SECOND = _Order((0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), 0.03)


def _draw_factor(rng: np.random.Generator, order: _Order) -> float:
    least, most = order.factor
    ranges = ((1.0, most), (least, 1.0), (1.0, 1.0))
    return float(rng.uniform(*ranges[rng.choice(3, p=order.resize_chances)]))


# VCISR

_TORCH_MODES = ("area", "bilinear", "bicubic")
_VIDEO_CODECS = {"mpeg2video": 0.2, "libxvid": 0.2, "libx264": 0.4, "libx265": 0.2}
_PRESETS = {"slow": 0.1, "medium": 0.5, "fast": 0.25, "faster": 0.12, "superfast": 0.03}
_CRF, _X265_OFFSET = (20, 32), 5
_MPEG_KBITS = (3800, 5800)
_FPS, _MPEG2_FPS = (16, 30), 25
_WIDTH_CHANCES, _WIDTH_FACTOR = (0.4, 0.2, 0.4), (0.8, 1.35)


class VideoSettings(NamedTuple):
    """What VCISR draws for the video of one batch."""

    encoder: str
    options: tuple[str, ...]
    """of FFmpeg's command line"""
    fps: int
    width_factor: float
    """width of the coded picture, relative to the frames'"""


def draw_video(rng: np.random.Generator) -> VideoSettings:
    """Draw the codec of a batch."""
    encoder = str(rng.choice(list(_VIDEO_CODECS), p=list(_VIDEO_CODECS.values())))
    preset = str(rng.choice(list(_PRESETS), p=list(_PRESETS.values())))
    crf = int(rng.integers(_CRF[0], _CRF[1] + 1)) + _X265_OFFSET * (encoder == "libx265")
    kbits = int(rng.integers(_MPEG_KBITS[0], _MPEG_KBITS[1] + 1))
    fps = int(rng.integers(_FPS[0], _FPS[1] + 1))
    least, most = _WIDTH_FACTOR
    ranges = ((1.0, most), (least, 1.0), (1.0, 1.0))
    factor = float(rng.uniform(*ranges[rng.choice(3, p=_WIDTH_CHANCES)]))
    if encoder.startswith("libx26"):
        return VideoSettings(encoder, ("-preset", preset, "-crf", str(crf)), fps, factor)
    if encoder == "mpeg2video":
        fps, factor = _MPEG2_FPS, max(factor, 1.0)
    return VideoSettings(encoder, ("-b:v", f"{kbits}k"), fps, factor)


class VcisrChain:
    """VCISR's second mode: a batch of HR patches becomes the frames of one compressed video.

    The batch shares kernels, resizes, kinds of noise and the codec; noise levels and JPEG
    qualities are each image's own.

    Args:
        quadratic_concat: join the batch image by image, so that it is copied once for each, as
            released; otherwise at once.
        grouped_blur: convolve channel groups of one picture, which torch does several times
            faster on a CPU than what is released: every plane a picture with one channel.
        num_threads: of torch (set for the process) and of FFmpeg.
        scale: HR over LR.
    """

    def __init__(
        self,
        *,
        quadratic_concat: bool = True,
        grouped_blur: bool = False,
        num_threads: int = 1,
        scale: int = 4,
    ) -> None:
        torch.set_num_threads(num_threads)
        self._quadratic_concat = quadratic_concat
        self._grouped_blur = grouped_blur
        self._num_threads = num_threads
        self._scale = scale
        self._jpeg = DiffJpeg()
        self.watch = Stopwatch()

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Degrade one batch, of 32 to 128 images as released.

        Args:
            images: (H, W, 3) uint8 RGB, all of one size.
            rng: of everything drawn; it also seeds torch's noise.

        Returns:
            (N, H / scale, W / scale, 3) uint8 RGB.

        Raises:
            RuntimeError: if FFmpeg fails or does not return every frame.
        """
        noise = torch.Generator().manual_seed(int(rng.integers(2**63)))
        batch = self.assemble(images)
        height, width = batch.shape[2] // self._scale, batch.shape[3] // self._scale
        batch = self._first_order(batch, rng, noise)
        batch = self._second_order(batch, rng, noise)
        with self.watch.stage("resize"):
            mode = str(rng.choice(_TORCH_MODES))
            batch = F.interpolate(batch, size=(height, width), mode=mode).clamp_(0, 1)
        return self.compress(batch, draw_video(rng))

    def assemble(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """The images as (N, 3, H, W) float32 in [0, 1]."""
        with self.watch.stage("to float"):
            tensors = [_to_tensor(image) for image in images]
        with self.watch.stage("join"):
            if not self._quadratic_concat:
                return torch.cat(tensors)
            batch = tensors[0]
            for tensor in tensors[1:]:
                batch = torch.cat((batch, tensor))
        return batch

    def _first_order(
        self, batch: torch.Tensor, rng: np.random.Generator, noise: torch.Generator
    ) -> torch.Tensor:
        batch = self._blur(batch, rng, _FIRST)
        batch = self._resize(batch, rng, _FIRST)
        batch = self._add_noise(batch, rng, noise, _FIRST)
        with self.watch.stage("JPEG"):
            quality = torch.from_numpy(rng.uniform(*_JPEG_QUALITY, len(batch))).float()
            return self._jpeg(batch, quality)

    def _second_order(
        self, batch: torch.Tensor, rng: np.random.Generator, noise: torch.Generator
    ) -> torch.Tensor:
        if rng.random() < _SECOND_BLUR_CHANCE:
            batch = self._blur(batch, rng, _SECOND)
        # Of the size so far, not of the LR size as in Real-ESRGAN.
        batch = self._resize(batch, rng, _SECOND)
        return self._add_noise(batch, rng, noise, _SECOND)

    def _blur(self, batch: torch.Tensor, rng: np.random.Generator, order: _Order) -> torch.Tensor:
        with self.watch.stage("blur"):
            pixels = _draw_kernel(rng, order.sigma).pixels()
            # Every size in the same number of taps, as released: small kernels cost as much.
            margin = (_MAX_TAPS - len(pixels)) // 2
            kernel = torch.from_numpy(np.pad(pixels, margin)).float()
            return blur_batch(batch, kernel, grouped=self._grouped_blur)

    def _resize(self, batch: torch.Tensor, rng: np.random.Generator, order: _Order) -> torch.Tensor:
        with self.watch.stage("resize"):
            mode = str(rng.choice(_TORCH_MODES))
            return F.interpolate(batch, scale_factor=_draw_factor(rng, order), mode=mode)

    def _add_noise(
        self,
        batch: torch.Tensor,
        rng: np.random.Generator,
        noise: torch.Generator,
        order: _Order,
    ) -> torch.Tensor:
        kind = "gaussian" if rng.random() < _GAUSSIAN_CHANCE else "poisson"
        levels = rng.uniform(*(order.gaussian if kind == "gaussian" else order.poisson), len(batch))
        gray = torch.from_numpy(rng.random(len(batch)) < _GRAY_CHANCE)
        make = gaussian_noise if kind == "gaussian" else poisson_noise
        with self.watch.stage(kind):
            added = make(batch, torch.from_numpy(levels).float(), gray, noise)
            return (batch + added).clamp_(0, 1)

    def compress(self, batch: torch.Tensor, video: VideoSettings) -> np.ndarray:
        """Encode and decode (N, 3, h, w) as a video, through PNG files and two FFmpeg processes."""
        with tempfile.TemporaryDirectory(prefix="vcsr-anchor-") as name:
            folder = Path(name)
            with self.watch.stage("PNG files"):
                for index, image in enumerate(batch):
                    cv2.imwrite(str(folder / f"{index:03d}.png"), _to_bgr(image))
            height, width = batch.shape[2:]
            self._encode(folder, video, height, width)
            self._decode(folder, video, height, width)
            with self.watch.stage("PNG files"):
                return _collect(folder, len(batch))

    def _encode(self, folder: Path, video: VideoSettings, height: int, width: int) -> None:
        coded_width = int(video.width_factor * width) // 2 * 2
        threads = ("-threads", str(self._num_threads))
        quiet = ("-x265-params", "log-level=error") if video.encoder == "libx265" else ()
        with self.watch.stage("FFmpeg encodes"):
            run_ffmpeg(
                *(*threads, "-r", str(video.fps), "-i", str(folder / "%03d.png")),
                *("-c:v", video.encoder, *video.options, *quiet, *threads),
                *("-vf", f"scale={coded_width}:{height}", "-pix_fmt", "yuv420p"),
                str(folder / "video.mp4"),
            )

    def _decode(self, folder: Path, video: VideoSettings, height: int, width: int) -> None:
        threads = ("-threads", str(self._num_threads))
        with self.watch.stage("FFmpeg decodes"):
            run_ffmpeg(
                *(*threads, "-i", str(folder / "video.mp4")),
                *("-vf", f"scale={width}:{height},fps={video.fps}", *threads),
                str(folder / "output_%03d.png"),
            )


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
    return torch.from_numpy(planes)[None]


def _to_bgr(image: torch.Tensor) -> np.ndarray:
    """(3, h, w) RGB in [0, 1] -> (h, w, 3) uint8 as OpenCV writes it."""
    rgb = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _collect(folder: Path, count: int) -> np.ndarray:
    """Move each decoded frame to where LR images lie, then read it back."""
    target = folder / "lr"
    target.mkdir()
    frames = []
    for index in range(count):
        moved = target / f"{index:05d}.png"
        try:
            shutil.move(folder / f"output_{index + 1:03d}.png", moved)
        except FileNotFoundError as error:
            raise RuntimeError(f"FFmpeg returned {index} of {count} frames") from error
        bgr = cv2.imread(str(moved))
        assert bgr is not None  # FFmpeg has just written it
        frames.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def blur_batch(batch: torch.Tensor, kernel: torch.Tensor, *, grouped: bool) -> torch.Tensor:
    """Convolve (N, 3, H, W) with one (k, k) kernel; borders are mirrored."""
    count, channels, height, width = batch.shape
    taps = len(kernel)
    padded = F.pad(batch, [taps // 2] * 4, mode="reflect").contiguous()
    planes = count * channels
    if grouped:
        weights = kernel.expand(planes, 1, taps, taps).contiguous()
        blurred = F.conv2d(padded.view(1, planes, *padded.shape[2:]), weights, groups=planes)
    else:
        blurred = F.conv2d(padded.view(planes, 1, *padded.shape[2:]), kernel[None, None])
    return blurred.view(count, channels, height, width)


def gaussian_noise(
    batch: torch.Tensor, sigma: torch.Tensor, gray: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Noise for (N, 3, H, W) in [0, 1].

    Args:
        batch: only its shape counts.
        sigma: (N,) standard deviations on the 0-255 scale.
        gray: (N,) bool, one pattern for the three channels. It is also the same for all images,
            as released.
        generator: of the samples.
    """
    noise = torch.randn(batch.shape, generator=generator)
    if gray.any():
        pattern = torch.randn(batch.shape[2:], generator=generator)
        noise = torch.where(_each(gray), pattern, noise)
    return noise * _each(sigma) / 255


def poisson_noise(
    batch: torch.Tensor, scale: torch.Tensor, gray: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Noise for (N, 3, H, W) in [0, 1] that grows with the signal.

    Args:
        batch: the signal.
        scale: (N,) factors on the noise.
        gray: (N,) bool, the noise of the luma for all three channels.
        generator: of the samples.
    """
    noise = _photon_noise(batch, generator)
    if gray.any():
        luma = torch.tensordot(batch, torch.tensor(_LUMA), dims=([1], [0]))[:, None]
        noise = torch.where(_each(gray), _photon_noise(luma, generator), noise)
    return noise * _each(scale)


def _photon_noise(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    levels = (signal * 255).round().clamp(0, 255) / 255
    # Photons at full signal: the number of levels that occur, up to a power of two.
    photons = [2.0 ** math.ceil(math.log2(len(torch.unique(image)))) for image in levels]
    counts = _each(torch.tensor(photons))
    return torch.poisson(levels * counts, generator=generator) / counts - levels


def _each(values: torch.Tensor) -> torch.Tensor:
    """One value an image, shaped to fit a batch."""
    return values.view(-1, 1, 1, 1)


# Annex K of the JPEG standard (ITU-T T.81).
_LUMA_STEPS = """
    16 11 10 16  24  40  51  61   12 12 14 19  26  58  60  55
    14 13 16 24  40  57  69  56   14 17 22 29  51  87  80  62
    18 22 37 56  68 109 103  77   24 35 55 64  81 104 113  92
    49 64 78 87 103 121 120 101   72 92 95 98 112 100 103  99
"""
_CHROMA_STEPS = """
    17 18 24 47 99 99 99 99   18 21 26 66 99 99 99 99   24 26 56 99 99 99 99 99
    47 66 99 99 99 99 99 99   99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
    99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
"""


class DiffJpeg:
    """JPEG in 4:2:0 as tensor operations, without the entropy coding, which loses nothing.

    Like the differentiable JPEG of the Real-ESRGAN family, quantiser steps stay fractions and
    chroma is repeated, not interpolated: near a real JPEG (some 40 dB), but not equal to it.
    """

    def __init__(self) -> None:
        angles = (2 * torch.arange(_BLOCK) + 1) * torch.arange(_BLOCK)[:, None] * math.pi / 16
        rows = torch.cos(angles) / 2
        rows[0] /= math.sqrt(2)
        # (u, v, y, x): the two-dimensional transform at once, as released; rows and columns one
        # after the other would take a quarter of the products.
        self._basis = torch.einsum("uy,vx->uvyx", rows, rows)
        self._luma_steps = _steps(_LUMA_STEPS)
        self._chroma_steps = _steps(_CHROMA_STEPS)
        self._to_yuv = torch.tensor(
            [_LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)]
        )
        self._to_rgb = torch.linalg.inv(self._to_yuv)

    def __call__(self, batch: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        """Compress (N, 3, H, W) in [0, 1], each image at its quality, and decode it."""
        height, width = batch.shape[2:]
        padded = F.pad(batch, (0, -width % 16, 0, -height % 16))
        yuv = torch.einsum("ij,njhw->nihw", self._to_yuv, padded * 255)
        factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
        luma = self._quantise(yuv[:, :1] - 128, self._luma_steps, factor) + 128
        chroma = self._quantise(F.avg_pool2d(yuv[:, 1:], 2), self._chroma_steps, factor)
        chroma = F.interpolate(chroma, scale_factor=2, mode="nearest")
        rgb = torch.einsum("ij,njhw->nihw", self._to_rgb, torch.cat((luma, chroma), dim=1))
        return rgb[:, :, :height, :width].clamp(0, 255) / 255

    def _quantise(
        self, planes: torch.Tensor, steps: torch.Tensor, factor: torch.Tensor
    ) -> torch.Tensor:
        count, channels, height, width = planes.shape
        grid = (count, channels, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
        blocks = planes.reshape(grid).permute(0, 1, 2, 4, 3, 5)
        coefficients = torch.tensordot(blocks, self._basis, dims=([4, 5], [2, 3]))
        sized = steps * factor.view(-1, 1, 1, 1, 1, 1)
        coefficients = torch.round(coefficients / sized) * sized
        blocks = torch.tensordot(coefficients, self._basis, dims=([4, 5], [0, 1]))
        return blocks.permute(0, 1, 2, 4, 3, 5).reshape(planes.shape)


def _steps(table: str) -> torch.Tensor:
    return torch.tensor([float(step) for step in table.split()]).view(_BLOCK, _BLOCK)


# RealBasicVSR, mmagic

_OPENCV_MODES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_SHARPEN_TAPS, _SHARPEN_WEIGHT, _SHARPEN_THRESHOLD = 51, 0.5, 10
_SIGMA_STEP, _THETA_STEP, _CUTOFF_STEP = 0.02, 0.31416, 0.0628
_BETA_STEPS = {"gaussian": 0.0, "generalized": 0.05, "plateau": 0.1}
_GAUSSIAN_STEP, _POISSON_STEP, _QUALITY_STEP = 0.1, 0.005, 3
_FINAL_SINC_CHANCE = 0.8
_BITS_PER_FRAME = (10_000, 100_000)
_CLIP_CODECS = ("libx264", "libx264", "mpeg4")  # the release lists one encoder by two names


class MmagicChain:
    """RealBasicVSR's chain: a clip, mirrored in time, whose parameters walk from frame to frame.

    Frames are float32 on the 0-255 scale all along; OpenCV and NumPy treat one at a time.

    Args:
        num_threads: of OpenCV (set for the process) and of the encoders.
        scale: HR over LR.
    """

    def __init__(self, *, num_threads: int = 1, scale: int = 4) -> None:
        cv2.setNumThreads(num_threads)
        self._num_threads = num_threads
        self._scale = scale
        self.watch = Stopwatch()

    def __call__(self, clip: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Degrade one clip, of 15 frames of 256x256 as released.

        Args:
            clip: (H, W, 3) uint8 RGB frames, H and W multiples of 2 * scale.
            rng: of everything drawn.

        Returns:
            (2 T, H / scale, W / scale, 3) uint8 RGB: the clip, then the clip backwards.
        """
        size = (clip[0].shape[1] // self._scale, clip[0].shape[0] // self._scale)
        with self.watch.stage("to float"):
            frames = [frame.astype(np.float32) for frame in [*clip, *clip[::-1]]]
        with self.watch.stage("sharpen"):
            frames = _sharpen(frames)
        frames = self._order(frames, rng, _FIRST)
        frames = self._compress(frames, rng)
        frames = self._order(frames, rng, _SECOND)
        ends: list[Callable[[], list[np.ndarray]]] = [
            lambda: self._compress(frames, rng),
            lambda: self._finish_size(frames, size, rng),
        ]
        for number in rng.permutation(len(ends)):
            frames = ends[number]()
        return np.stack([_to_uint8(frame) for frame in frames])

    def _order(
        self, frames: list[np.ndarray], rng: np.random.Generator, order: _Order
    ) -> list[np.ndarray]:
        if order is _FIRST or rng.random() < _SECOND_BLUR_CHANCE:
            with self.watch.stage("blur"):
                frames = _blur_clip(frames, rng, order)
        with self.watch.stage("resize"):
            frames = _resize_clip(frames, rng, order)
        kind = "gaussian" if rng.random() < _GAUSSIAN_CHANCE else "poisson"
        with self.watch.stage(kind):
            frames = _add_noise_to_clip(frames, rng, order, kind)
        with self.watch.stage("JPEG"):
            return _jpeg_clip(frames, rng)

    def _finish_size(
        self, frames: list[np.ndarray], size: tuple[int, int], rng: np.random.Generator
    ) -> list[np.ndarray]:
        with self.watch.stage("resize"):
            mode = _OPENCV_MODES[rng.integers(3)]
            frames = [cv2.resize(frame, size, interpolation=mode) for frame in frames]
        if rng.random() >= _FINAL_SINC_CHANCE:
            return frames
        with self.watch.stage("blur"):
            taps = 2 * int(rng.integers(3, 11)) + 1
            bounds = (math.pi / 3, math.pi)
            cutoffs = _walk(rng, len(frames), rng.uniform(*bounds), bounds, _CUTOFF_STEP)
            kernels = [_Kernel("sinc", taps, 0, 0, 0, 1, cutoff) for cutoff in cutoffs]
            return _filter_each(frames, kernels)

    def _compress(self, frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        encoder = _CLIP_CODECS[rng.integers(len(_CLIP_CODECS))]
        bits = int(rng.integers(_BITS_PER_FRAME[0], _BITS_PER_FRAME[1] + 1))
        file = io.BytesIO()
        with self.watch.stage("encode"):
            _write_mp4(file, frames, encoder, bits, self._num_threads)
        with self.watch.stage("decode"), av.open(file, "r", "mp4") as container:
            container.streams.video[0].codec_context.thread_count = self._num_threads
            decoded = container.decode(video=0)
            return [frame.to_ndarray(format="rgb24").astype(np.float32) for frame in decoded]


def _walk(
    rng: np.random.Generator,
    count: int,
    start: float,
    bounds: tuple[float, float],
    step: float,
) -> list[float]:
    """A value a frame, each at most `step` from the one before and within the bounds."""
    values = [float(start)]
    while len(values) < count:
        values.append(min(max(values[-1] + rng.uniform(-step, step), bounds[0]), bounds[1]))
    return values


def _sharpen(frames: list[np.ndarray]) -> list[np.ndarray]:
    line = cv2.getGaussianKernel(_SHARPEN_TAPS, 0)
    kernel = line @ line.T  # not taken apart again, as released
    return [_sharpen_frame(frame, kernel) for frame in frames]


def _sharpen_frame(frame: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    detail = frame - cv2.filter2D(frame, -1, kernel)
    edges = (np.abs(detail) > _SHARPEN_THRESHOLD).astype(np.float32)
    mask = cv2.filter2D(edges, -1, kernel)
    sharpened = np.clip(frame + _SHARPEN_WEIGHT * detail, 0, 255)
    return mask * sharpened + (1 - mask) * frame


def _blur_clip(
    frames: list[np.ndarray], rng: np.random.Generator, order: _Order
) -> list[np.ndarray]:
    first = _draw_kernel(rng, order.sigma)
    walk = (rng, len(frames))
    sigma_x = _walk(*walk, first.sigma_x, order.sigma, _SIGMA_STEP)
    sigma_y = _walk(*walk, first.sigma_y, order.sigma, _SIGMA_STEP)
    theta = _walk(*walk, first.theta, (-math.pi, math.pi), _THETA_STEP)
    betas = _BETAS.get(first.family, (1.0, 1.0))
    beta = _walk(*walk, first.beta, betas, _BETA_STEPS.get(first.family, 0))
    cutoff = _walk(*walk, first.cutoff, (math.pi / 5, math.pi), _CUTOFF_STEP)
    walked = zip(sigma_x, sigma_y, theta, beta, cutoff, strict=True)
    return _filter_each(frames, [_Kernel(first.family, first.taps, *values) for values in walked])


def _filter_each(frames: list[np.ndarray], kernels: list[_Kernel]) -> list[np.ndarray]:
    return [cv2.filter2D(f, -1, k.pixels()) for f, k in zip(frames, kernels, strict=True)]


def _resize_clip(
    frames: list[np.ndarray], rng: np.random.Generator, order: _Order
) -> list[np.ndarray]:
    mode = _OPENCV_MODES[rng.integers(3)]
    height, width = frames[0].shape[:2]
    factors = _walk(rng, len(frames), _draw_factor(rng, order), order.factor, order.factor_step)
    # Encoders want even sides.
    sizes = [(int(width * f) // 2 * 2, int(height * f) // 2 * 2) for f in factors]
    pairs = zip(frames, sizes, strict=True)
    return [cv2.resize(frame, size, interpolation=mode) for frame, size in pairs]


def _add_noise_to_clip(
    frames: list[np.ndarray], rng: np.random.Generator, order: _Order, kind: str
) -> list[np.ndarray]:
    gray = rng.random() < _GRAY_CHANCE
    bounds = order.gaussian if kind == "gaussian" else order.poisson
    step = _GAUSSIAN_STEP if kind == "gaussian" else _POISSON_STEP
    levels = _walk(rng, len(frames), rng.uniform(*bounds), bounds, step)
    make = _frame_gaussian if kind == "gaussian" else _frame_poisson
    pairs = zip(frames, levels, strict=True)
    return [(f + level * make(f, gray, rng)).astype(np.float32) for f, level in pairs]


def _frame_gaussian(frame: np.ndarray, gray: bool, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(frame.shape)
    return noise[:, :, :1] if gray else noise


def _frame_poisson(frame: np.ndarray, gray: bool, rng: np.random.Generator) -> np.ndarray:
    signal = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[:, :, None] if gray else frame
    levels = np.clip(np.round(signal), 0, 255)
    # Counted on the 0-255 scale, which makes the noise a sixteenth of Real-ESRGAN's; as released.
    counts = 2.0 ** np.ceil(np.log2(len(np.unique(levels))))
    return rng.poisson(levels * counts) / counts - levels


def _jpeg_clip(frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    start = rng.uniform(*_JPEG_QUALITY)
    qualities = _walk(rng, len(frames), start, _JPEG_QUALITY, _QUALITY_STEP)
    return [_jpeg_frame(f, round(q)) for f, q in zip(frames, qualities, strict=True)]


def _jpeg_frame(frame: np.ndarray, quality: int) -> np.ndarray:
    bgr = cv2.cvtColor(_to_uint8(frame), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # OpenCV has just encoded it
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32)


def _write_mp4(
    file: io.BytesIO, frames: list[np.ndarray], encoder: str, bits: int, num_threads: int
) -> None:
    with av.open(file, "w", "mp4") as container:
        stream = container.add_stream(encoder, rate=1)  # so the bitrate is that of a frame
        assert isinstance(stream, av.VideoStream)
        # Frames that differ in size after a walking resize are scaled to the first one's by PyAV.
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = bits
        stream.thread_count = num_threads
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(_to_uint8(pixels), "rgb24")
            frame.pict_type = PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _to_uint8(frame: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(frame, 0, 255)).astype(np.uint8)
