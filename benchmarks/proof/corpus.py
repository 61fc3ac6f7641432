"""The datasets that are trained on, and those that are measured, as this project makes them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.running import run_quietly
from pipelines.synthesize.__main__ import main as synthesize
from pipelines.view import main as write_view
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe

CODECS = ("mpeg2video", "mpeg4", "h264", "hevc")
"""Of the recipe `vcisr`."""
HELD_OUT = ("*/libby", "*/kite-surf", "*/flower.*", "*/road.mp4")
"""Videos that no training sees, beside the benchmarks."""
_JPEG = {"op": "still", "quality": {"min": 30, "max": 95, "step": 1}}
_BICUBIC = [{"op": "downscale", "kernels": ["matlab_bicubic"]}]


class Corpus(NamedTuple):
    """Where the real data is: `video/`, `images/` and `vid4/` below one folder."""

    folder: Path

    @property
    def videos(self) -> list[Path]:
        """Trained on."""
        return [self.folder / "video" / "clips", self.folder / "video" / "davis"]

    @property
    def photos(self) -> list[Path]:
        """Trained on."""
        return [self.folder / "images" / "photos"]

    @property
    def vid4(self) -> Path:
        """Measured only."""
        return self.folder / "vid4"

    @property
    def kodak(self) -> Path:
        """Measured only."""
        return self.folder / "images" / "kodak"


def video_recipe(name: str) -> Recipe:
    """A shipped recipe for videos that are compressed already: shrunk first."""
    recipe = load_recipe(name)
    hr = recipe.hr.model_copy(update={"pre_downscale": 1.5})
    return recipe.model_copy(update={"hr": hr, "name": f"proof-{name}"})


def rank_recipe() -> Recipe:
    """Continuous CRFs; of photographs, what a virtual camera sees, for more contents."""
    recipe = video_recipe("cavsr-continuous")
    camera = {"packing": "camera", "patches_per_image": 40}
    pseudo_video = recipe.pseudo_video.model_copy(update=camera)
    return recipe.model_copy(update={"pseudo_video": pseudo_video, "name": "proof-ranks"})


def picture_recipe() -> Recipe:
    """One HR, degraded three ways: by VCISR's codecs, by JPEG, and by the downscale alone."""
    vcisr = load_recipe("vcisr").model_dump(exclude_none=True)
    (branches,) = [x["branches"] for x in vcisr["streams"][0]["stages"] if x["op"] == "choice"]
    codec = branches[0]["stages"][-1]
    encoders = [{**encoder, "weight": 1} for encoder in codec["encoders"]]
    streams: list[dict[str, Any]] = [
        {"name": "codecs", "stages": [{"op": "codec", "encoders": encoders}]},
        {"name": "jpeg", "stages": [_JPEG]},
        {"name": "clean"},
    ]
    return _pictures("proof-pictures", streams, pre_downscale=2, validation_fraction=0.1)


def measured_recipe() -> Recipe:
    """One stream for each codec of VCISR's recipe, of middling strength, JPEG, and none."""
    strengths: Mapping[str, dict[str, Any]] = {
        "mpeg2video": {"qscale": 9, "gop_frames": 12},
        "mpeg4": {"qscale": 9, "gop_frames": 12},
        "h264": {"crf": 26},
        "hevc": {"crf": 31},
    }
    streams = [
        {
            "name": codec,
            "stages": [{"op": "codec", "encoders": [{"codec": codec, **strengths[codec]}]}],
        }
        for codec in CODECS
    ]
    streams += [{"name": "jpeg", "stages": [{**_JPEG, "quality": 50}]}, {"name": "clean"}]
    # All of it lies in the split `train`, since no dataset is without; nothing trains on it.
    return _pictures("proof-test", streams, pre_downscale=1, validation_fraction=0)


def _pictures(
    name: str,
    streams: Sequence[dict[str, Any]],
    pre_downscale: float,
    validation_fraction: float,
) -> Recipe:
    return Recipe.model_validate(
        {
            "name": name,
            "scale": 4,
            "validation_fraction": validation_fraction,
            "hr": {"patch_height": 256, "patch_width": 256, "pre_downscale": pre_downscale},
            "clips": {"frames": 24, "patches": 1},
            "pseudo_video": {"frames": 24, "patches_per_image": 48},
            "shared": _BICUBIC,
            "streams": streams,
        }
    )


def make_dataset(
    output: Path, inputs: Sequence[Path], recipe: Recipe, held_out: Sequence[str] = ()
) -> Path:
    """Synthesise a dataset, or go on with it; quick where it is finished.

    Args:
        output: its folder.
        inputs: files and folders.
        recipe: what is made of them.
        held_out: patterns of sources for validation; all others are for training.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    file, sources = (output.with_suffix(suffix) for suffix in (".yaml", ".csv"))
    file.write_text(recipe.model_dump_json(exclude_none=True))  # JSON is YAML
    rows = ["pattern,split", *(f"{pattern},validation" for pattern in held_out), "*,train"]
    sources.write_text("\n".join(rows) + "\n")
    sys.stderr.write(f"{output.name}: made, or found finished\n")
    arguments = [part for path in inputs for part in ("--input", str(path))]
    run_quietly(
        synthesize,
        [*arguments, f"--output={output}", f"--recipe={file}", f"--sources={sources}"],
    )
    return output


def stream_view(dataset: Path, stream: str) -> Path:
    """A view of a dataset: one of its LR streams alone."""
    path = dataset.with_name(f"{dataset.name}-{stream}.parquet")
    chosen = f"SELECT key, stream FROM streams WHERE name = '{stream}'"
    run_quietly(write_view, [str(dataset), "--output", str(path), "--sql", chosen])
    return path
