"""Tensors out of the pickles that ``torch.save`` writes, in NumPy and without running any of it.

Both formats: the zip archive, and the sequence of pickles before PyTorch 1.6. What a pickle asks to
be made is looked up in a short list; everything else becomes an `Inert` object, which takes
whatever is done to it and does nothing. So a checkpoint may hold a trainer's arguments, callbacks
or a whole module beside its weights, and nobody has to trust it.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from signbart.errors import CheckpointError
from signbart.memory import raise_shortage, read_whole

# PyTorch's storages by class name. bfloat16, which NumPy lacks, is read as its 16 bits.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
_STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("f8"),
    "FloatStorage": np.dtype("f4"),
    "HalfStorage": np.dtype("f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_MOST_MODULES = 5_000  # in a network
# torch/serialization.py: what the old format begins with.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Inert:
    """Stands for an object whose class is not known; keeps its state, computes nothing."""

    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any):
        """Takes what the class that it stands for would."""

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """What a call of it gives."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def _ignore(self, *args: Any) -> None:
        """What is appended, added or set."""

    append = extend = add = update = __setitem__ = _ignore


def read_torch_file(path: Path) -> Any:
    """What ``torch.save`` wrote, with arrays for tensors and `Inert` objects for strange ones.

    Raises:
        CheckpointError: The file is cut, damaged, or not of this kind; nothing in it was executed.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _read_zip(archive, path.stat().st_size)
        # From memory: a file makes room for as many bytes as it is asked for, before it looks.
        content = read_whole(path)
        return _read_legacy(io.BytesIO(content), len(content))
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from None
    # On damaged bytes unpickling fails with every kind: KeyError, UnicodeError, OverflowError.
    except Exception as error:
        raise_shortage(path, error)
        reason = (str(error).strip().splitlines() or [""])[0][:120] or type(error).__name__
        raise CheckpointError(
            f"{path} is cut or damaged, or no checkpoint of plain tensors (nothing in it was "
            f"executed): {reason}; get it again"
        ) from None


def _read_zip(archive: zipfile.ZipFile, size: int) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    (pickled,) = (name for name in members if name.split("/", 1)[1:] == ["data.pkl"])
    # PyTorch stores without compression; what unpacks to more than the file is no checkpoint.
    if sum(info.file_size for info in members.values()) > size:
        raise CheckpointError("is compressed, and PyTorch compresses nothing; get it again")
    folder = pickled.removesuffix("data.pkl")
    order = archive.read(folder + "byteorder") if folder + "byteorder" in members else b"little"
    storages: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        if key not in storages:
            content = bytearray(archive.read(f"{folder}data/{key}"))
            storages[key] = np.frombuffer(content, dtype, count)
            if order == b"big":
                storages[key] = storages[key].byteswap()
        return storages[key]

    return _unpickle(io.BytesIO(archive.read(pickled)), storage)


def _read_legacy(file: BinaryIO, size: int) -> Any:
    storages: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        if not 0 <= count * dtype.itemsize <= size:
            raise CheckpointError(f"is cut: {count} values should follow")
        return storages.setdefault(key, np.zeros(count, dtype))  # filled below, through its views

    if _unpickle(file, storage) != _LEGACY_MAGIC:
        raise CheckpointError("is a pickle, but none of torch.save; nothing in it was executed")
    _unpickle(file, storage)  # the version of the format
    _unpickle(file, storage)  # byte order and sizes of the machine
    content = _unpickle(file, storage)
    for key in _unpickle(file, storage):
        file.read(8)  # how many values follow, which is known
        values = storages[key]
        raw = file.read(values.nbytes)
        values[:] = np.frombuffer(raw, values.dtype, len(values))
    return content


def _unpickle(file: BinaryIO, storage: Callable[[np.dtype, str, int], np.ndarray]) -> Any:
    """The next pickle of `file`; its storages come from `storage`."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        # Python's unpickler makes room for as many objects as the highest number says.
        if opcode.name in ("PUT", "LONG_BINPUT") and argument > file.tell():
            raise CheckpointError("is damaged: it numbers more objects than it can hold")
    file.seek(start)

    # A pickle gets numbers for storages and names for their kinds: it may set any object's state,
    # and NumPy believes what it is told.
    given: list[np.ndarray] = []

    def rebuild(at: int, *rest: Any) -> np.ndarray:
        return _view(given[at], *rest[:3])

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module in ("torch", "torch.storage") and name in _STORAGES:
                return name
            # Made anew for each file, which may write into what it is given.
            known = {
                ("collections", "OrderedDict"): OrderedDict,
                ("torch._utils", "_rebuild_tensor"): lambda at, *rest: _view(given[at], *rest[:3]),
                ("torch._utils", "_rebuild_tensor_v2"): lambda at, *rest: _view(
                    given[at], *rest[:3]
                ),
                ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
                ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
                ("torch.nn.parameter", "Parameter"): lambda data, *_: data,
            }
            return known.get((module, name)) or type(name, (Inert,), {"__module__": module})

        def persistent_load(self, pid: Any) -> Any:
            _, dtype, key, _, count, *_ = pid
            if not isinstance(dtype, str) or dtype not in _STORAGES:
                raise CheckpointError(f"holds tensors of an unknown kind ({str(dtype)[:80]})")
            given.append(storage(_STORAGES[dtype], str(key), count))
            return len(given) - 1

    return Unpickler(file).load()


def _view(storage: np.ndarray, offset: int, size: tuple, stride: tuple) -> np.ndarray:
    """A tensor in its storage, only where all of it lies inside."""
    if math.prod(size) == 0:
        return np.empty(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    inside = min(offset, *size, *stride, 0) >= 0 and last < len(storage)
    if not inside or math.prod(size) > len(storage):
        raise CheckpointError("is damaged: a tensor is larger than what is stored of it")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def attribute_of(module: Inert, name: str) -> Any:
    """What a pickled module says under a dotted name, such as ``layers.0.num_heads``; else None."""
    found: Any = module
    for part in name.split("."):
        state = found.state if isinstance(found, Inert) else found
        if not isinstance(state, dict):
            return None
        children = state.get("_modules")
        inner = dict.get(children, part) if isinstance(children, dict) else None
        found = dict.get(state, part) if inner is None else inner
    return found


def module_tensors(module: Inert) -> dict[str, np.ndarray]:
    """The state dict of a whole pickled module, which nobody had to build.

    Raises:
        CheckpointError: It has more modules in it than any network, since it holds itself.
    """
    found: dict[str, np.ndarray] = {}
    left, visited = [("", module)], 0
    while left:
        prefix, one = left.pop()
        visited += 1
        if visited > _MOST_MODULES:
            raise CheckpointError(f"more than {_MOST_MODULES} modules in one another")
        state = one.state if isinstance(one.state, dict) else {}
        for group in ("_parameters", "_buffers"):
            values = state.get(group)
            for name, value in dict.items(values) if isinstance(values, dict) else ():
                if isinstance(value, np.ndarray):
                    found[f"{prefix}{name}"] = value
        children = state.get("_modules")
        for name, child in dict.items(children) if isinstance(children, dict) else ():
            if isinstance(child, Inert):
                left.append((f"{prefix}{name}.", child))
    return found
