"""All randomness: from (dataset seed, source, clip, stream) to a complete draw.

Nothing here touches pixels. Generators come from content, never from process, worker, time or
order, so that a sample has the same draw on every runner and every retry.
"""

from collections.abc import Mapping

from schemas.draw import Origin, SceneDraw, StreamDraw, View
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.sample import SampleKind
from transforms.camera import bounds, draw_views
from transforms.draw_stages import ChainDrawer
from transforms.seeding import generator


def hr_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """Size of a source after the recipe's pre-downscale, pixels."""
    factor = recipe.hr.pre_downscale
    return round(height / factor), round(width / factor)


def patch_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """Size of the HR patch in a picture of (height, width) pixels; 0 where none fits."""
    unit = 2 * recipe.scale
    patch = (
        recipe.hr.patch_height or height // unit * unit,
        recipe.hr.patch_width or width // unit * unit,
    )
    return patch if patch[0] <= height and patch[1] <= width else (0, 0)


def patch_grid(
    recipe: Recipe, seed: int, source_id: str, height: int, width: int, start: int = 0
) -> list[tuple[int, int]]:
    """Non-overlapping HR patches of a picture: a grid at a random offset (VCISR).

    Args:
        recipe: gives the patch size.
        seed: the dataset's seed.
        source_id: the source.
        height: rows of the picture after pre-downscale.
        width: columns of it.
        start: first frame of the clip; every clip has an offset of its own.

    Returns:
        (top, left) of each cell, row by row; empty where no patch fits.
    """
    patch_height, patch_width = patch_size(recipe, height, width)
    if not patch_height or not patch_width:
        return []
    rng = generator("grid", seed, source_id, start)
    top = int(rng.integers(height % patch_height + 1))
    left = int(rng.integers(width % patch_width + 1))
    return [
        (top + row * patch_height, left + column * patch_width)
        for row in range(height // patch_height)
        for column in range(width // patch_width)
    ]


def draw_scene(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> SceneDraw:
    """Draw what all streams of a sample share.

    Args:
        recipe: the ranges.
        seed: the dataset's seed.
        planned: the sample.
        sizes: (height, width) of each of its sources, after pre-downscale.
    """
    height, width = patch_size(recipe, *sizes[planned.spans[0].source_id])
    origins, views = _origins(recipe, seed, planned, sizes)
    rng = generator("scene", *_identity(recipe, seed, planned))
    chain = _drawer(recipe, planned.kind, len(origins), (height, width))
    stages = chain.draw(recipe.shared, rng)
    return SceneDraw(
        pre_downscale=recipe.hr.pre_downscale,
        sharpen=recipe.hr.sharpen,
        height=height,
        width=width,
        origins=origins,
        views=views,
        stages=stages,
    )


def _identity(recipe: Recipe, seed: int, planned: PlannedSample) -> tuple[int | str, ...]:
    """What the sample's degradations are seeded by: its own place, or one that it shares."""
    is_pack = planned.kind is SampleKind.PSEUDO_VIDEO
    place = planned.group if is_pack else planned.spans[0].source_id  # a pack is its own group
    if not recipe.num_draws:
        return seed, place, planned.clip, planned.variant
    # Dealt by clip, so that variants of one clip get draws that differ.
    first = int(generator("deal", seed, place, planned.clip).integers(recipe.num_draws))
    return seed, "shared", (first + planned.variant) % recipe.num_draws


def _origins(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> tuple[list[Origin], list[View]]:
    """Where each frame is cut out, and, of a camera clip, how."""
    match planned.kind:
        case SampleKind.PSEUDO_VIDEO:
            return _pack_origins(recipe, seed, planned, sizes), []
        case SampleKind.CLIP:
            return _clip_origins(recipe, seed, planned, sizes), []
        case SampleKind.CAMERA:
            return _camera_origins(recipe, seed, planned, sizes)


def _pack_origins(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> list[Origin]:
    return [
        Origin(source_id=span.source_id, frame=0, top=top, left=left)
        for span in planned.spans
        for top, left in patch_grid(recipe, seed, span.source_id, *sizes[span.source_id])[
            span.start : span.start + span.count
        ]
    ]


def _clip_origins(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> list[Origin]:
    span = planned.spans[0]
    cells = patch_grid(recipe, seed, span.source_id, *sizes[span.source_id], start=span.start)
    order = generator("cells", seed, span.source_id, span.start).permutation(len(cells))
    top, left = cells[order[planned.patch]]
    return [
        Origin(source_id=span.source_id, frame=frame, top=top, left=left)
        for frame in range(span.start, span.start + span.count)
    ]


def _camera_origins(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> tuple[list[Origin], list[View]]:
    span = planned.spans[0]
    size = sizes[span.source_id]
    patch = patch_size(recipe, *size)
    views = draw_views(
        recipe.pseudo_video.camera,
        generator("camera", seed, span.source_id, planned.clip),
        size,
        patch,
        span.count,
        patch_grid(recipe, seed, span.source_id, *size)[planned.patch],
    )
    rectangles = [bounds([view], *patch) for view in views]
    return [
        Origin(source_id=span.source_id, frame=0, top=rectangle.top, left=rectangle.left)
        for rectangle in rectangles
    ], views


def draw_stream(
    recipe: Recipe, seed: int, planned: PlannedSample, scene: SceneDraw, stream: int
) -> StreamDraw:
    """Draw what stream number `stream` adds to the scene."""
    rng = generator("stream", *_identity(recipe, seed, planned), stream)
    size = (scene.height, scene.width)
    chain = _drawer(recipe, planned.kind, len(scene.origins), size)
    chain.follow(scene.stages)
    return StreamDraw(stages=chain.draw(recipe.streams[stream].stages, rng))


def _drawer(
    recipe: Recipe, kind: SampleKind, num_frames: int, size: tuple[int, int]
) -> ChainDrawer:
    is_pack = kind is SampleKind.PSEUDO_VIDEO
    return ChainDrawer(
        size,
        recipe.scale,
        num_frames,
        independent=is_pack,
        intra=is_pack and recipe.pseudo_video.packing == "intra",
    )
