"""What a run ran on: for the logs, so that differing bytes can be explained later.

What decides bytes is in the manifest (`Manifest.environment`); this record is neither hashed nor
listed there. It names no user, no path and no environment variable.
"""

import functools
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av._core
import cv2
import numpy as np

from pipelines.job import Job
from pipelines.layout import publish_bytes
from pipelines.pool import available_cores
from schemas.manifest import sha256_json
from schemas.record import SCHEMA_VERSION

_PROJECT = "vcsr"
_NAME_DIGITS = 12  # hexadecimal; a run has few hosts
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)")
_CONFIGURED = re.compile(r"(?:'[^']*'|[^\s'])+")
"""An option of FFmpeg's configuration; values with blanks are quoted."""
_CODE = ("schemas", "transforms", "pipelines")
"""Packages whose code decides bytes."""


def log_environment(job: Job) -> str:
    """Store what this host is, unless it is stored already.

    Hosts that are alike share a record, so that those of a run do not overwrite each other's.

    Returns:
        The name of the record, which follows from its content.
    """
    record = describe_host(job)
    name = sha256_json(record)[:_NAME_DIGITS]
    target = job.layout.environment(name)
    if not target.is_file():
        data = json.dumps(record, indent=1, ensure_ascii=False).encode()
        publish_bytes(data, target, job.layout)
    return name


def describe_host(job: Job) -> dict[str, Any]:
    """What a run is made from, with what, and on what machine; JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "recipe": {"name": job.recipe.name, "sha256": job.recipe.sha256},
        "seed": job.seed,
        "num_workers": job.num_workers,
        "threads_per_worker": 1,  # pinned in transforms.codec and pipelines.pool: they decide bytes
        "encoders": job.environment.encoders,
        **_software(),
        **_machine(),
    }


@functools.cache
def _software() -> dict[str, Any]:
    return {
        "commit": _commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": dict(sorted(_installed(_PROJECT))),
        "ffmpeg": {
            "version": av.ffmpeg_version_info,
            "libraries": {
                name: ".".join(map(str, version))
                for name, version in sorted(av.library_versions.items())
            },
            # PyAV tells the configuration nowhere else.
            "configuration": sorted(
                {_without_paths(lib["configuration"]) for lib in av._core.library_meta.values()}
            ),
            "licence": sorted({lib["license"] for lib in av._core.library_meta.values()}),
        },
    }


def _without_paths(configuration: str) -> str:
    """Options without values that hold a path: it may name who built it."""
    options = (match.group() for match in _CONFIGURED.finditer(configuration))
    kept = (o if not re.search(r"[/\\]", o) else o.partition("=")[0] for o in options)
    return " ".join(option for option in kept if not re.search(r"[/\\]", option))


@functools.cache
def _machine() -> dict[str, Any]:
    # NumPy says which of its code paths this CPU takes only here.
    simd: Any = np.show_config(mode="dicts")
    return {
        "cpu": {
            "model": _cpu_info("model name") or platform.processor(),
            "features": sorted((_cpu_info("flags") or _cpu_info("Features")).split()),
            "opencv": cv2.getCPUFeaturesLine(),
            "numpy": simd.get("SIMD Extensions", {}).get("found", []),
            "cores": available_cores(),
        },
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip(),
    }


def _cpu_info(field: str) -> str:
    """Of the first processor, where the system tells (Linux)."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    values = (
        line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field
    )
    return next(values, "")


def _installed(package: str) -> Iterator[tuple[str, str]]:
    """(name, version) of a package and of whatever it needs, as far as that is installed."""
    waiting, seen = [package], set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that nobody asked for, or of another system
        yield name, found.version
        requirements = map(_REQUIREMENT.match, found.requires or [])
        waiting += [match["name"] for match in requirements if match]


def _commit() -> str:
    """Of the checkout that this code lies in, marked -dirty if the code in it is changed; empty
    where there is none.

    A package that is installed below somebody else's checkout is no part of it.
    """
    if not _git("ls-files", "--error-unmatch", "--", f"{_CODE[-1]}/__init__.py"):
        return ""
    commit = _git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git("status", "--porcelain", "--", *_CODE) else commit


def _git(*command: str) -> str:
    """What git says of the checkout around this code; empty if it cannot be asked."""
    git = shutil.which("git")
    if git is None:
        return ""
    # A checkout that GIT_DIR names may be another one; and looking must not write its index.
    others = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    told = subprocess.run(
        [git, *command],
        cwd=Path(__file__).parents[1],
        env={**others, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() if not told.returncode else ""
