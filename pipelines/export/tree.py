"""What lies where in an export, and which loaders read it.

**basicsr**, for BasicSR and what descends from it. Pseudo-videos are pictures, all others clips:

    images/GT/<key>_<frame>.png                images/LQ/<stream>/<key>_<frame>.png
    clips/GT/<key>/<frame, 8 digits>.png       clips/LQ/<stream>/<key>/<frame, 8 digits>.png

- `images/meta_info.txt` has lines `name (h,w,3)`, for `PairedImageDataset`; without the list it
  takes the two folders just as well.
- `clips/meta_info.txt` has lines `clip frames (h,w,3)`, for `VideoTestDataset` and
  `VideoRecurrentTestDataset` (called REDS4 or Vid4 in the options, else they refuse).
- `clips/meta_info_window<n>.txt` is for `REDSRecurrentDataset` with a `num_frame` of n (times the
  largest interval). It takes every frame that a list promises for the start of a window, and knows
  clips of 100 frames only, so the list gives the number of possible starts instead of the number
  of frames. Clips shorter than the window are not in it. `REDSDataset`, the one of sliding
  windows, has the 100 built in and cannot read other clips.

**cavsr**, for the official release of CAVSR:

    GT/<key>/<frame>.png    BD_25/<key>/<frame>.png    meta/25/<key>.npz

- A stream without codec is `BD` with metadata `0`, one of x264 at a constant rate factor is
  `BD_<crf>` with metadata `<crf>`, any other keeps its name for both. The names say nothing about
  the blur.
- Frames count from 0, but from 1 in folders with `BD_` in their name: `REDSMetaRecurrentDataset`
  wants it so. `VideoMetaRecurrentTestDataset` sorts what it finds. (`REDSMateDataset`, without
  metadata, wants 0 everywhere and is not served.)
- Pseudo-videos are left out: their frames are no clip.

**cavsr-vimeo**, for `Vimeo90KMetaRecurrentDataset`, the one that the release trains with. It knows
clips of seven frames only, so clips are cut into such; frames that are left over are left out:

    GT/0/<key>/0001/im1.png    BD_25/0/<key>/0001/im1.png    meta/25/0/<key>/0001.npz

- `meta_info.txt` has lines `0/<key>/0001 7 (h,w,3)`.
- `meta_info_basicsr.txt` has `<key>/0001 7 (h,w,3)`, for BasicSR's `Vimeo90KDataset` and
  `Vimeo90KRecurrentDataset` with the folders `GT/0` and `BD_25/0`.

Besides, every layout has `records/<key>.json`, all that PNG loses: the sample's record (draws,
frame types, quantisers, packet bytes, origins) and the sources with licence and attribution; and
`export.json`, what the export was made from.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from pipelines.errors import UserError
from schemas.record import Record
from schemas.sample import SampleFields, SampleKind

GT = "GT"
RECORDS = "records"
META = "meta"
EXPORT_NAME = "export.json"
VIMEO_FRAMES = 7  # of a clip in Vimeo-90K
_VIMEO_PART = "0"  # the release has two crops of each clip, in 0/ and 1/


class TreeName(StrEnum):
    """The layouts."""

    BASICSR = "basicsr"
    CAVSR = "cavsr"
    CAVSR_VIMEO = "cavsr-vimeo"


class MvUnits(StrEnum):
    """What a row's `src - dst` is; `scale` is what to divide it by for pixels."""

    OFFICIAL = "official"
    """quarter pixels, scale 4"""
    PIXELS = "pixels"
    """pixels, rounded, scale 1"""


DEFAULT_WINDOWS = {TreeName.BASICSR: 15, TreeName.CAVSR: 7, TreeName.CAVSR_VIMEO: 0}
"""Frames of the windows that BasicVSR and CAVSR are trained with."""


class Settings(Record):
    """What decides an export's files. Another value of any field is another export."""

    manifest_sha256: str
    """of the dataset's manifest"""
    layout: TreeName
    """what lies where"""
    split: str
    """which side of the dataset"""
    folders: dict[str, str]
    """stream -> its folder of LR frames"""
    mv_units: MvUnits
    """units of the vectors; without meaning for basicsr"""
    window: int
    """frames of a window in the list of possible starts; 0 for no such list"""


class Metadata(NamedTuple):
    """One file of metadata: of a clip, or of a part of it."""

    path: str
    first_frame: int
    num_frames: int


def stream_folders(
    layout: TreeName, streams: Sequence[str], rates: Mapping[str, set[str]]
) -> dict[str, str]:
    """The folder of each stream's LR frames.

    Args:
        layout: the layout.
        streams: names of the streams.
        rates: stream -> every `rate_folder` among its samples.
    """
    if layout is TreeName.BASICSR:
        return {name: f"LQ/{name}" for name in streams}
    wanted = {name: _only(rates.get(name, set())) or name for name in streams}
    sharers = defaultdict[str, list[str]](list)
    for name, folder in wanted.items():
        sharers[folder].append(name)
    # Streams that ask for one folder keep their names, and so does none that is called like ours.
    folders = {n: folder if len(sharers[folder]) == 1 else n for n, folder in wanted.items()}
    ours = {GT.casefold(), META, RECORDS}
    folders = {n: f"{folder}_lq" if folder in ours else folder for n, folder in folders.items()}
    _check_distinct(folders)
    return folders


def _check_distinct(folders: Mapping[str, str]) -> None:
    """Refuse streams that would overwrite each other's frames or metadata."""
    for place_of in (str, _metadata_name):
        names = defaultdict[str, list[str]](list)
        for stream, folder in folders.items():
            names[place_of(folder)].append(stream)
        for place, sharers in names.items():
            if len(sharers) > 1:
                raise UserError(
                    f"streams {' and '.join(sharers)} would both be written to {place!r}: export "
                    "them apart, with --stream and an --output of its own for each"
                )


def _only(names: set[str]) -> str:
    return next(iter(names)) if len(names) == 1 else ""


def rate_folder(stream: Mapping[str, Any]) -> str:
    """The release's name for what a row of table `streams` is; empty where it has none."""
    if stream.get("earlier") or stream.get("lost_slices"):
        return ""
    if stream["lr_kind"] == "lossless":
        return "BD"
    # Rate factors of other codecs are other scales.
    is_x264 = (stream["codec"], stream["rate_mode"]) == ("h264", "crf")
    return f"BD_{stream['rate_value']:g}" if is_x264 else ""


def reason_left_out(settings: Settings, sample: SampleFields) -> str:
    """Why a sample has no place in the layout; empty if it has."""
    if settings.layout is not TreeName.BASICSR and sample.kind is SampleKind.PSEUDO_VIDEO:
        return "pseudo-video: its frames are no clip"
    if settings.layout is TreeName.CAVSR_VIMEO and sample.num_frames < VIMEO_FRAMES:
        return f"clip shorter than {VIMEO_FRAMES} frames"
    return ""


def sample_files(settings: Settings, sample: SampleFields) -> list[str]:
    """The paths of all files of a sample but its record."""
    found = list(frame_files(settings, sample, GT).values())
    for folder in settings.folders.values():
        found += frame_files(settings, sample, folder).values()
        found += [file.path for file in metadata_files(settings, sample, folder)]
    return found


def frame_files(settings: Settings, sample: SampleFields, folder: str) -> dict[int, str]:
    """Display index -> path of each frame that is written to a folder (GT or a stream's)."""
    key, frames = sample.key, range(sample.num_frames)
    if settings.layout is TreeName.CAVSR:
        first = 1 if "BD_" in folder else 0
        return {t: f"{folder}/{key}/{t + first:08d}.png" for t in frames}
    if settings.layout is TreeName.CAVSR_VIMEO:
        return {
            t: f"{folder}/{_VIMEO_PART}/{key}/{_septuplet(t)}/im{t % VIMEO_FRAMES + 1}.png"
            for t in range(_whole_septuplets(sample) * VIMEO_FRAMES)
        }
    if sample.kind is SampleKind.PSEUDO_VIDEO:
        return {t: f"images/{folder}/{_picture(sample, t)}" for t in frames}
    return {t: f"clips/{folder}/{key}/{t:08d}.png" for t in frames}


def _picture(sample: SampleFields, frame: int) -> str:
    return f"{sample.key}_{frame:04d}.png"


def _septuplet(frame: int) -> str:
    return f"{frame // VIMEO_FRAMES + 1:04d}"


def _whole_septuplets(sample: SampleFields) -> int:
    return sample.num_frames // VIMEO_FRAMES


def metadata_files(settings: Settings, sample: SampleFields, folder: str) -> list[Metadata]:
    """The files of metadata that belong to a stream's folder."""
    if settings.layout is TreeName.BASICSR:
        return []
    name = _metadata_name(folder)
    if settings.layout is TreeName.CAVSR:
        return [Metadata(f"{META}/{name}/{sample.key}.npz", 0, sample.num_frames)]
    starts = range(0, _whole_septuplets(sample) * VIMEO_FRAMES, VIMEO_FRAMES)
    parent = f"{META}/{name}/{_VIMEO_PART}/{sample.key}"
    return [Metadata(f"{parent}/{_septuplet(t)}.npz", t, VIMEO_FRAMES) for t in starts]


def _metadata_name(folder: str) -> str:
    return "0" if folder == "BD" else folder.removeprefix("BD_")


def list_lines(settings: Settings, sample: SampleFields) -> dict[str, list[str]]:
    """What a sample adds to the lists that loaders start from: path -> lines."""
    # No space inside the shape: loaders split a line at spaces, and expect three parts.
    shape = f"({sample.hr_height},{sample.hr_width},3)"
    if settings.layout is TreeName.CAVSR_VIMEO:
        names = [
            f"{sample.key}/{_septuplet(k * VIMEO_FRAMES)}" for k in range(_whole_septuplets(sample))
        ]
        lines = [f"{name} {VIMEO_FRAMES} {shape}" for name in names]
        official = [f"{_VIMEO_PART}/{line}" for line in lines]
        return {"meta_info.txt": official, "meta_info_basicsr.txt": lines}
    if settings.layout is TreeName.BASICSR and sample.kind is SampleKind.PSEUDO_VIDEO:
        names = [_picture(sample, t) for t in range(sample.num_frames)]
        return {"images/meta_info.txt": [f"{name} {shape}" for name in names]}
    root = "clips/" if settings.layout is TreeName.BASICSR else ""
    found = {f"{root}meta_info.txt": [f"{sample.key} {sample.num_frames} {shape}"]}
    num_starts = sample.num_frames - settings.window + 1
    if settings.window:
        windows = [f"{sample.key} {num_starts} {shape}"] if num_starts > 0 else []
        found[f"{root}meta_info_window{settings.window}.txt"] = windows
    return found
