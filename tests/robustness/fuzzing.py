"""Damaged and hostile inputs, drawn by a seed, and what readers make of them.

Inputs are read in a forked child: one that ends the process, takes minutes or gigabytes, runs
something or writes elsewhere is named, and the tests go on.
"""

import copy
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signbart.errors import SignBartError

LONGEST = 60  # seconds of an input
MOST = 2 << 20  # KiB that the process may grow by
# Values that nobody expects, of every type that JSON and YAML have.
ODD = (
    None, True, -1, 0, 2**31, 2**63, 10**40, 1e308, float("nan"), float("inf"), "", " ",
    "x" * 10**5,
    "\n\0\x1b[31m", "../../etc/passwd", "é", [], {}, [[]], [None], {"a": 1}, [0] * 1000,
)  # fmt: skip
_NUMBERS = (0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_DIGITS = (b"-1", b"0", b"99999999999", b"1e400", b"NaN", b"9" * 40, b"9" * 5000, b"")
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """A few bits, numbers, pieces or the end of a file changed; blind to what it is."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5, 30))):
        size = len(changed)
        if size < 4:
            break
        at = draw.choice((draw.randrange(size), draw.randrange(min(size, 200))))
        piece = draw.choice((1, 4, 16, 100, 1000))
        way = draw.choice(("bit", "number", "cut", "remove", "insert", "repeat", "digits"))
        if way == "bit":
            changed[at] ^= 1 << draw.randrange(8)
        elif way == "number":
            changed[at & ~3 : (at & ~3) + 4] = struct.pack("<I", draw.choice((*_NUMBERS, size)))
        elif way == "cut":
            del changed[at:]
        elif way == "remove":
            del changed[at : at + piece]
        elif way == "insert":
            changed[at:at] = draw.randbytes(piece)
        elif way == "repeat":
            changed[at:at] = changed[at : at + piece]
        elif found := [*re.finditer(rb"\d+", bytes(changed[:10_000]))]:
            start, end = draw.choice(found).span()
            changed[start:end] = draw.choice(_DIGITS)
    return bytes(changed)


def damaged_tree(tree: Any, draw: random.Random) -> Any:
    """JSON's containers with a value or a key of them changed, removed or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 2))):
        places = [*_places(tree, draw.choice((1, 2, 3, 9)))]
        if not places:
            return draw.choice(ODD)
        owner, key = draw.choice(places)
        way = draw.choice(("set", "set", "set", "remove", "rename", "negative"))
        if way == "remove":
            del owner[key]
        elif way == "rename" and isinstance(owner, dict):
            owner[draw.choice(("", "x", f"{key}\n"))] = owner.pop(key)
        elif way == "negative" and type(owner[key]) in (int, float):
            owner[key] = -owner[key]
        else:
            owner[key] = copy.deepcopy(draw.choice(ODD))
    return tree


def _places(tree: Any, deepest: int) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in [*items][:60]:
        yield tree, key
        if deepest > 1 and isinstance(value, dict | list):
            yield from _places(value, deepest - 1)


def damaged_json(content: bytes, draw: random.Random) -> bytes:
    """A JSON text of a damaged tree, or damaged itself."""
    if draw.random() < 0.3:
        return damaged_bytes(content, draw)
    return json.dumps(damaged_tree(json.loads(content), draw)).encode()


@dataclass(frozen=True)
class Border:
    """Where files of others come in.

    Attributes:
        name: Of the format.
        sound: A file or folder that is read without a complaint.
        damage: Changes one file's bytes.
        read: Reads the file or folder, as commands do.
        files: Which files of a folder may be damaged.
    """

    name: str
    sound: Path
    damage: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], object]
    files: str = "*"


def try_border(border: Border, folder: Path, seed: int, count: int) -> list[str]:
    """Damages and reads it so often; what was no clean refusal, in words.

    `folder` receives the damaged files; that of a fault stays.
    """
    context = multiprocessing.get_context("fork")
    faults, done = [], 0
    progress = folder / "at"
    while done < count:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(
            target=_try, args=(border, folder, seed, done, count, progress, sending)
        )
        process.start()
        sending.close()
        begun, at = time.monotonic(), done
        while process.is_alive() and time.monotonic() - begun < LONGEST:
            process.join(0.05)
            now = int(progress.read_text() or 0) if progress.is_file() else done
            begun, at = (time.monotonic(), now) if now != at else (begun, at)
        if process.is_alive():
            process.kill()
            process.join()
            faults.append(f"{border.name} #{at}: takes over {LONGEST} s")
        elif process.exitcode:
            faults.append(f"{border.name} #{at}: ends the process: {process.exitcode}")
        while receiving.poll():
            try:
                faults.append(receiving.recv())
            except EOFError:
                break
        receiving.close()
        done = count if not process.exitcode and not process.is_alive() else at + 1
    return faults


def _try(border, folder, seed, start, count, progress, sending) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    seen: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if event.startswith(_STARTS):
            seen.append(f"{event} {str(arguments)[:100]}")
        writes = event == "open" and (arguments[2] or 0) & os.O_ACCMODE != os.O_RDONLY
        if writes and isinstance(arguments[0], str):
            path = os.path.realpath(arguments[0])
            if not path.startswith((str(folder), os.devnull)):
                seen.append(f"writes {path}")

    sys.addaudithook(watch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at in range(start, count):
        progress.write_text(str(at))
        place, damaged = _damaged(border, folder, random.Random(f"{seed} {border.name} {at}"))
        seen.clear()
        fault = ""
        try:
            border.read(place)
        except SignBartError as error:
            if damaged.name not in str(error) and place.name not in str(error):
                fault = f"names no file: {error}"
        except BaseException as error:
            trace = error.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            code = trace.tb_frame.f_code
            fault = (
                f"{type(error).__name__}: {str(error)[:100]} ({code.co_filename}:{code.co_name})"
            )
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > MOST:
            fault, before = f"takes {grown >> 10} MiB", before + grown
        fault = "; ".join([*([fault] if fault else []), *seen])
        if fault:
            kept = place.rename(folder / f"fault_{at}_{place.name}")
            sending.send(f"{border.name} #{at}: {fault} ({kept})")


def _damaged(border: Border, folder: Path, draw: random.Random) -> tuple[Path, Path]:
    """A damaged copy of what is sound, and the file in it that was damaged."""
    place = folder / border.sound.name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    if border.sound.is_dir():
        shutil.copytree(border.sound, place)
        files = sorted(path for path in place.rglob(border.files) if path.is_file())
        file = draw.choice(files)
    else:
        file = Path(shutil.copyfile(border.sound, place))
    file.write_bytes(border.damage(file.read_bytes(), draw))
    return place, file
