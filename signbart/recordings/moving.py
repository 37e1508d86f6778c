"""Animated pictures (GIF) of any length, in the memory of a few."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

# Pictures in memory. More are no faster: each is compressed by itself.
_AT_ONCE = 32
_LONGEST = 655_350  # milliseconds that a GIF can show a picture
_TABLE, _TABLE_SIZE = 0x80, 0x07  # bits that say whether there are colours, and how many
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0xF9  # the extension that begins a picture: how long it is shown


def write_moving(pictures: Iterable[Any], file: IO[bytes], milliseconds: int) -> None:
    """Writes pictures as Pillow would, byte for byte, some at a time.

    Pillow collects all that it is given before it writes the first. What it writes of a picture
    depends on the one before alone, so the last one of some is given again with the next.

    Args:
        pictures: Of Pillow, at least one, of one size and of few colours.
        file: Takes the GIF.
        milliseconds: How long each is shown.
    """
    runs = _runs(pictures, milliseconds)
    before: list[tuple[Any, int]] = []
    while some := list(islice(runs, _AT_ONCE)):
        head, blocks = _split(_encoded([*before, *some]))
        file.write(b"".join(blocks[1:] if before else [head, *blocks]))
        before = some[-1:]
    file.write(bytes([_END]))


def _runs(pictures: Iterable[Any], milliseconds: int) -> Iterator[tuple[Any, int]]:
    """Pictures that differ from the one before, and how long each is shown."""
    shown, pixels, length = None, None, 0
    for picture in pictures:
        if (now := picture.tobytes()) != pixels:
            if shown is not None:
                yield shown, min(length, _LONGEST)
            shown, pixels, length = picture, now, 0
        length += milliseconds
    yield shown, min(length, _LONGEST)


def _encoded(some: list[tuple[Any, int]]) -> bytes:
    (first, *rest), lengths = zip(*some, strict=True)
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest,
               duration=list(lengths), loop=0)  # fmt: skip
    return buffer.getvalue()


def _split(content: bytes) -> tuple[bytes, list[bytes]]:
    """A GIF's beginning, and the bytes of each of its pictures."""
    at = 13 + _colours(content[10])
    begun, ends = None, []
    while content[at] != _END:
        kind = content[at]
        if begun is None and (kind == _IMAGE or content[at + 1] == _CONTROL):
            begun = at
        # Then follow pieces of up to 255 bytes, each behind its length, up to an empty one.
        at += 2 if kind == _EXTENSION else 11 + _colours(content[at + 9])
        while content[at]:
            at += 1 + content[at]
        at += 1
        if kind == _IMAGE:
            ends.append(at)
    starts = [begun, *ends[:-1]]
    return content[:begun], [content[a:b] for a, b in zip(starts, ends, strict=True)]


def _colours(flags: int) -> int:
    """Bytes of the table of colours that `flags` tell of."""
    return 3 << (flags & _TABLE_SIZE) + 1 if flags & _TABLE else 0
