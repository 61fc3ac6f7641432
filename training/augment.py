"""Flips and the transpose of a window, its motion included. Nothing random here.

Pixels are moved at once, frame by frame, by OpenCV: copying NumPy's turned views takes ten times as
long.
"""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from training.batch import Window
from transforms.motion import Flow

_X, _Y = 0, 1  # of a vector
_LEFT_RIGHT, _TOP_BOTTOM = 1, 0  # OpenCV's codes


def hflip(window: Window) -> Window:
    """Mirror left and right; x of the vectors changes its sign."""
    return _turned(window, _mirrored(_LEFT_RIGHT), _opposite(_X))


def vflip(window: Window) -> Window:
    """Mirror top and bottom; y of the vectors changes its sign."""
    return _turned(window, _mirrored(_TOP_BOTTOM), _opposite(_Y))


def transpose(window: Window) -> Window:
    """Exchange rows and columns; x and y of the vectors change places."""
    return _turned(window, _transposed, _exchanged)


def _turned(
    window: Window,
    turn: Callable[[np.ndarray], np.ndarray],
    turn_vectors: Callable[[np.ndarray], np.ndarray],
) -> Window:
    previous, following, valid = window.flow
    return dataclasses.replace(
        window,
        lr=turn(window.lr),
        hr=turn(window.hr),
        flow=Flow(
            previous=turn_vectors(turn(previous)),
            next=turn_vectors(turn(following)),
            valid=turn(valid),
        ),
    )


def _mirrored(code: int) -> Callable[[np.ndarray], np.ndarray]:
    def mirror(x: np.ndarray) -> np.ndarray:
        turned = np.empty_like(x, order="C")
        for frame, target in zip(x, turned, strict=True):
            cv2.flip(frame, code, target)
        return turned

    return mirror


def _transposed(x: np.ndarray) -> np.ndarray:
    turned = np.empty((x.shape[0], x.shape[2], x.shape[1], *x.shape[3:]), x.dtype)
    for frame, target in zip(x, turned, strict=True):
        cv2.transpose(frame, target)
    return turned


def _opposite(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    def negate(vectors: np.ndarray) -> np.ndarray:
        np.negative(vectors[..., axis], out=vectors[..., axis])
        return vectors

    return negate


def _exchanged(vectors: np.ndarray) -> np.ndarray:
    exchanged = np.empty_like(vectors)
    exchanged[..., _X], exchanged[..., _Y] = vectors[..., _Y], vectors[..., _X]
    return exchanged


_PIXELS = {
    "hflip": _mirrored(_LEFT_RIGHT),
    "vflip": _mirrored(_TOP_BOTTOM),
    "transpose": _transposed,
}


def turn_pixels(frames: np.ndarray, turns: Sequence[str]) -> np.ndarray:
    """(T, H, W, 3) uint8 frames, turned by the functions above, which go by their names."""
    for turn in turns:
        frames = _PIXELS[turn](frames)
    return frames


AUGMENTATIONS = (hflip, vflip, transpose)
"""Each applied with probability 1/2: together the eight symmetries of a square."""
