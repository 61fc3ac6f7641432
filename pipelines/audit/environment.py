"""What a dataset was made with, and what is different here."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from pipelines.layout import Layout
from schemas.manifest import Environment
from schemas.store import Place

_HOST_PARTS = ("commit", "python", "packages", "ffmpeg", "cpu", "architecture", "libc")
_FEWER = ("cpu.cores", "packages.vcsr")  # told by hosts, and decide no bytes
_LOG = TypeAdapter(dict[str, Any])
_NAME = re.compile(r"[0-9a-f]+")
_FFMPEG = ("libavcodec", "libavfilter", "libavformat", "libswscale")


class Difference(NamedTuple):
    """A library or an encoder that is another here."""

    name: str
    made_with: str
    here: str
    cure: str
    """the command that installs what the dataset was made with"""

    def __str__(self) -> str:
        return f"{self.name}: made with {self.made_with or 'none'}, here {self.here or 'none'}"


def differences(made_with: Environment, here: Environment) -> list[Difference]:
    """Libraries, then encoders, that are others here."""
    cures = {
        name: "" if name in _FFMPEG else f"pip install {name}=={version}"
        for name, version in made_with.libraries.items()
    }
    av = made_with.libraries.get("av", "")
    # FFmpeg and the encoders come inside PyAV's wheel; the same version may be another build.
    same_av = av == here.libraries.get("av")
    of_av = f"pip install {'--force-reinstall --only-binary av ' if same_av else ''}av=={av}"
    libraries = _differing(made_with.libraries, here.libraries)
    encoders = _differing(made_with.encoders, here.encoders)
    return [
        *(Difference(name, *both, cures.get(name) or of_av) for name, both in libraries.items()),
        *(Difference(name, *both, of_av) for name, both in encoders.items()),
    ]


def _differing(made_with: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = sorted(made_with.keys() | here.keys())
    both = {name: (made_with.get(name, ""), here.get(name, "")) for name in names}
    return {name: (made, found) for name, (made, found) in both.items() if made != found}


class Host(NamedTuple):
    """What made a shard, as far as the logs tell."""

    facts: Mapping[str, Any]
    """as `pipelines.environment` described it; empty where no log tells"""
    unreadable: str
    """the log that is damaged, and how; empty where none is"""


def host_of(layout: Layout, shard: str) -> Host:
    """What made a shard. Logs may be missing or damaged: they are not published, nor hashed."""
    file = layout.shard_log(shard)
    try:
        name = _read_log(file).get("environment")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return Host({}, "")
        file = layout.environment(name)
        return Host(_read_log(file), "")
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())
        return Host({}, f"{layout.relative(file)} is damaged ({told})")


def host_differences(made_on: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What of a host may decide bytes, and is different here, a line each."""
    if not made_on:
        return []
    return [
        f"{name}: made with {' '.join(sorted(made)) or 'none'}, "
        f"here {' '.join(sorted(found)) or 'none'}"
        for part in _HOST_PARTS
        for name, made, found in _leaves(part, made_on.get(part), here.get(part))
        if name not in _FEWER
    ]


def _leaves(name: str, made: Any, here: Any) -> Iterator[tuple[str, set[str], set[str]]]:
    """(name, values there alone, values here alone) of whatever differs."""
    if made == here:
        return
    if isinstance(made, dict) and isinstance(here, dict):
        for key in sorted(made.keys() | here.keys()):
            yield from _leaves(f"{name}.{key}", made.get(key), here.get(key))
    elif isinstance(made, list) and isinstance(here, list):
        both = set(map(str, made)), set(map(str, here))
        yield name, both[0] - both[1], both[1] - both[0]
    else:
        yield name, {str(made)} if made else set(), {str(here)} if here else set()


def _read_log(file: Place) -> dict[str, Any]:
    # pydantic's parser has a limit of its own to how deep values may be nested.
    return _LOG.validate_json(file.read_bytes()) if file.is_file() else {}
