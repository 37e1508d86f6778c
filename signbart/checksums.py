"""A SHA-256 that travels inside a file, so that damage is noticed before its answers are believed.

It is over every byte of the file, its own 64 digits read as zeros: nothing in the file is left out,
labels and configuration as little as weights. Where the digits stand:

- ``.tflite``: at the very end, in the comment of the zip archive that holds the metadata.
- ``.onnx``: at the very end, in a last entry of ``metadata_props``. Protocol buffers that stand one
  behind the other are one, so no byte of the model has to be parsed for it.
- ``.safetensors``: in the header, under ``__metadata__``.

Other files have no such place. A ``.keras`` does without: its zip archive carries a CRC-32 of each
member. A ``.weights.h5`` and other programs' files carry nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import struct
import sys
from pathlib import Path

from signbart.errors import SignBartError
from signbart.memory import read_whole

KEY = "signbart-sha256"  # in the header of a .safetensors
UNSET = "0" * 64
_MARK = KEY.encode()
_ZIP_END_MARK = b"PK\5\6"
_ZIP_END = struct.Struct("<4s4H2LH")  # "end of central directory", up to its comment
# Field 14 of ModelProto, a message of two texts: fields 1, the mark, and 2, the digits.
_ONNX_TAIL = b"\x72\x53\x0a\x0f" + _MARK + b"\x12\x40"
_ZIP_TAIL = _MARK + b":"
_TAILS = {".tflite": _ZIP_TAIL, ".onnx": _ONNX_TAIL}
_DIGITS = re.compile(rb"[0-9a-f]{64}")
_IN_HEADER = b'"%s":"' % _MARK
_OURS = b'"signbart-1"'  # the format that headers of this project's checkpoints name
_NEAR = 256  # bytes at the end of a file in which a mark that was moved is looked for


def add_checksum_argument(parser: argparse.ArgumentParser) -> None:
    """For those who edit files on purpose."""
    parser.add_argument(
        "--no-checksum",
        dest="checksum",
        action="store_false",
        help="take a file in spite of a checksum that does not fit",
    )


class ChecksumError(SignBartError):
    """A file is not the one that its checksum was made of."""


def append_checksum(path: Path) -> None:
    """Adds the checksum to a .tflite with its metadata, or to an .onnx; in place.

    Raises:
        ChecksumError: It is no such file, or has one already.
    """
    content, tail = read_whole(path), _TAILS.get(path.suffix)
    if tail is None or _place(path, content) is not None:
        raise ChecksumError(f"{path}: has a checksum already, or no place for one")
    if path.suffix == ".tflite":
        start = len(content) - _ZIP_END.size
        fields = _ZIP_END.unpack_from(content, start) if start >= 0 else (b"",)
        if fields[0] != _ZIP_END_MARK:
            raise ChecksumError(f"{path}: carries no metadata, which the checksum is put behind")
        content = content[:start] + _ZIP_END.pack(*fields[:-1], len(tail) + len(UNSET))
    content += tail + UNSET.encode()
    path.write_bytes(with_checksum(content, len(content) - len(UNSET)))


def with_checksum(content: bytes, at: int | None = None) -> bytes:
    """A file's bytes with the digits set; `at` is their place, by default that of a .safetensors.

    There `UNSET` stands under `KEY`.
    """
    if at is None:
        at = content.index(_IN_HEADER) + len(_IN_HEADER)
    return content[:at] + _digest(content, at).encode() + content[at + len(UNSET) :]


def checksum_holds(path: str | Path) -> bool:
    """Whether a file carries a checksum; it is what it was made of, then.

    Raises:
        ChecksumError: It is not. The message names both.
        OSError: The file cannot be read.
    """
    path = Path(path)
    content = read_whole(path)
    at = _place(path, content)
    if at is None:
        return False
    said = content[at : at + len(UNSET)].decode("ascii", "replace") if at >= 0 else ""
    found = _digest(content, max(at, 0))
    if found != said:
        says = f"says {said[:12]}…" if said else "has it cut off or moved"
        raise ChecksumError(
            f"{path}: damaged, or changed since it was made: its SHA-256 is {found[:12]}…, and the "
            f"file itself {says}; get or make it again, or, if it was changed on purpose, give "
            "--no-checksum beside it"
        )
    return True


def require_checksum(path: str | Path, checked: bool = True) -> None:
    """As `checksum_holds`; a file without one is not refused but named on stderr.

    Nothing is looked at where it is not to be `checked`, there is no such file, or files of its
    kind carry none.
    """
    path = Path(path)
    if not checked or path.suffix not in (*_TAILS, ".safetensors") or not path.is_file():
        return
    if not checksum_holds(path):
        print(f"note: {path} carries no checksum: damage would not be noticed", file=sys.stderr)


def _digest(content: bytes, at: int) -> str:
    view = memoryview(content)
    digest = hashlib.sha256(view[:at])
    digest.update(UNSET.encode())
    digest.update(view[at + len(UNSET) :])
    return digest.hexdigest()


def _place(path: Path, content: bytes) -> int | None:
    """Where the digits stand; -1 where they are cut off or moved, None where there are none.

    No single damaged byte makes a checksum disappear: the digits alone, or the mark alone, do.
    """
    if path.suffix == ".safetensors":
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        if (at := header.find(_IN_HEADER)) >= 0:
            return 8 + at + len(_IN_HEADER)
        found = re.search(rb':"([0-9a-f]{64})"', header) if _OURS in header else None
        return 8 + found.start(1) if found else None
    tail = _TAILS.get(path.suffix)
    at = len(content) - len(UNSET)
    if tail is None or at < len(tail):
        return None
    if content.endswith(tail, 0, at) or _DIGITS.fullmatch(content, at):
        return at
    near = content[-_NEAR:]
    end = near.rfind(_ZIP_END_MARK)
    promised = 0  # bytes of the archive's comment, which outlive it
    if tail == _ZIP_TAIL and 0 <= end <= len(near) - _ZIP_END.size:
        promised = _ZIP_END.unpack_from(near, end)[-1]
    return -1 if _MARK in near or promised == len(tail) + len(UNSET) else None
