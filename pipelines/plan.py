"""Planning: from probed sources to samples in shards. A pure function of small rows.

Order, packs and shards follow from hashes of content, so that they depend neither on the order
in which sources were found nor on who probed them. Sources that are added later make a generation
of their own, behind what was planned before, of which nothing changes.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pipelines.corpus import SourceRule, akin
from pipelines.errors import UserError
from pipelines.licences import ANY_LICENCE, LicencePolicy, licence_slugs
from pipelines.probe import Probed
from schemas.manifest import sha256_json
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.record import Status
from schemas.sample import SampleKind
from schemas.source import TRAIN, VALIDATION, Source, SourceKind
from schemas.wording import counted
from transforms.draw import hr_size, patch_size

_KEY_DIGITS = 20  # hexadecimal; 12 would collide in large datasets
_HR_BYTES_PER_PIXEL = 1.0  # lossless WebP of photographs and video, measured: 0.3 to 1.1
_LR_BYTES_PER_PIXEL = 0.5  # streams and their vectors


class Plan(NamedTuple):
    """What will be made."""

    sources: list[Source]
    """every source, those left out included, by generation and id"""
    samples: list[PlannedSample]
    """by generation and shard, then in the order of the shard"""

    @property
    def shards(self) -> list[list[PlannedSample]]:
        """The samples of each shard."""
        return [list(rows) for _, rows in itertools.groupby(self.samples, lambda row: row.shard)]

    @property
    def num_generations(self) -> int:
        """How many times sources were given."""
        return self.samples[-1].generation + 1 if self.samples else 0


NOTHING = Plan([], [])


def make_plan(
    probed: Sequence[Probed],
    rules: Sequence[SourceRule],
    recipe: Recipe,
    seed: int,
    policy: LicencePolicy = ANY_LICENCE,
    before: Plan = NOTHING,
) -> Plan:
    """Plan a dataset, or its next generation.

    Args:
        probed: every source found, in any order; equal content may come several times.
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
    merged = _merge_equal_content(probed)
    kept = _kept(before.sources, merged)
    known = {_identity(source) for source in kept}
    fresh = [item for item in merged if _identity(item.source) not in known]
    _check_rules([*kept, *(item.source for item in merged)], rules)
    groups = _groups(probed, rules, kept)
    splits = _splits(fresh, groups, rules, recipe, kept)
    assigned = [_assign(item, groups, splits, rules, before.num_generations) for item in fresh]
    policy.check([*kept, *(item.source for item in assigned)])
    found = [item.model_copy(update={"source": policy.apply(item.source)}) for item in assigned]
    usable = [item for item in found if item.source.status is Status.OK]
    is_camera = recipe.pseudo_video.packing == "camera"
    of_images = _camera_clips(usable, recipe) if is_camera else _packs(usable, recipe, seed)
    clips = [*_clips(usable, recipe), *of_images]
    samples = [sample for clip in clips for sample in _variants(clip, recipe)]
    sources = [item.source for item in found]
    if not samples:
        raise _nothing_to_make(sources, recipe, is_first=not before.samples)
    _check_splits([*kept, *sources], [*before.samples, *samples], rules, recipe)
    return Plan(
        sources=[*kept, *sources],
        samples=[*before.samples, *_into_shards(samples, recipe, seed, policy, before)],
    )


def _merge_equal_content(probed: Sequence[Probed]) -> list[Probed]:
    """One item per content, with all its places; unreadable files stay apart."""
    by_content: dict[str, list[Probed]] = defaultdict(list)
    for item in sorted(probed, key=lambda item: item.source.uris):
        by_content[_identity(item.source)].append(item)
    merged = []
    for _, items in sorted(by_content.items()):
        uris = sorted({uri for item in items for uri in item.source.uris})
        source = items[0].source.model_copy(update={"uris": uris})
        merged.append(items[0].model_copy(update={"source": source}))
    return merged


def _identity(source: Source) -> str:
    """Its content; its place, where that could not be read."""
    return source.source_id or source.uris[0]


def _kept(before: Sequence[Source], merged: Sequence[Probed]) -> list[Source]:
    """Earlier sources, without those that failed then and are here again."""
    here = {name for item in merged for name in (item.source.source_id, *item.source.uris)}
    return [
        source
        for source in before
        if source.status is not Status.FAILED_RETRYABLE
        or here.isdisjoint({_identity(source), *source.uris})
    ]


def _groups(
    probed: Sequence[Probed], rules: Sequence[SourceRule], kept: Sequence[Source]
) -> dict[str, str]:
    """Source id -> group. Whatever shares a label, a user's or that of a place, is one group.

    A group is called as earlier sources in it call theirs; else after the user's label, if there is
    one; else after its first source, so that it does not change its split when files are renamed.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for source in kept:
        if source.status is Status.OK or source.stage == "plan":  # of another licence
            labels[source.source_id] |= {f"user:{group}" for group in source.group_labels}
            labels[source.source_id] |= {f"place:{akin(uri)}" for uri in source.uris}
    known = set(labels)
    for item in probed:
        source = item.source
        if source.status is Status.OK:
            labels[source.source_id].add(f"place:{item.akin}")
            if source.source_id not in known:
                told = _told(rules, source, "group")
                labels[source.source_id] |= {f"user:{group}" for group in told}
    settled = {source.source_id: source.group for source in kept if source.group}
    groups = {}
    for members, names in _connected(labels):
        earlier = sorted({settled[member] for member in members & settled.keys()})
        given = sorted(name.removeprefix("user:") for name in names if name.startswith("user:"))
        groups.update(dict.fromkeys(members, [*earlier, *given, min(members)][0]))
    return groups


def _connected(labels: dict[str, set[str]]) -> Iterator[tuple[set[str], set[str]]]:
    """Sets of sources that are linked by labels, with those labels."""
    by_label: dict[str, set[str]] = defaultdict(set)
    for source_id, names in labels.items():
        for name in names:
            by_label[name].add(source_id)
    remaining = set(labels)
    while remaining:
        members, names, fresh = set[str](), set[str](), {min(remaining)}
        while fresh:
            members |= fresh
            names |= {name for source_id in fresh for name in labels[source_id]}
            fresh = {other for name in names for other in by_label[name]} - members
        remaining -= members
        yield members, names


def _told(rules: Sequence[SourceRule], source: Source, name: str) -> dict[str, str]:
    """What the list says of a source, with a place for which it says so.

    For each place the first rule that says anything counts.
    """
    told: dict[str, str] = {}
    for uri in source.uris:
        matching = (rule for rule in rules if rule.matches(uri, source.source_id))
        value = next((value for rule in matching if (value := getattr(rule, name))), "")
        if value:
            told.setdefault(value, uri)
    return told


def _splits(
    fresh: Sequence[Probed],
    groups: dict[str, str],
    rules: Sequence[SourceRule],
    recipe: Recipe,
    kept: Sequence[Source],
) -> dict[str, str]:
    """Group -> split: that of earlier sources in it; else as the user's list says; else by a
    threshold on the group's hash."""
    named: dict[str, dict[str, str]] = {group: {} for group in groups.values()}
    for source in kept:
        if source.split:
            named[groups[source.source_id]].setdefault(source.split, source.uris[0])
    for source in (item.source for item in fresh):
        if source.source_id in groups:
            for split, uri in _told(rules, source, "split").items():
                named[groups[source.source_id]].setdefault(split, uri)
    for group, examples in named.items():
        if len(examples) > 1:
            told = " and ".join(f"{uri} into {split}" for split, uri in sorted(examples.items()))
            who = "what was made before and the source list put" if kept else "the source list puts"
            added = [i.source.uris[0] for i in fresh if groups.get(i.source.source_id) == group]
            cure = f"; leave out what joins them, such as {added[0]}" if kept and added else ""
            raise UserError(
                f"{who} {told}, but they belong together: sources of one group "
                f"(equal content, stereo pairs, one clip in two formats) must share a split{cure}"
            )
    return {
        group: next(iter(examples), _split_by_hash(group, recipe.validation_fraction))
        for group, examples in named.items()
    }


def _split_by_hash(group: str, validation_fraction: float) -> str:
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    return VALIDATION if position < validation_fraction else TRAIN


def _assign(
    item: Probed,
    groups: dict[str, str],
    splits: dict[str, str],
    rules: Sequence[SourceRule],
    generation: int,
) -> Probed:
    group = groups.get(item.source.source_id, "")
    update: dict[str, Any] = {
        "group": group,
        "group_labels": sorted(_told(rules, item.source, "group")),
        "split": splits.get(group, ""),
        "generation": generation,
    }
    for name in ("licence", "attribution"):
        update[name] = next(iter(_told(rules, item.source, name)), "")
    return item.model_copy(update={"source": item.source.model_copy(update=update)})


def _example(found: Sequence[Source]) -> str:
    return next(source.uris[0] for source in found if source.group)


def _check_rules(found: Sequence[Source], rules: Sequence[SourceRule]) -> None:
    """A row that is about nothing is a mistake that would otherwise be found too late."""
    for rule in rules:
        named = (rule.matches(uri, s.source_id) for s in found for uri in s.uris)
        if not any(named):
            raise UserError(
                f"the source list's pattern {rule.pattern!r} matches no source: names start at "
                f"the input's name, such as {found[0].uris[0]!r}"
            )


def _check_splits(
    found: Sequence[Source],
    samples: Sequence[PlannedSample],
    rules: Sequence[SourceRule],
    recipe: Recipe,
) -> None:
    wants_validation = recipe.validation_fraction > 0 or any(r.split == VALIDATION for r in rules)
    wanted = {TRAIN, VALIDATION} if wants_validation else {TRAIN}
    for split in sorted(wanted - {row.split for row in samples}):
        groups = {source.group for source in found if source.group}
        raise UserError(
            f"the {split} split is empty: {counted(len(groups), 'group')} of sources, "
            f"validation_fraction = {recipe.validation_fraction:g}. Assign sources with "
            "--sources, a CSV such as 'pattern,split' with a line "
            f"'{_example(found)},{split}'; or change the recipe's "
            "validation_fraction (0 for no validation split)"
        )


def _nothing_to_make(found: Sequence[Source], recipe: Recipe, *, is_first: bool) -> UserError:
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
    told = f" ({listed})" if listed else ""
    what = counted(len(found), "source" if is_first else "new source")
    return UserError(f"of {what}, none can be used{told}: {'; or '.join(cures)}")


def _variants(clip: PlannedSample, recipe: Recipe) -> Iterator[PlannedSample]:
    """The samples of one HR clip."""
    if recipe.variants == 1:
        yield clip
        return
    for number in range(recipe.variants):
        yield clip.model_copy(update={"variant": number, "key": f"{clip.key}-{number:02d}"})


def _clips(usable: Sequence[Probed], recipe: Recipe) -> Iterator[PlannedSample]:
    for item in usable:
        source = item.source
        if source.kind is SourceKind.IMAGE:
            continue
        size = hr_size(recipe, source.height, source.width)
        patches = min(recipe.clips.patches, _num_cells(recipe, *size))
        for number, span in enumerate(item.spans):
            for patch in range(patches):
                clip = number * recipe.clips.patches + patch
                yield _planned(
                    recipe,
                    [source],
                    key=f"{source.source_id[:_KEY_DIGITS]}-{clip:05d}",
                    kind=SampleKind.CLIP,
                    clip=clip,
                    patch=patch,
                    spans=[span],
                )


def _num_cells(recipe: Recipe, height: int, width: int) -> int:
    patch_height, patch_width = patch_size(recipe, height, width)
    return (height // patch_height) * (width // patch_width) if patch_height else 0


def _camera_clips(usable: Sequence[Probed], recipe: Recipe) -> Iterator[PlannedSample]:
    """A clip for each usable cell of an image, which the camera passes."""
    for item in usable:
        source = item.source
        if source.kind is not SourceKind.IMAGE:
            continue
        # The same for all clips of an image, so that a worker reads it once.
        image = Span(source_id=source.source_id, start=0, count=recipe.pseudo_video.frames)
        cells = [cell for span in item.spans for cell in range(span.start, span.start + span.count)]
        for clip, cell in enumerate(cells):
            yield _planned(
                recipe,
                [source],
                key=f"{source.source_id[:_KEY_DIGITS]}-{clip:05d}",
                kind=SampleKind.CAMERA,
                clip=clip,
                patch=cell,
                spans=[image],
            )


def _packs(usable: Sequence[Probed], recipe: Recipe, seed: int) -> Iterator[PlannedSample]:
    """Fill pseudo-videos with patches, image by image, in an order that hashes decide."""
    kinds: dict[tuple[object, ...], list[Probed]] = defaultdict(list)
    for item in usable:
        source = item.source
        if source.kind is SourceKind.IMAGE:
            size = patch_size(recipe, *hr_size(recipe, source.height, source.width))
            kinds[source.split, source.licence, *size].append(item)
    for _, items in sorted(kinds.items(), key=lambda kind: [str(part) for part in kind[0]]):
        items.sort(key=lambda item: _order(seed, item.source.source_id))
        sources = {item.source.source_id: item.source for item in items}
        spans = [span for item in items for span in item.spans]
        for pack in _fill(spans, recipe.pseudo_video.frames):
            identity = sha256_json([span.model_dump(mode="json") for span in pack])
            key = f"{identity[:_KEY_DIGITS]}-00000"
            yield _planned(
                recipe,
                [sources[span.source_id] for span in pack],
                key=key,
                group=key,
                kind=SampleKind.PSEUDO_VIDEO,
                clip=0,
                patch=0,
                spans=pack,
            )


def _fill(spans: Iterable[Span], frames: int) -> Iterator[list[Span]]:
    """Cut a row of spans into packs of `frames` cells; the last one is shorter."""
    pack: list[Span] = []
    room = frames
    for span in spans:
        start, left = span.start, span.count
        while left:
            count = min(room, left)
            pack.append(span.model_copy(update={"start": start, "count": count}))
            start, left, room = start + count, left - count, room - count
            if not room:
                yield pack
                pack, room = [], frames
    if pack:
        yield pack


def _planned(
    recipe: Recipe,
    sources: Sequence[Source],
    *,
    key: str,
    kind: SampleKind,
    clip: int,
    patch: int,
    spans: list[Span],
    group: str = "",
) -> PlannedSample:
    source = sources[0]  # in size, split and licence the others are like it
    height, width = patch_size(recipe, *hr_size(recipe, source.height, source.width))
    return PlannedSample(
        shard="",
        key=key,
        kind=kind,
        split=source.split,
        group=group or source.group,
        licence=source.licence,
        attributions=list(dict.fromkeys(s.attribution for s in sources if s.attribution)),
        clip=clip,
        patch=patch,
        spans=spans,
        estimated_bytes=_estimate_bytes(recipe, height * width, sum(s.count for s in spans)),
    )


def _estimate_bytes(recipe: Recipe, hr_pixels: int, num_frames: int) -> int:
    lr_pixels = len(recipe.streams) * hr_pixels / recipe.scale**2
    per_frame = _HR_BYTES_PER_PIXEL * hr_pixels + _LR_BYTES_PER_PIXEL * lr_pixels
    return round(num_frames * per_frame)


def _into_shards(
    samples: Sequence[PlannedSample],
    recipe: Recipe,
    seed: int,
    policy: LicencePolicy,
    before: Plan,
) -> Iterator[PlannedSample]:
    """Fill shards by estimated size, split by split, in an order that hashes decide.

    Their names begin with the split, since the Hugging Face Hub takes splits from names. Their
    numbers go on from the last generation's.

    Patches of one clip, and camera clips of one image, stay together, since a worker that has
    decoded it makes them all.
    """
    target = recipe.shard_mib * 2**20
    named = {row.licence: _slug_of(row) for row in before.samples} if policy.separate else {}
    slugs = licence_slugs((row.licence for row in samples), named)

    def series(row: PlannedSample) -> str:
        return f"{row.split}-{slugs[row.licence]}" if policy.separate else row.split

    num_before = Counter(_series_of(name) for name in {row.shard for row in before.samples})
    ordered = sorted(samples, key=lambda row: (series(row), *_place(row, seed)))
    for name, rows in itertools.groupby(ordered, key=series):
        number, size = num_before[name], 0
        for row in rows:
            if size and size + row.estimated_bytes > target:
                number, size = number + 1, 0
            size += row.estimated_bytes
            update = {"shard": f"{name}-{number:06d}", "generation": before.num_generations}
            yield row.model_copy(update=update)


def _series_of(shard: str) -> str:
    """A shard's name without its number."""
    return shard.rpartition("-")[0]


def _slug_of(row: PlannedSample) -> str:
    """How a shard of one licence is called after it."""
    return _series_of(row.shard).removeprefix(f"{row.split}-")


def _place(row: PlannedSample, seed: int) -> tuple[str, int, int, str]:
    first = row.spans[0]
    spans = [span.model_dump(mode="json") for span in row.spans]
    unit = sha256_json(spans) if row.kind is SampleKind.PSEUDO_VIDEO else first.source_id
    return _order(seed, unit, first.start), first.start, row.patch, row.key


def _order(seed: int, *parts: object) -> str:
    return hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=16).hexdigest()
