"""Media of every kind that is read, and damage to it, by number: equal seeds give equal files."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pictures import moving_clip, texture
from tests.synthetic import write_video

_SIDES = (72, 80)
_VIDEOS = {
    "h264.mp4": "libx264",
    "h264.mkv": "libx264",
    "h264.ts": "libx264",
    "h264.flv": "libx264",
    "h264.nut": "libx264",
    "h264.h264": "libx264",
    "hevc.mp4": "libx265",
    "vp9.webm": "libvpx-vp9",
    "av1.mp4": "libsvtav1",
    "mpeg4.avi": "mpeg4",
    "mpeg2.mpg": "mpeg2video",
    "mpeg2.mxf": "mpeg2video",
    "mjpeg.mov": "mjpeg",
    "ffv1.mkv": "ffv1",
}
_PICTURES = ("png", "jpg", "webp", "tif")


def write_seeds(folder: Path) -> list[Path]:
    """A small sound file of each kind, two of pictures (8 bits, and grey or deep)."""
    folder.mkdir()
    frames = moving_clip(6, *_SIDES, seed=1)
    seeds = []
    for name, codec in _VIDEOS.items():
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        path = folder / name
        seeds.append(
            write_video(path, frames, codec=codec, pixel_format=pixel_format, options=options)
        )
    for suffix in _PICTURES:
        picture = Image.fromarray(texture(*_SIDES, 2))
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(folder / f"rgb.{suffix}", exif=exif)
        picture.convert("L").save(folder / f"grey.{suffix}")
        seeds += [folder / f"rgb.{suffix}", folder / f"grey.{suffix}"]
    deep = texture(*_SIDES, 3)[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    return [*seeds, folder / "deep.png"]


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3, 30))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _damage_header(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 8))):
        data[chance.randrange(min(len(data), 400))] = chance.randrange(256)


def _lie(data: bytearray, chance: random.Random) -> None:
    """Put an extreme number where perhaps a length or a count is."""
    at = chance.randrange(min(len(data), chance.choice((64, 1024, 10**6))))
    size = chance.choice((1, 2, 4, 8))
    number = chance.choice((0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size) - 1, 2 ** (4 * size)))
    data[at : at + size] = number.to_bytes(size, chance.choice(("big", "little")))


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 2000)]
    at = chance.randrange(len(data))
    data[at:at] = piece * chance.choice((1, 2, 50))


def _cut_out(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 500)]


def _blank(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.randrange(1, 2000))
    data[start:end] = bytes([chance.choice((0, 255))]) * (end - start)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _truncate,
    _flip_bits,
    _damage_header,
    _lie,
    _lie,
    _repeat,
    _cut_out,
    _blank,
)


def mutated(seeds: list[Path], folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write `count` damaged files, one to three damages each; names tell number and origin."""
    folder.mkdir()
    contents = [path.read_bytes() for path in seeds]
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        index = number % len(seeds)
        data = bytearray(contents[index])
        for _ in range(chance.choice((1, 1, 2, 3))):
            if data:
                chance.choice(MUTATIONS)(data, chance)
        path = folder / f"{number:06d}-{seeds[index].name}"
        path.write_bytes(data)
        yield path
