"""Flips and the transpose of a window, its motion included. Nothing random here."""

import dataclasses

import numpy as np

from training.batch import Window
from transforms.motion import Flow

_NEGATE_X = np.array([-1, 1], np.float32)
_NEGATE_Y = np.array([1, -1], np.float32)


def hflip(window: Window) -> Window:
    """Mirror left and right; x of the vectors changes its sign."""
    previous, following, valid = window.flow
    return dataclasses.replace(
        window,
        lr=window.lr[:, :, ::-1],
        hr=window.hr[:, :, ::-1],
        flow=Flow(
            previous=previous[:, :, ::-1] * _NEGATE_X,
            next=following[:, :, ::-1] * _NEGATE_X,
            valid=valid[:, :, ::-1],
        ),
    )


def vflip(window: Window) -> Window:
    """Mirror top and bottom; y of the vectors changes its sign."""
    previous, following, valid = window.flow
    return dataclasses.replace(
        window,
        lr=window.lr[:, ::-1],
        hr=window.hr[:, ::-1],
        flow=Flow(
            previous=previous[:, ::-1] * _NEGATE_Y,
            next=following[:, ::-1] * _NEGATE_Y,
            valid=valid[:, ::-1],
        ),
    )


def transpose(window: Window) -> Window:
    """Exchange rows and columns; x and y of the vectors change places."""
    previous, following, valid = window.flow
    return dataclasses.replace(
        window,
        lr=window.lr.swapaxes(1, 2),
        hr=window.hr.swapaxes(1, 2),
        flow=Flow(
            previous=previous.swapaxes(1, 2)[..., ::-1],
            next=following.swapaxes(1, 2)[..., ::-1],
            valid=valid.swapaxes(1, 2),
        ),
    )


AUGMENTATIONS = (hflip, vflip, transpose)
"""Each applied with probability 1/2: together the eight symmetries of a square."""
