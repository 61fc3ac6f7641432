import hashlib
import os
import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest

from schemas.draw import (
    BlurDraw,
    CropDraw,
    FrameStageDraw,
    NoiseDraw,
    PadDraw,
    ResizeDraw,
    ResizeKernel,
    SharpenDraw,
    StillCodec,
    StillDraw,
)
from tests.pictures import texture
from transforms.blur import blur
from transforms.frame_stages import apply_frame_stages
from transforms.noise import noise
from transforms.pixels import to_float, to_uint8
from transforms.resize import resize
from transforms.sharpen import sharpen
from transforms.still import still

BLUR = BlurDraw(
    kernel="generalized_anisotropic",
    size=21,
    sigma_x=[2.3],
    sigma_y=[0.9],
    theta=[0.4],
    beta=[1.3],
    cutoff=[0],
)
SINC = BlurDraw(kernel="sinc", size=13, sigma_x=[0], sigma_y=[0], theta=[0], beta=[1], cutoff=[1.7])
SHARPEN = SharpenDraw(amount=[0.5], sigma=8, threshold=10)
NOISE = NoiseDraw(kind="gaussian", level=[7, 20], gray=[False, True], seed=11)
JPEG = StillDraw(codec="jpeg", quality=[60])
ANY_SIZE = [kernel for kernel in get_args(ResizeKernel) if kernel not in ("bd", "gaussian")]


def resize_to(
    height: int, width: int, kernel: str = "matlab_bicubic", **more: object
) -> ResizeDraw:
    values = {"height": [height], "width": [width], "kernel": kernel}
    return ResizeDraw.model_validate(values | more)


def noise_of(kind: str, **more: object) -> NoiseDraw:
    level = {"gaussian": 9, "poisson": 0.7, "speckle": 0.05, "camera": 0.01}[kind]
    return NoiseDraw.model_validate(
        {"kind": kind, "level": [level], "gray": [False], "seed": 4} | more
    )


def test_stages_are_applied_in_their_order_with_the_values_of_the_frame() -> None:
    image = to_float(texture(40, 52))
    expected = blur(image, BLUR, 1)
    expected = np.clip(resize(expected, 20, 26, "matlab_bicubic"), 0, 1)
    expected = noise(expected, NOISE, 1)
    expected = sharpen(still(expected, JPEG, 1), SHARPEN, 1)
    stages: list[FrameStageDraw] = [BLUR, resize_to(20, 26), NOISE, JPEG, SHARPEN]
    assert np.array_equal(apply_frame_stages(image, stages, 1), expected)
    assert not np.array_equal(apply_frame_stages(image, stages, 0), expected)
    turned_round: list[FrameStageDraw] = [NOISE, BLUR, resize_to(20, 26), JPEG, SHARPEN]
    assert np.abs(apply_frame_stages(image, turned_round, 1) - expected).max() > 0.02


def test_no_stages_change_nothing() -> None:
    image = to_float(texture(5, 6))
    assert np.array_equal(apply_frame_stages(image, [], 3), image)


def test_a_resize_follows_its_sizes_sigma_and_factor() -> None:
    image = to_float(texture(48, 48))
    sizes = resize_to(24, 12).model_copy(update={"height": [24, 12], "width": [12, 24]})
    shapes = [apply_frame_stages(image, [sizes], t).shape for t in range(2)]
    assert shapes == [(24, 12, 3), (12, 24, 3)]
    gaussian = apply_frame_stages(image, [resize_to(12, 12, "gaussian", sigma=2)], 0)
    assert np.array_equal(gaussian, resize(image, 12, 12, "gaussian", sigma=2))
    nominal = apply_frame_stages(image, [resize_to(16, 16, "torch_bilinear", factor=[0.35])], 0)
    assert np.array_equal(nominal, resize(image, 16, 16, "torch_bilinear", factor=0.35))


def edge() -> np.ndarray:
    image = np.zeros((32, 32, 3), np.float32)
    image[:, 16:] = 1
    return image


def test_what_a_resize_overshoots_is_clipped() -> None:
    assert resize(edge(), 64, 64, "matlab_bicubic").max() > 1.02
    resized = apply_frame_stages(edge(), [resize_to(64, 64)], 0)
    assert resized.min() == 0 and resized.max() == 1


def test_overshoot_wraps_around_in_a_still_codec_that_cuts_off() -> None:
    image = 0.1 + 0.9 * edge()
    coder = StillDraw(codec="jpeg", quality=[95], subsampling="444")
    cutter = coder.model_copy(update={"truncate": True})
    plain, wrapped = (
        apply_frame_stages(image, [resize_to(64, 64), stage], 0) for stage in (coder, cutter)
    )
    bright = np.s_[8:-8, 34:60]
    assert plain[bright].min() > 0.9
    assert wrapped[bright].min() < 0.3
    both = apply_frame_stages(image, [resize_to(64, 64), coder, cutter], 0)
    assert both[bright].min() > 0.9  # clipped in front of the first


def test_padding_repeats_the_border_and_cropping_undoes_it() -> None:
    image = to_float(texture(10, 13))
    pad = PadDraw(top=2, left=1, height=16, width=16)
    padded = apply_frame_stages(image, [pad], 0)
    assert np.array_equal(padded, np.pad(image, ((2, 4), (1, 2), (0, 0)), mode="edge"))
    back = apply_frame_stages(image, [pad, CropDraw(top=2, left=1, height=10, width=13)], 0)
    assert np.array_equal(back, image)
    assert back.flags.c_contiguous


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)])
def test_tiny_frames_pass_through_every_stage(size: tuple[int, int]) -> None:
    image = to_float(texture(*size))
    kinds = [noise_of(kind) for kind in ("gaussian", "poisson", "speckle", "camera")]
    stages: list[FrameStageDraw] = [
        SHARPEN,
        BLUR,
        *kinds,
        JPEG,
        SINC,
        resize_to(*size),
        StillDraw(codec="webp", quality=[50]),
    ]
    result = apply_frame_stages(image, stages, 0)
    assert result.shape == (*size, 3) and result.dtype == np.float32
    assert np.array_equal(result, apply_frame_stages(image, stages, 0))


def every_stage() -> list[list[FrameStageDraw]]:
    """Chains that together use all code that computes."""
    covariance = [0.5, 0.2, 0.1, 0.2, 0.6, 0.3, 0.1, 0.3, 0.7]
    alone: list[FrameStageDraw] = [
        BLUR,
        SINC,
        SHARPEN,
        resize_to(24, 32, "bd"),
        resize_to(24, 32, "gaussian", sigma=1.7),
        resize_to(37, 51, "torch_bilinear", factor=[0.53]),
        resize_to(37, 51, "torch_bicubic", factor=[0.53]),
        *(resize_to(*size, kernel) for kernel in ANY_SIZE for size in ((53, 71), (110, 99))),
        *(noise_of(kind) for kind in ("gaussian", "poisson", "speckle", "camera")),
        noise_of("poisson", gray=[True], bgr=True),
        noise_of("gaussian", covariance=covariance, static=[True]),
        *(StillDraw(codec=codec, quality=[55]) for codec in get_args(StillCodec)),
    ]
    chain: list[FrameStageDraw] = [
        BLUR,
        resize_to(53, 71),
        noise_of("poisson"),
        JPEG,
        SINC,
        resize_to(24, 32),
        JPEG,
    ]
    return [*([stage] for stage in alone), chain]


def digests() -> list[str]:
    """Of the exact floats of every chain."""
    image = to_float(texture(96, 128))
    results = [apply_frame_stages(image, stages, 0) for stages in every_stage()]
    return [hashlib.sha256(result.tobytes()).hexdigest() for result in results]


@pytest.mark.parametrize("opencv", ["AVX512-SKX,AVX2", "AVX512-SKX,AVX2,FP16,AVX,SSE4.2,SSE4.1"])
def test_pixels_are_equal_on_cpus_with_fewer_instructions(opencv: str) -> None:
    simd: Any = np.show_config(mode="dicts")
    masks = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(simd["SIMD Extensions"]["found"]),
        "OPENCV_CPU_DISABLE": opencv,
        "JSIMD_FORCENONE": "1",  # libjpeg-turbo
        "AOM_SIMD_CAPS": "0",  # the AV1 encoder in AVIF
    }
    command = "from tests.transforms.test_frame_stages import digests; print(*digests())"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, **masks},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.split() == digests()


def test_results_are_rounded_without_surprise() -> None:
    image = to_float(texture(30, 30))
    same = apply_frame_stages(image, [PadDraw(top=0, left=0, height=30, width=30)], 0)
    assert np.array_equal(to_uint8(same), texture(30, 30))
