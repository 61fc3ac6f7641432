"""Why a sample is not the same in two datasets, from their tables alone."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence

from pipelines.audit.fields import FieldDifference, differing_fields
from pipelines.diff.report import Cause, CauseName, Difference
from pipelines.diff.side import Row, Side
from schemas.record import Status
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    SampleFields,
    SampleKind,
    lr_member,
    mv_member,
)

_MOST = 3  # fields that a cause lists
_FROM_SOURCE_LIST = ("split", "group", "licence", "attributions")
_OF_SOURCE = ("split", "licence", "attribution")
"""What of a source decides which images are packed together, or is told of the pack."""


class Explainer:
    """Explains differences between two datasets.

    Args:
        a: one of them.
        b: the other.
        recipe: keys of the recipes that differ, with both values.
        libraries: libraries that differ, likewise.
    """

    def __init__(self, a: Side, b: Side, recipe: Sequence[str], libraries: Sequence[str]) -> None:
        self._a, self._b = a, b
        self._common = [
            *_cause("seed", _seeds(a, b)),
            *_cause("recipe", recipe),
            *_cause("libraries", libraries),
        ]

    def only(self, key: str, *, in_a: bool) -> Difference:
        """A sample that is in one of them alone."""
        here, there = (self._a, self._b) if in_a else (self._b, self._a)
        source_ids = here.sample(key)["source_ids"]
        problems = [problem for source in source_ids for problem in _gone(here, there, source)]
        listed = [text for source in source_ids for text in self._listed_otherwise(source)]
        planning = [cause for cause in self._common if cause.cause != "libraries"]
        causes = [*_cause("source", problems), *_cause("source_list", listed), *planning]
        not_planned = [f"{there.dataset.layout.root} was planned without it"]
        return Difference(
            side="a" if in_a else "b",
            key=key,
            key_b="" if in_a else key,
            uris=here.uris(source_ids),
            parts=[],
            causes=causes or _cause("plan", not_planned),
        )

    def pair(self, key_a: str, key_b: str) -> Difference:
        """A sample that is in both, and not the same."""
        rows = self._a.sample(key_a), self._b.sample(key_b)
        streams = self._a.streams(key_a), self._b.streams(key_b)
        both_made = all(row["status"] == Status.OK for row in rows)
        parts = list(_parts(rows, streams)) if both_made else []
        causes = [
            *_cause("outcome", _outcomes(*rows)),
            *_cause("source", self._changed_sources(*rows)),
            *_cause("span", self._spans(key_a, key_b)),
            *_cause("source_list", _told(differing_fields(*map(_listed, rows)))),
            *self._common,
        ]
        if both_made:
            causes += [*_encoder_builds(*streams), *_draws(rows, streams)]
        if not {cause.cause for cause in causes} - {"source_list"} and parts != ["metadata"]:
            causes.append(_UNEXPLAINED)
        return Difference(
            side="both",
            key=key_a,
            key_b=key_b,
            uris=self._a.uris(rows[0]["source_ids"]),
            parts=parts,
            causes=causes or _fields(rows, streams),
        )

    def _listed_otherwise(self, source_id: str) -> Iterator[str]:
        """What the source lists say of a source that both can use."""
        rows = [side.sources.get(source_id) for side in (self._a, self._b)]
        used = [row for row in rows if row is not None and row.status is Status.OK]
        if len(used) == 2:
            told = ({name: getattr(row, name) for name in _OF_SOURCE} for row in used)
            yield from (f"{used[0].uris[0]}: {text}" for text in _told(differing_fields(*told)))

    def _changed_sources(self, a: Row, b: Row) -> Iterator[str]:
        pairs = itertools.zip_longest(a["source_ids"], b["source_ids"], fillvalue="")
        for one, other in pairs:
            if one != other:
                uri = (self._a.uris([one]) if one else self._b.uris([other]))[0]
                yield f"{uri}: content {one[:12] or 'none'} / {other[:12] or 'none'}"

    def _spans(self, key_a: str, key_b: str) -> list[str]:
        ranges = (
            [{"start": span.start, "count": span.count} for span in side.spans(key)]
            for side, key in ((self._a, key_a), (self._b, key_b))
        )
        return _told(differing_fields(*ranges, name="spans"))


_UNEXPLAINED = Cause(
    cause="unexplained",
    detail="sources, recipe, seed, draws, libraries and encoder builds are equal: see the hosts in "
    "logs, and python -m pipelines.verify of both",
)


def _cause(name: CauseName, details: Iterable[str]) -> list[Cause]:
    found = list(details)
    if not found:
        return []
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return [Cause(cause=name, detail="; ".join(found[:_MOST]) + more)]


def _told(differences: Iterable[FieldDifference]) -> list[str]:
    return [str(difference) for difference in differences]


def _seeds(a: Side, b: Side) -> list[str]:
    seeds = a.dataset.manifest.seed, b.dataset.manifest.seed
    return [f"{seeds[0]} / {seeds[1]}"] if seeds[0] != seeds[1] else []


def _gone(here: Side, there: Side, source_id: str) -> Iterator[str]:
    """Why a source gives nothing there."""
    (uri,) = here.uris([source_id])
    same, at_place = there.sources.get(source_id), there.sources_by_uri.get(uri)
    found = same or at_place
    if found is None:
        yield f"{uri} is not among the other's sources"
    elif found.status is not Status.OK:
        yield f"{uri} is left out of the other: {found.reason}"
    elif same is None:
        yield f"{uri} has other content ({source_id[:12]}, there {found.source_id[:12]})"


def _outcomes(a: Row, b: Row) -> list[str]:
    told = [
        row["status"] if row["status"] == Status.OK else f"{row['status']} ({row['reason']})"
        for row in (a, b)
    ]
    return [] if told[0] == told[1] else [f"{told[0]} / {told[1]}"]


def _listed(row: Row) -> Row:
    # A pack's group is its key: no list tells it.
    no_group = {"group"} if row["kind"] == SampleKind.PSEUDO_VIDEO else set()
    return {name: row[name] for name in _FROM_SOURCE_LIST if name not in no_group}


def _parts(rows: tuple[Row, Row], streams: tuple[dict[str, Row], dict[str, Row]]) -> Iterator[str]:
    """Which members differ; streams go by name, whatever their number."""
    one, other = (
        {member["name"]: (member["size"], member["crc32"]) for member in row["members"]}
        for row in rows
    )
    if one.get(HR_MEMBER) != other.get(HR_MEMBER):
        yield "hr"
    for name in dict.fromkeys([*streams[0], *streams[1]]):
        a, b = streams[0].get(name), streams[1].get(name)
        if a is None or b is None:
            yield f"lr:{name}"
            continue
        numbers = a["stream"], b["stream"]
        if a["decoded_sha256"] != b["decoded_sha256"]:
            yield f"lr:{name}"
        elif one.get(lr_member(numbers[0])) != other.get(lr_member(numbers[1])):
            yield f"lr_bytes:{name}"
        if one.get(mv_member(numbers[0])) != other.get(mv_member(numbers[1])):
            yield f"motion:{name}"
    if one.get(JSON_MEMBER) != other.get(JSON_MEMBER):
        yield "metadata"


def _encoder_builds(a: dict[str, Row], b: dict[str, Row]) -> list[Cause]:
    found = []
    for name in a.keys() & b.keys():
        builds = [
            [generation["encoder_build"] for generation in (*row["earlier"], row)]
            for row in (a[name], b[name])
        ]
        found += [
            f"{name}: {one} / {other}"
            for one, other in zip(*builds, strict=False)  # of another length if drawn otherwise
            if one != other
        ]
    return _cause("encoder_build", sorted(found))


def _draws(rows: tuple[Row, Row], streams: tuple[dict[str, Row], dict[str, Row]]) -> list[Cause]:
    scenes = [json.loads(row["scene_draw"]) for row in rows]
    found = []
    for name in dict.fromkeys([*streams[0], *streams[1]]):
        if name not in streams[0] or name not in streams[1]:
            found.append(f"{name}: a stream of {'A' if name in streams[0] else 'B'} alone")
            continue
        draws = [json.loads(side[name]["draw"]) for side in streams]
        found += [f"{name}: {text}" for text in _told(differing_fields(*draws))]
    return [
        *_cause("scene_draw", _told(differing_fields(scenes[0], scenes[1]))),
        *_cause("stream_draw", found),
    ]


def _fields(rows: tuple[Row, Row], streams: tuple[dict[str, Row], dict[str, Row]]) -> list[Cause]:
    """What of the record differs where everything behind it is equal."""
    samples = [{name: row[name] for name in SampleFields.model_fields} for row in rows]
    found = _told(itertools.chain(differing_fields(*samples), differing_fields(*streams)))
    return _cause("fields", found or ["of frames or of HR tiles"])
