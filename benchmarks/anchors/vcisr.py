"""VCISR's chain as released: torch on a batch, then FFmpeg's command line and PNG files."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.anchors.orders import (
    FIRST,
    GAUSSIAN_CHANCE,
    GRAY_CHANCE,
    JPEG_QUALITY,
    MAX_TAPS,
    SECOND,
    SECOND_BLUR_CHANCE,
    Order,
    draw_factor,
    draw_kernel,
)
from benchmarks.reference import run_ffmpeg
from benchmarks.stopwatch import Stopwatch

_LUMA = (0.299, 0.587, 0.114)  # BT.601, as in JPEG
_BLOCK = 8
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
        batch = self._blur(batch, rng, FIRST)
        batch = self._resize(batch, rng, FIRST)
        batch = self._add_noise(batch, rng, noise, FIRST)
        with self.watch.stage("JPEG"):
            quality = torch.from_numpy(rng.uniform(*JPEG_QUALITY, len(batch))).float()
            return self._jpeg(batch, quality)

    def _second_order(
        self, batch: torch.Tensor, rng: np.random.Generator, noise: torch.Generator
    ) -> torch.Tensor:
        if rng.random() < SECOND_BLUR_CHANCE:
            batch = self._blur(batch, rng, SECOND)
        # Of the size so far, not of the LR size as in Real-ESRGAN.
        batch = self._resize(batch, rng, SECOND)
        return self._add_noise(batch, rng, noise, SECOND)

    def _blur(self, batch: torch.Tensor, rng: np.random.Generator, order: Order) -> torch.Tensor:
        with self.watch.stage("blur"):
            pixels = draw_kernel(rng, order.sigma).pixels()
            # Every size in the same number of taps, as released: small kernels cost as much.
            margin = (MAX_TAPS - len(pixels)) // 2
            kernel = torch.from_numpy(np.pad(pixels, margin)).float()
            return blur_batch(batch, kernel, grouped=self._grouped_blur)

    def _resize(self, batch: torch.Tensor, rng: np.random.Generator, order: Order) -> torch.Tensor:
        with self.watch.stage("resize"):
            mode = str(rng.choice(_TORCH_MODES))
            return F.interpolate(batch, scale_factor=draw_factor(rng, order), mode=mode)

    def _add_noise(
        self,
        batch: torch.Tensor,
        rng: np.random.Generator,
        noise: torch.Generator,
        order: Order,
    ) -> torch.Tensor:
        kind = "gaussian" if rng.random() < GAUSSIAN_CHANCE else "poisson"
        levels = rng.uniform(*(order.gaussian if kind == "gaussian" else order.poisson), len(batch))
        gray = torch.from_numpy(rng.random(len(batch)) < GRAY_CHANCE)
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
