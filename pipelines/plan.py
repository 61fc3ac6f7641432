"""Planning: from probed sources to samples in shards. A pure function of small rows.

Order, packs and shards follow from hashes of content, so that they depend neither on the order
in which sources were found nor on who probed them. Sources that are added later make a generation
of their own, behind what was planned before, of which nothing changes.

There may be millions of sources, and of samples. So sources are small objects (`pipelines.found`),
and samples are rows only while they are written: what is held and sorted are takes, each of which
says in a few words what samples come of it.
"""

import hashlib
import itertools
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, Protocol

import pyarrow as pa

from pipelines.corpus import SourceRule
from pipelines.errors import UserError
from pipelines.found import Found, Part, SourceTable
from pipelines.groups import assign_groups, told
from pipelines.licences import ANY_LICENCE, LicencePolicy, licence_slugs
from schemas.manifest import sha256_json
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.record import Status
from schemas.sample import SampleKind
from schemas.source import TRAIN, VALIDATION, Source
from schemas.tables import arrow_schema
from schemas.wording import counted
from transforms.draw import hr_size, patch_size

_KEY_DIGITS = 20  # hexadecimal; 12 would collide in large datasets
_HR_BYTES_PER_PIXEL = 1.0  # lossless WebP of photographs and video, measured: 0.3 to 1.1
_JPEG_BYTES_PER_PIXEL = 0.5  # qualities of 90 to 98, measured: 0.25 to 0.6
_LR_BYTES_PER_PIXEL = 0.5  # streams and their vectors
_GROUP_ROWS = 65_536  # of the table of sources


class Portion(NamedTuple):
    """So many planned samples of a shard, of one kind and one licence."""

    generation: int
    shard: str
    split: str
    kind: str
    licence: str
    num_samples: int
    estimated_bytes: int


class Committed(NamedTuple):
    """What is planned, as far as it has to be known."""

    sources: pa.Table
    """rows of `Source`: every source, those left out included, by generation and id"""
    portions: list[Portion]
    """of all samples, in the order of their shards"""

    @property
    def num_samples(self) -> int:
        """How many samples."""
        return sum(portion.num_samples for portion in self.portions)

    @property
    def shards(self) -> list[str]:
        """The names of the shards, in order."""
        return list(dict.fromkeys(portion.shard for portion in self.portions))

    @property
    def num_generations(self) -> int:
        """How many times sources were given."""
        return self.portions[-1].generation + 1 if self.portions else 0


NOTHING = Committed(arrow_schema(Source).empty_table(), [])


class _Unit(Protocol):
    """What a worker decodes once, and makes samples of that stay together."""

    @property
    def order(self) -> bytes:
        """A hash that decides its place."""

    @property
    def source(self) -> Found:
        """The first source; in size, split and licence the others are like it."""

    @abstractmethod
    def clips(self, recipe: Recipe) -> Iterator[PlannedSample]:
        """A sample of each HR clip."""


@dataclass(frozen=True)
class Plan:
    """What will be made, with one more generation than before."""

    _table: SourceTable
    _sources: Sequence[Found]
    _units: Mapping[str, Sequence[_Unit]]
    """those of each series of shards, in order"""
    _recipe: Recipe
    before: Committed
    """what was planned already"""

    def sources(self) -> Iterator[pa.Table]:
        """The table of sources, in parts: all sources, by generation and id."""
        for start in range(0, len(self._sources), _GROUP_ROWS):
            yield self._table.rows(self._sources[start : start + _GROUP_ROWS])

    def shards(self) -> Iterator[list[PlannedSample]]:
        """The samples of each shard that is new, made anew with each call."""
        num_before = Counter(map(_series_of, self.before.shards))
        for series, units in self._units.items():
            samples = (sample for unit in units for sample in _samples(unit, self._recipe))
            filled = _fill_shards(samples, self._recipe.shard_mib * 2**20)
            for number, rows in enumerate(filled, start=num_before[series]):
                place = {
                    "shard": f"{series}-{number:06d}",
                    "generation": self.before.num_generations,
                }
                yield [row.model_copy(update=place) for row in rows]


def make_plan(
    probed: Iterable[pa.Table],
    rules: Sequence[SourceRule],
    recipe: Recipe,
    seed: int,
    policy: LicencePolicy = ANY_LICENCE,
    before: Committed = NOTHING,
) -> Plan:
    """Plan a dataset, or its next generation.

    Args:
        probed: tables of `Probed`: every source found, in any order; equal content may come
            several times.
        rules: the user's source list; it is about sources that are new.
        recipe: the recipe.
        seed: the dataset's seed.
        policy: which licences it may hold; groups and splits do not depend on it.
        before: what was planned already. Its samples come first and stay as they are; so do its
            sources, but for those that could not be read then and were probed again.

    Raises:
        UserError: if nothing can be made, a split that the recipe wants stays empty, or what is
            new would join sources of both splits.
    """
    table = SourceTable()
    earlier = list(table.add(before.sources))
    merged = _merge_equal_content(found for batch in probed for found in table.add_probed(batch))
    kept = _kept(earlier, merged)
    known = {source.identity for source in kept}
    fresh = [source for source in merged if source.identity not in known]
    again = (source for source in merged if source.identity in known and source.is_usable)
    _check_rules([*kept, *merged], rules)
    assign_groups(fresh, again, kept, rules, recipe.validation_fraction)
    for source in fresh:
        _describe(source, rules, before.num_generations)
    sources = [*kept, *fresh]
    policy.check({source.licence for source in sources})
    for source in fresh:
        _leave_out_refused(source, policy)
    units = list(_units([source for source in fresh if source.is_usable], recipe, seed))
    if not units:
        raise _nothing_to_make(fresh, recipe, is_first=not before.portions)
    splits = {portion.split for portion in before.portions} | {unit.source.split for unit in units}
    _check_splits(sources, splits, rules, recipe)
    return Plan(table, sources, _in_series(units, policy, before), recipe, before)


def _merge_equal_content(probed: Iterable[Found]) -> list[Found]:
    """One source per content, with all its places; unreadable files stay apart."""
    ordered = sorted(probed, key=lambda source: (source.identity, source.uris))
    merged = []
    for _, equal in itertools.groupby(ordered, key=lambda source: source.identity):
        first, *others = equal
        if others:
            uris = {uri for source in (first, *others) for uri in source.uris}
            first.uris = tuple(sorted(uris))
        merged.append(first)
    return merged


def _kept(earlier: Sequence[Found], merged: Iterable[Found]) -> list[Found]:
    """Earlier sources, without those that failed then and are here again."""
    failed = [source for source in earlier if source.status == Status.FAILED_RETRYABLE]
    names = {name for source in failed for name in (source.identity, *source.uris)}
    here = names.intersection(
        name for source in merged for name in (source.source_id, *source.uris)
    )
    return [
        source
        for source in earlier
        if source.status != Status.FAILED_RETRYABLE
        or here.isdisjoint({source.identity, *source.uris})
    ]


def _describe(source: Found, rules: Sequence[SourceRule], generation: int) -> None:
    """Note what planning decides of a source, and what the user tells of it."""
    source.generation = generation
    source.licence = next(iter(told(rules, source, "licence")), "")
    source.attribution = next(iter(told(rules, source, "attribution")), "")


def _leave_out_refused(source: Found, policy: LicencePolicy) -> None:
    if source.is_usable and (detail := policy.refusal(source.licence)):
        source.status, source.stage = Status.FILTERED.value, "plan"
        source.reason, source.detail = "licence", detail
        source.group = source.split = ""


def _check_rules(found: Sequence[Found], rules: Sequence[SourceRule]) -> None:
    """A row that is about nothing is a mistake that would otherwise be found too late."""
    for rule in rules:
        named = (rule.matches(uri, s.source_id) for s in found for uri in s.uris)
        if not any(named):
            raise UserError(
                f"the source list's pattern {rule.pattern!r} matches no source: names start at "
                f"the input's name, such as {found[0].uris[0]!r}"
            )


def _check_splits(
    found: Sequence[Found], splits: set[str], rules: Sequence[SourceRule], recipe: Recipe
) -> None:
    wants_validation = recipe.validation_fraction > 0 or any(r.split == VALIDATION for r in rules)
    wanted = {TRAIN, VALIDATION} if wants_validation else {TRAIN}
    for split in sorted(wanted - splits):
        groups = {source.group for source in found if source.group}
        example = next(source.uris[0] for source in found if source.group)
        raise UserError(
            f"the {split} split is empty: {counted(len(groups), 'group')} of sources, "
            f"validation_fraction = {recipe.validation_fraction:g}. Assign sources with "
            "--sources, a CSV such as 'pattern,split' with a line "
            f"'{example},{split}'; or change the recipe's "
            "validation_fraction (0 for no validation split)"
        )


def _nothing_to_make(found: Sequence[Found], recipe: Recipe, *, is_first: bool) -> UserError:
    if not found and not is_first:
        return UserError("nothing to add: the dataset holds every source that was found already")
    reasons = Counter(source.reason for source in found if source.reason)
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    cures = []
    if reasons.pop("licence", 0):
        cures.append("allow more with --licences, or tell licences in the source list (--sources)")
    if reasons or not cures:
        size = f"{recipe.hr.patch_height}x{recipe.hr.patch_width}"
        cures.append(
            f"give images of at least {size} pixels, videos or frame folders, or change the "
            "recipe's [hr] and [clips]"
        )
    said = f" ({listed})" if listed else ""
    what = counted(len(found), "source" if is_first else "new source")
    return UserError(f"of {what}, none can be used{said}: {'; or '.join(cures)}")


def _units(usable: Sequence[Found], recipe: Recipe, seed: int) -> Iterator[_Unit]:
    images = [source for source in usable if source.is_image and source.parts]
    for source in usable:
        if not source.is_image and _num_patches(source, recipe):
            for number, part in enumerate(source.parts):
                order = _order(seed, source.source_id, part.start)
                yield _VideoPart(order, source, number)
    if recipe.pseudo_video.packing == "camera":
        for source in images:
            yield _CameraImage(_order(seed, source.source_id, 0), source)
    else:
        yield from _packs(images, recipe, seed)


class _VideoPart(NamedTuple):
    """A run of frames, of which each patch is a clip."""

    order: bytes
    source: Found
    number: int
    """of the part among those of its source"""

    def clips(self, recipe: Recipe) -> Iterator[PlannedSample]:
        part = self.source.parts[self.number]
        for patch in range(_num_patches(self.source, recipe)):
            clip = self.number * recipe.clips.patches + patch
            yield _planned(
                recipe, [(self.source, part)], kind=SampleKind.CLIP, clip=clip, patch=patch
            )


def _num_patches(source: Found, recipe: Recipe) -> int:
    size = hr_size(recipe, source.height, source.width)
    patch_height, patch_width = patch_size(recipe, *size)
    num_cells = (size[0] // patch_height) * (size[1] // patch_width) if patch_height else 0
    return min(recipe.clips.patches, num_cells)


class _CameraImage(NamedTuple):
    """An image, of which each usable cell is a clip that the camera passes."""

    order: bytes
    source: Found

    def clips(self, recipe: Recipe) -> Iterator[PlannedSample]:
        # The same for all clips of an image, so that a worker reads it once.
        image = Part(0, recipe.pseudo_video.frames, 0, 0, 0)
        parts = self.source.parts
        cells = [cell for part in parts for cell in range(part.start, part.start + part.count)]
        for clip, cell in enumerate(cells):
            yield _planned(
                recipe, [(self.source, image)], kind=SampleKind.CAMERA, clip=clip, patch=cell
            )


class _Pack(NamedTuple):
    """Patches of images that are alike, as the frames of one clip."""

    order: bytes
    key: str
    parts: tuple[tuple[Found, Part], ...]

    @property
    def source(self) -> Found:
        return self.parts[0][0]

    def clips(self, recipe: Recipe) -> Iterator[PlannedSample]:
        kind = SampleKind.PSEUDO_VIDEO
        yield _planned(recipe, self.parts, kind=kind, clip=0, patch=0, pack=self.key)


def _packs(images: Iterable[Found], recipe: Recipe, seed: int) -> Iterator[_Pack]:
    """Fill pseudo-videos with patches, image by image, in an order that hashes decide."""
    alike: dict[tuple[object, ...], list[Found]] = defaultdict(list)
    for source in images:
        size = patch_size(recipe, *hr_size(recipe, source.height, source.width))
        alike[source.split, source.licence, *size].append(source)
    for _, sources in sorted(alike.items(), key=lambda kind: [str(part) for part in kind[0]]):
        sources.sort(key=lambda source: _order(seed, source.source_id))
        parts = ((source, part) for source in sources for part in source.parts)
        for pack in _fill(parts, recipe.pseudo_video.frames):
            identity = sha256_json([_span(*part).model_dump(mode="json") for part in pack])
            first = pack[0][1]
            order = _order(seed, identity, first.start)
            yield _Pack(order, f"{identity[:_KEY_DIGITS]}-00000", tuple(pack))


def _fill(parts: Iterable[tuple[Found, Part]], frames: int) -> Iterator[list[tuple[Found, Part]]]:
    """Cut a row of parts into packs of `frames` cells; the last one is shorter."""
    pack: list[tuple[Found, Part]] = []
    room = frames
    for source, part in parts:
        start, left = part.start, part.count
        while left:
            count = min(room, left)
            pack.append((source, replace(part, start=start, count=count)))
            start, left, room = start + count, left - count, room - count
            if not room:
                yield pack
                pack, room = [], frames
    if pack:
        yield pack


def _planned(
    recipe: Recipe,
    parts: Sequence[tuple[Found, Part]],
    *,
    kind: SampleKind,
    clip: int,
    patch: int,
    pack: str = "",
) -> PlannedSample:
    """A sample that has no shard yet; `pack` is the key of a pack."""
    source = parts[0][0]
    height, width = patch_size(recipe, *hr_size(recipe, source.height, source.width))
    num_frames = sum(part.count for _, part in parts)
    return PlannedSample(
        shard="",
        key=pack or f"{source.source_id[:_KEY_DIGITS]}-{clip:05d}",
        kind=kind,
        split=source.split,
        group=pack or source.group,
        licence=source.licence,
        attributions=list(dict.fromkeys(s.attribution for s, _ in parts if s.attribution)),
        clip=clip,
        patch=patch,
        spans=[_span(source, part) for source, part in parts],
        estimated_bytes=_estimate_bytes(recipe, source.split, height * width, num_frames),
    )


def _span(source: Found, part: Part) -> Span:
    return Span(source_id=source.source_id, **asdict(part))


def _estimate_bytes(recipe: Recipe, split: str, hr_pixels: int, num_frames: int) -> int:
    lr_pixels = len(recipe.streams) * hr_pixels / recipe.scale**2
    is_exact = recipe.hr.stored_quality(split) is None
    per_pixel = _HR_BYTES_PER_PIXEL if is_exact else _JPEG_BYTES_PER_PIXEL
    per_frame = per_pixel * hr_pixels + _LR_BYTES_PER_PIXEL * lr_pixels
    return round(num_frames * per_frame)


def _in_series(
    units: Iterable[_Unit], policy: LicencePolicy, before: Committed
) -> dict[str, list[_Unit]]:
    """The units of each series of shards, split by split, in an order that hashes decide.

    The names of shards begin with the split, since the Hugging Face Hub takes splits from names.
    Their numbers go on from the last generation's.
    """
    units = list(units)
    named = {p.licence: _slug_of(p) for p in before.portions} if policy.separate else {}
    slugs = licence_slugs({unit.source.licence for unit in units}, named)
    series = defaultdict[str, list[_Unit]](list)
    for unit in sorted(units, key=lambda unit: unit.order):
        source = unit.source
        name = f"{source.split}-{slugs[source.licence]}" if policy.separate else source.split
        series[name].append(unit)
    return dict(sorted(series.items()))


def _samples(unit: _Unit, recipe: Recipe) -> list[PlannedSample]:
    """The samples of a unit, in order."""
    rows = [sample for clip in unit.clips(recipe) for sample in _variants(clip, recipe)]
    return sorted(rows, key=lambda row: (row.patch, row.key))


def _variants(clip: PlannedSample, recipe: Recipe) -> Iterator[PlannedSample]:
    """The samples of one HR clip."""
    if recipe.variants == 1:
        yield clip
        return
    for number in range(recipe.variants):
        yield clip.model_copy(update={"variant": number, "key": f"{clip.key}-{number:02d}"})


def _fill_shards(samples: Iterable[PlannedSample], target: float) -> Iterator[list[PlannedSample]]:
    """Fill shards by estimated size, in bytes; one that is larger alone is a shard."""
    rows, size = list[PlannedSample](), 0
    for sample in samples:
        if size and size + sample.estimated_bytes > target:
            yield rows
            rows, size = [], 0
        rows.append(sample)
        size += sample.estimated_bytes
    if rows:
        yield rows


def _series_of(shard: str) -> str:
    """A shard's name without its number."""
    return shard.rpartition("-")[0]


def _slug_of(portion: Portion) -> str:
    """How a shard of one licence is called after it."""
    return _series_of(portion.shard).removeprefix(f"{portion.split}-")


def _order(seed: int, *parts: object) -> bytes:
    return hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=16).digest()
