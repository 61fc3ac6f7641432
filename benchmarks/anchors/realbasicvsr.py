"""RealBasicVSR's chain as mmagic has it: NumPy and OpenCV frame by frame, then PyAV."""

import io
import math
from collections.abc import Callable, Sequence

import av
import cv2
import numpy as np
from av.video.frame import PictureType

from benchmarks.anchors.orders import (
    BETAS,
    FIRST,
    GAUSSIAN_CHANCE,
    GRAY_CHANCE,
    JPEG_QUALITY,
    SECOND,
    SECOND_BLUR_CHANCE,
    Kernel,
    Order,
    draw_factor,
    draw_kernel,
)
from benchmarks.stopwatch import Stopwatch

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
        frames = self._order(frames, rng, FIRST)
        frames = self._compress(frames, rng)
        frames = self._order(frames, rng, SECOND)
        ends: list[Callable[[], list[np.ndarray]]] = [
            lambda: self._compress(frames, rng),
            lambda: self._finish_size(frames, size, rng),
        ]
        for number in rng.permutation(len(ends)):
            frames = ends[number]()
        return np.stack([_to_uint8(frame) for frame in frames])

    def _order(
        self, frames: list[np.ndarray], rng: np.random.Generator, order: Order
    ) -> list[np.ndarray]:
        if order is FIRST or rng.random() < SECOND_BLUR_CHANCE:
            with self.watch.stage("blur"):
                frames = _blur_clip(frames, rng, order)
        with self.watch.stage("resize"):
            frames = _resize_clip(frames, rng, order)
        kind = "gaussian" if rng.random() < GAUSSIAN_CHANCE else "poisson"
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
            kernels = [Kernel("sinc", taps, 0, 0, 0, 1, cutoff) for cutoff in cutoffs]
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
    frames: list[np.ndarray], rng: np.random.Generator, order: Order
) -> list[np.ndarray]:
    first = draw_kernel(rng, order.sigma)
    walk = (rng, len(frames))
    sigma_x = _walk(*walk, first.sigma_x, order.sigma, _SIGMA_STEP)
    sigma_y = _walk(*walk, first.sigma_y, order.sigma, _SIGMA_STEP)
    theta = _walk(*walk, first.theta, (-math.pi, math.pi), _THETA_STEP)
    betas = BETAS.get(first.family, (1.0, 1.0))
    beta = _walk(*walk, first.beta, betas, _BETA_STEPS.get(first.family, 0))
    cutoff = _walk(*walk, first.cutoff, (math.pi / 5, math.pi), _CUTOFF_STEP)
    walked = zip(sigma_x, sigma_y, theta, beta, cutoff, strict=True)
    return _filter_each(frames, [Kernel(first.family, first.taps, *values) for values in walked])


def _filter_each(frames: list[np.ndarray], kernels: list[Kernel]) -> list[np.ndarray]:
    return [cv2.filter2D(f, -1, k.pixels()) for f, k in zip(frames, kernels, strict=True)]


def _resize_clip(
    frames: list[np.ndarray], rng: np.random.Generator, order: Order
) -> list[np.ndarray]:
    mode = _OPENCV_MODES[rng.integers(3)]
    height, width = frames[0].shape[:2]
    factors = _walk(rng, len(frames), draw_factor(rng, order), order.factor, order.factor_step)
    # Encoders want even sides.
    sizes = [(int(width * f) // 2 * 2, int(height * f) // 2 * 2) for f in factors]
    pairs = zip(frames, sizes, strict=True)
    return [cv2.resize(frame, size, interpolation=mode) for frame, size in pairs]


def _add_noise_to_clip(
    frames: list[np.ndarray], rng: np.random.Generator, order: Order, kind: str
) -> list[np.ndarray]:
    gray = rng.random() < GRAY_CHANCE
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
    start = rng.uniform(*JPEG_QUALITY)
    qualities = _walk(rng, len(frames), start, JPEG_QUALITY, _QUALITY_STEP)
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
