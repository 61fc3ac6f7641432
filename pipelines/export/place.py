"""The output folder: whose export lies there, and whether this one may go on with it."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.errors import UserError, reason_of
from pipelines.export.sample import write_whole
from pipelines.export.tree import EXPORT_NAME, Settings
from schemas.store import Place

_DIFFERENCES = {
    "manifest_sha256": "another dataset, or the dataset was made again",
    "layout": "another --layout",
    "split": "another --split",
    "folders": "other streams",
    "mv_units": "other --mv-units",
    "window": "another --window",
}


def claim(output: Path, dataset: Place, settings: Settings) -> None:
    """Make the output folder ours.

    Raises:
        UserError: if something else lies there, or it cannot be written.
    """
    if isinstance(dataset, Path):
        _check_apart(output.resolve(), dataset.resolve())
    try:
        marker = output / EXPORT_NAME
        if marker.is_file():
            _check_same(_settings_of(marker), settings, output)
        elif output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UserError(
                f"--output {output} is not empty, and no export of this command: choose another"
            )
        write_marker(output, settings, None)
    except OSError as error:
        raise UserError(f"cannot write to --output {output}: {reason_of(error)}") from error


def _check_apart(output: Path, dataset: Path) -> None:
    if output.is_relative_to(dataset):
        raise UserError(f"--output {output} lies in the dataset: choose a folder outside")
    if dataset.is_relative_to(output):
        raise UserError(f"the dataset lies in --output {output}: choose another folder")


def discard(output: Path) -> None:
    """Give up a place where nothing was written."""
    (output / EXPORT_NAME).unlink()
    output.rmdir()


def write_marker(output: Path, settings: Settings, result: dict[str, Any] | None) -> None:
    """Write `export.json`.

    Args:
        output: the folder.
        settings: what the export consists of.
        result: what came of it; None while it is going on.
    """
    fields = {"settings": settings.model_dump(mode="json"), "result": result}
    data = json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False)
    write_whole(output / EXPORT_NAME, f"{data}\n".encode())


def _settings_of(marker: Path) -> Settings:
    try:
        return Settings.model_validate(json.loads(marker.read_bytes())["settings"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(
            f"{marker} is not readable: choose another --output, or delete the folder"
        ) from error


def _check_same(found: Settings, wanted: Settings, output: Path) -> None:
    differing = [
        text
        for field, text in _DIFFERENCES.items()
        if getattr(found, field) != getattr(wanted, field)
    ]
    if differing:
        raise UserError(
            f"--output {output} holds an export of {' and '.join(differing)}: "
            "choose another --output, or delete the folder"
        )
