"""What papers report on test sets that are known here, beside which measured rows may stand.

The rows are those of the table of CAVSR (CVPR 2023), x4, BD downsampling, x264; the clean ones of
the model zoo of mmagic. PSNR is in dB.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from training.evaluating.measure import Channels


class PublishedRow(NamedTuple):
    """A method, and (PSNR, SSIM) by rate factor; None stands for no compression."""

    method: str
    source: str
    values: Mapping[float | None, tuple[float, float]]


class KnownSet(NamedTuple):
    """A test set that papers report on."""

    name: str
    frames: Mapping[str, int]
    """how many each clip has, by its name in lower case"""
    channels: Channels
    """what papers measure on it"""
    rows: Sequence[PublishedRow]


_CAVSR = "CAVSR, CVPR 2023"


def _row(method: str, *values: tuple[float, float]) -> PublishedRow:
    return PublishedRow(method, _CAVSR, dict(zip((15, 25, 35), values, strict=True)))


KNOWN_SETS = (
    KnownSet(
        name="Vid4",
        frames={"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
        channels="y",
        rows=(
            PublishedRow("BasicVSR (BD)", "mmagic's model zoo", {None: (27.98, 0.856)}),
            _row("EDVR", (26.53, 0.794), (24.76, 0.694), (22.39, 0.544)),
            _row("RealBasicVSR", (26.94, 0.813), (24.87, 0.701), (22.39, 0.531)),
            _row("COMISR", (26.66, 0.801), (25.14, 0.713), (22.62, 0.546)),
            _row("FTVSR", (27.50, 0.826), (25.51, 0.732), (22.79, 0.561)),
            _row("CAVSR", (27.42, 0.833), (25.65, 0.742), (22.84, 0.574)),
        ),
    ),
    KnownSet(
        name="REDS4",
        frames={"000": 100, "011": 100, "015": 100, "020": 100},
        channels="rgb",
        rows=(
            _row("EDVR", (29.31, 0.836), (26.27, 0.742), (23.78, 0.625)),
            _row("RealBasicVSR", (29.76, 0.849), (26.49, 0.746), (23.63, 0.626)),
            _row("COMISR", (29.76, 0.832), (26.96, 0.749), (23.87, 0.629)),
            _row("FTVSR", (30.89, 0.864), (28.10, 0.786), (24.83, 0.674)),
            _row("CAVSR", (30.76, 0.873), (28.15, 0.798), (24.93, 0.682)),
        ),
    ),
)


def known_set(frames: Mapping[str, int]) -> KnownSet | None:
    """The test set whose clips have these names and numbers of frames; None for any other."""
    found = {name.lower(): count for name, count in frames.items()}
    return next((known for known in KNOWN_SETS if known.frames == found), None)
