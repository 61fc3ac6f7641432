"""Whether a recipe's chain works out, in whatever order and with whatever branches it is drawn."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from schemas.codec_stage import CodecStage
from schemas.stages import (
    ChoiceStage,
    DenoiseStage,
    DownscaleStage,
    ResizeStage,
    RetimeStage,
    ShuffleStage,
    Stage,
)

# What matters of a chain, a letter a stage; a stage that divides the size by 2 is the digit 2, and
# one that does so with the gaussian kernel is g2.
_RESIZE, _GAUSSIAN, _DOWNSCALE, _BD = "r", "g", "d", "b"
_CODEC, _SLOW_CODEC, _RETIME, _DENOISE = "c", "s", "t", "n"
_REPEATABLE = {_RESIZE, _CODEC, _SLOW_CODEC, _RETIME, _DENOISE}
_BD_SCALE = 4


def check_chain(name: str, shared: Sequence[Stage], own: Sequence[Stage], scale: int) -> None:
    """Refuse a chain that can be drawn in a way that does not work.

    Args:
        name: of the stream, for messages.
        shared: stages before the streams part.
        own: the stream's stages. The last codec among them writes the stored bitstream.
        scale: HR size over LR size.

    Raises:
        ValueError: if a draw could miss the LR size, or leave a stored stream without a frame.
    """
    for before in sorted(_sequences(shared)):
        for letters in sorted(_sequences(own)):
            if problem := _size_problem(before + letters, scale) or _stored_problem(letters):
                raise ValueError(f"stream {name!r}: {problem}")


def flat(stages: Iterable[Stage]) -> Iterator[Stage]:
    """Every stage that may be drawn, those inside shuffles and choices included."""
    for stage in stages:
        match stage:
            case ChoiceStage():
                yield from flat(itertools.chain(*(branch.stages for branch in stage.branches)))
            case ShuffleStage():
                yield from flat(itertools.chain(*stage.groups))
            case _:
                yield stage


def _size_problem(letters: str, scale: int) -> str:
    downscales = [i for i, letter in enumerate(letters) if letter in (_DOWNSCALE, _BD)]
    if len(downscales) != 1:
        return f"needs exactly one downscale stage, may have {len(downscales)}"
    if _is_resized(letters[downscales[0] :]):
        return "a resize stage may come after the downscale stage"
    if _BD in letters and (_is_resized(letters) or scale != _BD_SCALE):
        return "the bd kernel is the x4 downscale of an unresized HR patch"
    return _gaussian_problem(letters, scale)


def _is_resized(letters: str) -> bool:
    return any(letter == _RESIZE or letter.isdigit() for letter in letters)


def _gaussian_problem(letters: str, scale: int) -> str:
    """The gaussian kernel shrinks by whole factors; HR sizes are multiples of 2 * scale."""
    divisor = 1
    for before, letter in itertools.pairwise(" " + letters):
        if letter == _RESIZE:
            divisor = 0  # what is left of the size is anything
        if letter.isdigit():
            divisor *= int(letter)
        if before == _GAUSSIAN and (not divisor or 2 * scale % divisor):
            return (
                "the gaussian kernel divides the size by a whole number: no random resize stage "
                f"comes before it, and all divisors together divide {2 * scale} (2 * scale)"
            )
    return ""


def _stored_problem(letters: str) -> str:
    """The reference decoder does what comes after the last codec, frame by frame."""
    last_codec = max(letters.rfind(_CODEC), letters.rfind(_SLOW_CODEC))
    if last_codec < 0:
        return ""
    if letters[last_codec] == _SLOW_CODEC:
        return "the last codec may have a frame_rate_ratio: its bitstream needs every frame"
    if _RETIME in letters[last_codec:]:
        return "a retime stage may come after the last codec"
    if _DENOISE in letters[last_codec:]:
        return "a denoise stage may come after the last codec"
    return ""


def _sequences(stages: Sequence[Stage]) -> set[str]:
    """Every way to draw the stages, as letters; equal neighbours count as one."""
    found = {""}
    for stage in stages:
        ways = _ways(stage)
        found = {_squeeze(head + tail) for head in found for tail in ways}
    return found


def _ways(stage: Stage) -> set[str]:
    ways = set(_certain_ways(stage))
    if isinstance(stage, DownscaleStage) or stage.probability == 1:
        return ways
    return ways | {""} if stage.probability else {""}


def _certain_ways(stage: Stage) -> Iterable[str]:
    match stage:
        case ResizeStage():
            is_gaussian = "gaussian" in stage.kernels
            whole = stage.whole_shrink
            size = str(whole) if 1 < whole < 10 else _RESIZE
            return [(_GAUSSIAN if is_gaussian else "") + size]
        case DownscaleStage():
            return {_BD if kernel == "bd" else _DOWNSCALE for kernel in stage.kernels}
        case CodecStage():
            return [_CODEC if stage.frame_rate_ratio == 1 else _SLOW_CODEC]
        case RetimeStage():
            return [_RETIME]
        case DenoiseStage():
            return [_DENOISE]
        case ChoiceStage():
            taken = [branch.stages for branch in stage.branches if branch.weight]
            return itertools.chain.from_iterable(_sequences(stages) for stages in taken)
        case ShuffleStage():
            return _shuffled(stage)
    return [""]


def _shuffled(stage: ShuffleStage) -> set[str]:
    ways = [_sequences(group) for group in stage.groups]
    # Groups that change nothing that matters may stand anywhere.
    mattering = [number for number, way in enumerate(ways) if way != {""}]
    kept = [number for number in stage.keep_order if number in mattering]
    # (groups so far, letters so far): far fewer than there are orders.
    found = {(frozenset[int](), "")}
    for _ in mattering:
        found = {
            (used | {number}, _squeeze(letters + way))
            for used, letters in found
            for number in mattering
            if number not in used and used.issuperset(_before(number, kept))
            for way in ways[number]
        }
    return {letters for _, letters in found}


def _before(number: int, kept: list[int]) -> list[int]:
    return kept[: kept.index(number)] if number in kept else []


def _squeeze(letters: str) -> str:
    # Two downscales are one too many, and must still be seen; divisors multiply.
    return "".join(
        letter
        for before, letter in zip(" " + letters, letters, strict=False)
        if letter != before or letter not in _REPEATABLE
    )
