"""What every worker of a run is told: recipe, seed, place, libraries and code that must match."""

import functools
import importlib.metadata
from pathlib import Path

import av
from PIL import features
from pydantic import Field

from pipelines.errors import UserError
from pipelines.layout import Layout
from schemas.draw import Codec
from schemas.manifest import Environment, sha256_json
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.record import SCHEMA_VERSION, Record
from schemas.stages import StillStage
from schemas.store import place
from transforms.settings import encoder_build

# What decides bytes: codecs, resampling, blur, noise, WebP, Parquet.
_LIBRARIES = ("av", "numpy", "opencv-python-headless", "pillow", "pyarrow", "scipy")


@functools.cache
def code_sha256() -> str:
    """Of the code that decides bytes, so that no dataset is made by two versions of it."""
    packages = Path(__file__).parents[1]
    files = [*packages.glob("schemas/*.py"), *packages.glob("transforms/*.py")]
    files += [*packages.glob("pipelines/*.py"), *packages.glob("pipelines/documents/*.py")]
    texts = {f"{file.parent.name}/{file.name}": file.read_text("utf-8") for file in files}
    return sha256_json(texts)


class Job(Record):
    """A run, as every worker needs to know it."""

    output: str
    """the dataset's folder: an absolute path or a URL"""
    recipe: Recipe
    """the recipe"""
    seed: int
    """the dataset's seed"""
    num_workers: int
    """worker processes per machine"""
    environment: Environment
    """what the run was planned with"""
    generation: int = 0
    """the one that the run's inputs are of"""
    code_sha256: str = Field(default_factory=code_sha256)
    """of the code that submits the run"""

    @property
    def layout(self) -> Layout:
        """Where everything lies."""
        return Layout(place(self.output))

    def plan_sha256(self, rows: list[PlannedSample]) -> str:
        """Identifies everything that decides the bytes of a shard with these rows."""
        return sha256_json(
            {
                "schema_version": SCHEMA_VERSION,
                "recipe": self.recipe.model_dump(mode="json"),
                "seed": self.seed,
                "environment": self.environment.model_dump(mode="json"),
                "rows": [row.model_dump(mode="json") for row in rows],
            }
        )


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide bytes."""
    packages = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    ffmpeg = {
        name: ".".join(map(str, version))
        for name, version in av.library_versions.items()
        if name in ("libavcodec", "libavfilter", "libavformat", "libswscale")
    }
    return {**packages, **ffmpeg}


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that this machine's libraries cannot carry out.

    Raises:
        UserError: if they lack a still codec.
    """
    stills = {stage.codec for stage in recipe.stages if isinstance(stage, StillStage)}
    if "avif" in stills and not features.check("avif"):
        raise UserError(
            f"recipe {recipe.name!r} uses AVIF, which this build of Pillow lacks: install the "
            "wheel from PyPI (pip install --force-reinstall pillow), or take the stage out"
        )


def describe_environment(recipe: Recipe) -> Environment:
    """The libraries, and the builds of the encoders that a recipe may use.

    Encodes, so call it in a worker process.
    """
    # Lossless streams are H.264 too.
    codecs: set[Codec] = {"h264", *(encoder.codec for encoder in recipe.encoders)}
    builds: dict[str, str] = {codec: encoder_build(codec) for codec in sorted(codecs)}
    return Environment(libraries=library_versions(), encoders=builds)


def check_libraries(job: Job) -> None:
    """Refuse to work with other libraries or other code than the run was planned with.

    Raises:
        RuntimeError: if a version differs.
    """
    if job.code_sha256 != code_sha256():
        raise RuntimeError(
            f"this worker's code, in {Path(__file__).parents[1]}, is of another version than that "
            "of the command; install the same everywhere, and start the workers again"
        )
    here, planned = library_versions(), job.environment.libraries
    differing = {
        name: (planned.get(name), here[name]) for name in here if here[name] != planned.get(name)
    }
    if differing:
        raise RuntimeError(
            f"this worker's libraries (planned, found): {differing}; they decide bytes, so every "
            "worker needs the versions of constraints.txt"
        )
