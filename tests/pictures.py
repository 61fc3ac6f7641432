"""Tiny synthetic pictures: textured, coloured, moving by whole pixels."""

import cv2
import numpy as np

cv2.ipp.setUseIPP(False)  # or pictures would depend on what was imported before


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: coloured blobs of several sizes, nowhere alike."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.float32)
    for size, amplitude in ((24, 45), (8, 30), (3, 15)):
        blobs = rng.normal(0, amplitude, (height // size + 3, width // size + 3, 3))
        large = cv2.resize(blobs.astype(np.float32), None, fx=size, fy=size)
        picture += large[:height, :width]
    return np.clip(picture, 0, 255).astype(np.uint8)


def moving_clip(
    num_frames: int, height: int, width: int, step: tuple[int, int] = (1, 2), seed: int = 0
) -> np.ndarray:
    """(T, height, width, 3) uint8: content that moves by `step` (rows, columns) a frame."""
    dy, dx = step
    picture = texture(height + abs(dy) * num_frames, width + abs(dx) * num_frames, seed)
    frames = []
    for t in range(num_frames):
        # The window moves against the content.
        top = (num_frames - t) * dy if dy >= 0 else t * -dy
        left = (num_frames - t) * dx if dx >= 0 else t * -dx
        frames.append(picture[top : top + height, left : left + width])
    return np.stack(frames)
