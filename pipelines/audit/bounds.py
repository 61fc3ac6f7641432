"""Whether what the tables and the draws ask for can be, told before anything is read or made of it.

A dataset may come from anywhere: its numbers say how much memory to take, and where to cut.
"""

from collections.abc import Iterable, Mapping, Sequence

from schemas.draw import (
    BlurDraw,
    CodecDraw,
    CropDraw,
    PadDraw,
    ResizeDraw,
    RetimeDraw,
    SceneDraw,
    StageDraw,
    StreamDraw,
)
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.sample import Sample, SampleKind
from schemas.source import Source, SourceKind
from transforms.draw import hr_size, patch_size
from transforms.pictures import MAX_PIXELS

_MOST_GROWTH = 256  # of a picture's area on its way: far more than any recipe enlarges


def plan_problem(planned: PlannedSample, sources: Mapping[str, Source], recipe: Recipe) -> str:
    """What of a planned sample cannot be; empty if all can.

    Args:
        planned: its row of the plan.
        sources: by id.
        recipe: the dataset's.
    """
    is_pack = planned.kind is SampleKind.PSEUDO_VIDEO
    if not planned.spans or (len(planned.spans) > 1 and not is_pack):
        return f"{len(planned.spans)} spans are no {planned.kind}"
    for span in planned.spans:
        source = sources.get(span.source_id)
        if source is None:
            return f"index/sources.parquet lacks the source {span.source_id}"
        if told := _source_problem(source) or _span_problem(planned, span, source, recipe):
            return told
    num_frames = num_planned_frames(planned)
    most = (
        2 * recipe.clips.frames if planned.kind is SampleKind.CLIP else recipe.pseudo_video.frames
    )
    return f"{num_frames} frames, the recipe has {most} at most" if num_frames > most else ""


def num_planned_frames(planned: PlannedSample) -> int:
    """T, frames of the sample."""
    return sum(span.count for span in planned.spans)


def _source_problem(source: Source) -> str:
    sides = (source.height, source.width)
    if min(*sides, source.num_frames) < 1 or sides[0] * sides[1] > MAX_PIXELS:
        return (
            f"the source {source.source_id} has {source.num_frames} frames of {source.width}x"
            f"{source.height} pixels, which cannot be (at most {MAX_PIXELS} pixels)"
        )
    return ""


def _span_problem(planned: PlannedSample, span: Span, source: Source, recipe: Recipe) -> str:
    is_clip = planned.kind is SampleKind.CLIP
    if is_clip == (source.kind is SourceKind.IMAGE):
        return f"the source {source.source_id} is {source.kind}, of which no {planned.kind} is made"
    picture = hr_size(recipe, source.height, source.width)
    patch = patch_size(recipe, *picture)
    num_cells = (picture[0] // patch[0]) * (picture[1] // patch[1]) if min(patch) else 0
    is_pack = planned.kind is SampleKind.PSEUDO_VIDEO
    if not num_cells or not (is_pack or 0 <= planned.patch < num_cells):
        return f"the source {source.source_id} has no patch {planned.patch}"
    there = {SampleKind.CLIP: source.num_frames, SampleKind.PSEUDO_VIDEO: num_cells}
    end = there.get(planned.kind, span.count)
    if span.start < 0 or span.count < 1 or span.start + span.count > end:
        return (
            f"{span.count} from {span.start} on lie beyond the {end} of the source "
            f"{source.source_id}"
        )
    return ""


def draw_problem(
    planned: PlannedSample,
    sources: Mapping[str, Source],
    recipe: Recipe,
    scene: SceneDraw,
    draws: Sequence[StreamDraw],
) -> str:
    """What of a stored draw cannot be; empty if all can.

    Args:
        planned: the sample's row of the plan, which can be.
        sources: by id.
        recipe: the dataset's.
        scene: the draw that all streams share.
        draws: that of each stream.
    """
    first = sources[planned.spans[0].source_id]
    num_frames = num_planned_frames(planned)
    is_camera = planned.kind is SampleKind.CAMERA
    claims = {
        "streams": len(draws),
        "size": (scene.height, scene.width),
        "pre_downscale": scene.pre_downscale,
        "sharpen": scene.sharpen,
        "origins": len(scene.origins),
        "views": len(scene.views),
    }
    planned_says = {
        "streams": len(recipe.streams),
        "size": patch_size(recipe, *hr_size(recipe, first.height, first.width)),
        "pre_downscale": recipe.hr.pre_downscale,
        "sharpen": recipe.hr.sharpen,
        "origins": num_frames,
        "views": num_frames if is_camera else 0,
    }
    for name, wanted in planned_says.items():
        if claims[name] != wanted:
            return f"{name}: drawn was {claims[name]}, plan and recipe say {wanted}"
    chains = ([*scene.stages, *draw.stages] for draw in draws)
    of_stages = (stage_problem(chain, num_frames, scene) for chain in chains)
    return _origin_problem(planned, sources, recipe, scene) or next(filter(None, of_stages), "")


def _origin_problem(
    planned: PlannedSample, sources: Mapping[str, Source], recipe: Recipe, scene: SceneDraw
) -> str:
    spans = {span.source_id: span for span in planned.spans}
    for origin in scene.origins:
        span = spans.get(origin.source_id)
        if span is None:
            return f"origins: {origin.source_id} is no source of the sample"
        is_clip = planned.kind is SampleKind.CLIP
        frames = range(span.start, span.start + span.count) if is_clip else range(1)
        source = sources[origin.source_id]
        height, width = hr_size(recipe, source.height, source.width)
        # A camera's rectangles are for information: its views decide.
        is_inside = bool(scene.views) or (
            0 <= origin.top <= height - scene.height and 0 <= origin.left <= width - scene.width
        )
        if origin.frame not in frames or not is_inside:
            return (
                f"origins: frame {origin.frame} at row {origin.top}, column {origin.left} lies "
                f"beyond the source {origin.source_id}"
            )
    return ""


def stage_problem(stages: Iterable[StageDraw], num_frames: int, scene: SceneDraw) -> str:
    """What of some stages would take memory that no recipe takes; empty if nothing does.

    Args:
        stages: as drawn, in order.
        num_frames: T, frames before the first.
        scene: for the size of HR.
    """
    most = _MOST_GROWTH * scene.height * scene.width
    most_frames, count = num_frames, num_frames
    for stage in stages:
        match stage:
            case ResizeDraw():
                sizes = [
                    (pick(stage.height, default=0), pick(stage.width, default=0))
                    for pick in (min, max)
                ]
            case PadDraw() | CropDraw() | CodecDraw():
                sizes = [(stage.height, stage.width)]
            case BlurDraw():
                sizes = [(stage.size, stage.size)]
            case RetimeDraw():
                if len(stage.frames) > most_frames or set(stage.frames) - set(range(count)):
                    return f"retime: {len(stage.frames)} frames of {count}, HR has {most_frames}"
                count = len(stage.frames)
                continue
            case _:
                continue
        for height, width in sizes:
            if min(height, width) < 1 or height * width > most:
                return f"{stage.op}: {height}x{width} pixels, HR has {scene.height}x{scene.width}"
    return ""


def record_problem(sample: Sample, scene: SceneDraw) -> str:
    """What of a record would take other memory than its draw; empty if nothing does."""
    found = (sample.num_frames, sample.hr_height, sample.hr_width)
    drawn = (len(scene.origins), scene.height, scene.width)
    if found != drawn:
        return f"HR of {found} frames, rows and columns, drawn were {drawn}"
    for stream in sample.streams:
        if len(stream.frames) != sample.num_frames:
            return f"stream {stream.stream} has {len(stream.frames)} frames, HR {drawn[0]}"
        if told := stage_problem(stream.post_steps, sample.num_frames, scene):
            return f"stream {stream.stream}: {told}"
    return ""
