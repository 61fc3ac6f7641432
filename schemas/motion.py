"""Block motion vectors: their unit, sign and layout, stated once.

A block with its centre at `(x, y)` of the coded picture of frame `t` is predicted from frame
`t + ref_distance` at `(x + mv_x / MV_UNITS_PER_PIXEL, y + mv_y / MV_UNITS_PER_PIXEL)`. On
content that moves by +3 px a frame, a vector into the previous frame (`ref_distance == -1`)
is therefore -3 px. One pixel is one pixel of the *coded* picture; the reference decoder
scales vectors to LR pixels where a sample's post steps resize it.
"""

import numpy as np

MV_UNITS_PER_PIXEL = 4
"""Vectors are stored in quarter pixels, the finest unit of the codecs that give them."""

MOTION_DTYPE = np.dtype(
    [
        ("frame", "<u2"),  # display index of the predicted frame, 0-based
        ("ref_distance", "<i2"),  # signed distance to the reference in frames; never 0
        ("x", "<i2"),  # block centre, pixels of the coded picture
        ("y", "<i2"),
        ("width", "<u2"),  # block size, pixels
        ("height", "<u2"),
        ("mv_x", "<i2"),  # quarter pixels
        ("mv_y", "<i2"),
    ]
)
"""One row per predicted block (two rows where it is predicted from both sides), by frame."""
