"""Results as tables in Markdown: methods by conditions, published rows beside measured ones."""

import re
from collections.abc import Callable, Sequence

from schemas.wording import counted, markdown_table
from training.evaluating.measure import METRICS
from training.evaluating.published import KnownSet, PublishedRow, known_set
from training.evaluating.results import TRUTH, Results

_NONE = "–"
_FIDELITY = {"y": ("psnr_y", "ssim_y"), "rgb": ("psnr_rgb", "ssim_rgb")}
_LABEL = re.compile(r"CRF (?P<crf>[\d.]+) (?P<subsampling>\S+)")


def report(results: Results) -> str:
    """All tables, in Markdown: means, then clip by clip."""
    known = comparable(results)
    parts = [f"# Evaluation of {_text(results.data)}", _head(results)]
    for names in _groups(results.metrics):
        parts.append(f"## {_title(names)}")
        rows = _published_rows(results, known, names) + _measured_rows(results, names)
        parts.append(markdown_table(["method", *results.conditions], rows))
        if known and _is_fidelity_of(known, names):
            parts.append(_note(known, results))
    if len(results.frames) > 1:
        parts.append("## By clip")
        parts += [_by_clip(results, names) for names in _groups(results.metrics)]
    return "\n\n".join(parts) + "\n"


def comparable(results: Results) -> KnownSet | None:
    """The test set of papers that was measured by their protocol, whole; None for any other."""
    if results.protocol != "cavsr" or not results.whole:
        return None
    return known_set(results.frames)


def _head(results: Results) -> str:
    frames = sum(results.frames.values())
    told = (
        f"{counted(len(results.frames), 'clip')}, {counted(frames, 'frame')}; protocol "
        f"{results.protocol}; {results.encoder or 'no encoder'}. Means over the frames of a clip, "
        "then over clips."
    )
    return f"{told} Networks saw tiles and windows, not whole clips." if results.tiled else told


def _groups(metrics: Sequence[str]) -> list[tuple[str, ...]]:
    """Metrics that share a table: PSNR and SSIM of the same channels."""
    groups = list[tuple[str, ...]]()
    for names in _FIDELITY.values():
        if present := tuple(name for name in names if name in metrics):
            groups.append(present)
    fidelity = {name for names in _FIDELITY.values() for name in names}
    return groups + [(name,) for name in metrics if name not in fidelity]


def _title(names: Sequence[str]) -> str:
    end = ", lower is better" if METRICS[names[0]].lower_is_better else ""
    return " / ".join(METRICS[name].title for name in names) + end


def _measured_rows(results: Results, names: Sequence[str]) -> list[list[str]]:
    rows = [
        [_text(method), *(_cell(results, names, method, c) for c in results.conditions)]
        for method in results.methods
    ]
    if any(METRICS[name].has_truth for name in names):
        rows.append([TRUTH, *[_cell(results, names, TRUTH, "")] * len(results.conditions)])
    return rows


def _cell(
    results: Results, names: Sequence[str], method: str, condition: str, clip: str = ""
) -> str:
    return _joined(names, lambda name: results.mean(name, method, condition, clip))


def _joined(names: Sequence[str], value_of: Callable[[str], float | None]) -> str:
    """Such as 22.85 / 0.563."""
    values = [(METRICS[name], value_of(name)) for name in names]
    if all(value is None for _, value in values):
        return _NONE
    return " / ".join(
        _NONE if value is None else f"{metric.factor * value:.{metric.digits}f}"
        for metric, value in values
    )


def _by_clip(results: Results, names: Sequence[str]) -> str:
    rows = [
        [_text(method), condition]
        + [_cell(results, names, method, condition, clip) for clip in results.frames]
        for condition in results.conditions
        for method in results.methods
    ]
    header = [_title(names), "", *map(_text, results.frames)]
    return markdown_table(header, rows)


def _text(name: str) -> str:
    """A name that a cell can hold."""
    return " ".join(name.replace("|", r"\|").split())


# --- Published rows -------------------------------------------------------------------------


def _is_fidelity_of(known: KnownSet, names: Sequence[str]) -> bool:
    return set(names) <= set(_FIDELITY[known.channels])


def _published_rows(
    results: Results, known: KnownSet | None, names: Sequence[str]
) -> list[list[str]]:
    if known is None or not _is_fidelity_of(known, names):
        return []
    subsampling = _papers_subsampling(results)
    rows = []
    for row in known.rows:
        cells = [_published_cell(row, names, c, subsampling) for c in results.conditions]
        if any(cell != _NONE for cell in cells):
            rows.append([f"*{row.method}, published*", *cells])
    return rows


def _papers_subsampling(results: Results) -> str:
    """Where published values stand: beside 4:4:4, as the papers' commands give, if there is any."""
    found = [label[-5:] for label in results.conditions if _LABEL.fullmatch(label)]
    return "4:4:4" if "4:4:4" in found else "4:2:0"


def _published_cell(
    row: PublishedRow, names: Sequence[str], condition: str, subsampling: str
) -> str:
    crf = None
    if label := _LABEL.fullmatch(condition):
        if label["subsampling"] != subsampling:
            return _NONE
        crf = float(label["crf"])
    values = row.values.get(crf)
    if values is None:
        return _NONE
    by_kind = dict(zip(("psnr", "ssim"), values, strict=True))
    return _joined(names, lambda name: by_kind[name.split("_")[0]])


def _note(known: KnownSet, results: Results) -> str:
    """What to know of the published rows."""
    sources = "; ".join(dict.fromkeys(row.source for row in known.rows))
    note = f"Rows in italics were not measured here: {known.name} as published ({sources})."
    if _papers_subsampling(results) == "4:2:0":
        note += " The papers' commands code RGB pictures, which x264 keeps at 4:4:4."
    return note
