"""Small datasets, made by the whole command in a second or two each."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from pipelines.layout import Layout
from pipelines.synthesize.__main__ import main
from schemas.record import Status
from schemas.sample import SampleRow, StreamRow
from schemas.tables import R, read_table
from tests.pictures import moving_clip, texture
from tests.synthetic import write_video

RECIPE = """
name = "small"
validation_fraction = 0
variants = 1
num_draws = 0
[hr]
patch_height = 64
patch_width = 64
pre_downscale = 1
[clips]
frames = 6
[pseudo_video]
frames = 4
patches_per_image = 2
packing = "patches"
[[shared]]
op = "blur"
sigma = { min = 0.2, max = 2 }
[[shared]]
op = "downscale"
kernels = ["bd"]
[[streams]]
name = "noisy"
[[streams.stages]]
op = "noise"
sigma = { min = 1, max = 9 }
kinds = { gaussian = 1 }
[[streams]]
name = "coded"
[[streams.stages]]
op = "codec"
[[streams.stages.encoders]]
codec = "h264"
crf = { min = 18, max = 38 }
presets = { veryfast = 1 }
"""


def changed(*replacements: tuple[str, str]) -> str:
    """The recipe with some of its lines changed."""
    recipe = RECIPE
    for old, new in replacements:
        assert old in recipe
        recipe = recipe.replace(old, new)
    return recipe


def make_corpus(folder: Path, *, seed: int = 0) -> Path:
    """Two videos of 6 and 12 frames and two photographs, in a folder that is made."""
    folder.mkdir(parents=True)
    write_video(folder / "kurz ü.mp4", moving_clip(6, 72, 80, seed=seed + 1))
    write_video(folder / "long.mp4", moving_clip(12, 72, 80, seed=seed + 2))
    for name in ("a", "b"):
        Image.fromarray(texture(140, 72, seed + ord(name))).save(folder / f"photo-{name}.png")
    return folder


def command_for(folder: Path, recipe: str = RECIPE) -> list[str]:
    """Arguments of the command, but for the output, with inputs and recipe in a folder."""
    corpus, file = make_corpus(folder / "korpus ü"), folder / "recipe.toml"
    file.write_text(recipe)
    return ["--runner=DirectRunner", f"--input={corpus}", f"--recipe={file}", "--workers=1"]


def synthesize(corpus: Path, output: Path, recipe: str = RECIPE, *others: str) -> Path:
    """Make a dataset and return its folder."""
    file = output.with_suffix(".toml")
    file.write_text(recipe)
    arguments = ["--runner=DirectRunner", f"--input={corpus}", f"--recipe={file}"]
    assert main([*arguments, f"--output={output}", "--workers=1", *others]) == 0
    return output


def rows(dataset: Path, table: str, record: type[R]) -> Iterator[R]:
    """All rows of a table of shards."""
    for file in sorted(Layout(dataset).table(table, "any").parent.glob("*.parquet")):
        yield from read_table(str(file), record)


def samples(dataset: Path) -> list[SampleRow]:
    """The samples that were made."""
    found = list(rows(dataset, "samples", SampleRow))
    assert all(row.status is Status.OK for row in found)
    return found


def streams(dataset: Path) -> dict[tuple[str, str], StreamRow]:
    """(key, name) -> stream."""
    return {(row.key, row.name): row for row in rows(dataset, "streams", StreamRow)}
