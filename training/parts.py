"""Which view and ratio belong to which of the datasets that are asked for."""

from collections.abc import Sequence
from pathlib import Path

from schemas.manifest import read_manifest
from schemas.store import Place
from schemas.view import ViewError, read_view
from schemas.wording import counted
from training.batches import Part
from training.config import UserError


def match_parts(
    datasets: Sequence[Place], views: Sequence[Path], ratios: Sequence[int]
) -> list[Part]:
    """What to train on. A view tells itself which dataset it is of.

    Args:
        datasets: one or more.
        views: of some of them, in any order.
        ratios: one for each dataset, in their order; or none, which is 1 for all.

    Raises:
        DatasetError: if a dataset is not there.
        UserError: if numbers do not fit, a view is of none of the datasets, or two are of one.
    """
    if ratios and len(ratios) != len(datasets):
        raise UserError(
            f"--ratio has {counted(len(ratios), 'number')} for "
            f"{counted(len(datasets), 'dataset')}: give one for each, in their order"
        )
    hashes = [read_manifest(dataset).sha256 for dataset in datasets]
    view_of = dict[str, Path]()
    for view in views:
        manifest_sha256 = _dataset_of(view)
        if manifest_sha256 not in hashes:
            raise UserError(
                f"--view {view} is of another dataset (manifest {manifest_sha256[:12]}, here "
                f"{', '.join(each[:12] for each in hashes)}): write one of this dataset with "
                "pipelines.view"
            )
        if (other := view_of.setdefault(manifest_sha256, view)) is not view:
            raise UserError(
                f"--view {other} and {view} are of one dataset: write one view of both, with "
                "pipelines.view"
            )
    return [
        Part(dataset, view_of.get(manifest_sha256), ratio)
        for dataset, manifest_sha256, ratio in zip(
            datasets, hashes, ratios or [1] * len(datasets), strict=True
        )
    ]


def _dataset_of(view: Path) -> str:
    try:
        return read_view(view).about.manifest_sha256
    except ViewError as error:
        raise UserError(f"--view {error}: write it again with pipelines.view") from error
