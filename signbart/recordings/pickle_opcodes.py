"""Pickles read without trusting them: their opcodes, run by a loop that can call nothing.

`pickletools` cuts the file into opcodes, and the loop here understands only those that plain
containers and NumPy arrays are written with. No unpickler runs, so nothing is imported and nothing
is called but the functions of `_CONSTRUCTORS`, all of them below. An `Unpickler` with a strict
``find_class`` would not do: a few bytes of its memo opcode ask for any amount of memory, nested
tuples as a dictionary key overflow the C stack, and NumPy's own ``dtype.__setstate__`` believes any
memory layout that it is told, pointers to objects included.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

_DTYPE_CODE = re.compile(r"[<>|=]?(f(2|4|8|16)|[iu][1248]|b1|U[1-9]\d{0,3})")

_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
# What a damaged file makes the opcodes do: an empty stack, an absent memo, a wrong argument …
DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class Unreadable(Exception):
    """What stands in the file is understood, and is not a recording."""


class _DType:
    """A NumPy dtype as pickles build it: first the code, then the byte order."""

    def __init__(self, code: object):
        if type(code) is not str:
            raise ValueError("a dtype's code is not text")
        if not _DTYPE_CODE.fullmatch(code):
            raise Unreadable(
                f"holds a NumPy array of dtype {code[:40]!r}; save 'keypoints' as float32 numbers"
            )
        self.value = np.dtype(code)

    def build(self, state: tuple) -> None:
        # The rest of the state describes structured dtypes, whose codes are refused above.
        order = state[1]
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


class PickledArray:
    """A NumPy array as pickles build it: empty at first, then shape, dtype and data.

    Of a masked array, a point of which a coordinate is masked becomes (0, 0), missing.
    """

    def __init__(self, value: np.ndarray | None = None, *, masked: bool = False):
        self.value = value
        self._masked = masked

    def build(self, state: tuple) -> None:
        """Takes what the pickle says of shape, dtype and data."""
        if self._masked:
            _, shape, dtype, fortran, data, mask, _ = state
        else:
            _, shape, dtype, fortran, data = state
        order = "F" if fortran else "C"
        self.value = _from_bytes(data, dtype, shape, order)
        if self._masked:
            hidden = _from_bytes(mask, _DType("b1"), shape, order)
            if hidden.ndim == 3:
                hidden = hidden.any(axis=-1, keepdims=True)
            self.value = np.where(hidden, 0, self.value)


def _from_bytes(data: object, dtype: object, shape: object, order: str) -> np.ndarray:
    if (
        type(data) not in (bytes, bytearray)
        or type(dtype) is not _DType
        or type(shape) is not tuple
    ):
        raise ValueError("an array's data, dtype or shape is of the wrong kind")
    # A length of -1 would mean "whatever is left".
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array's shape is not made of lengths")
    return np.frombuffer(data, dtype.value).reshape(shape, order=order)


def _new_array(subtype: object, shape: object, typecode: object) -> PickledArray:
    del shape, typecode  # placeholders: `PickledArray.build` gets the real ones
    if subtype is not _ndarray:
        raise ValueError("an array of a class that is not numpy.ndarray")
    return PickledArray()


def _new_masked_array(
    subtype: object, base: object, shape: object, typecode: object
) -> PickledArray:
    del shape, typecode
    if subtype is not _masked_array or base is not _ndarray:
        raise ValueError("a masked array of classes that are not NumPy's")
    return PickledArray(masked=True)


def _masked_array(*_: object) -> None:
    """Stands for ``numpy.ma.MaskedArray``, which pickles name and never call."""
    raise ValueError("numpy.ma.MaskedArray is called")


def _ndarray(*_: object) -> None:
    """Stands for ``numpy.ndarray``, which pickles name and never call."""
    raise ValueError("numpy.ndarray is called")


def _new_dtype(code: object, align: object = False, copy: object = False) -> _DType:
    del align, copy
    return _DType(code)


def _scalar(dtype: object, data: object) -> object:
    return _from_bytes(data, dtype, (1,), "C")[0].item()


def _array_from_buffer(
    buffer: object, dtype: object, shape: object, order: object, axes: object = None
) -> PickledArray:
    if order != "K":
        return PickledArray(_from_bytes(buffer, dtype, shape, "F" if order == "F" else "C"))
    return PickledArray(_from_bytes(buffer, dtype, shape, "C").transpose(axes))


def _latin1(text: object, encoding: object) -> bytes:
    """Protocols 0 to 2 write bytes as text; this is the only encoding that they use."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("bytes in an encoding that is not latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _new_dtype,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("numpy.ma.core", "_mareconstruct"): _new_masked_array,
    ("numpy.ma.core", "MaskedArray"): _masked_array,
    ("numpy.ma", "MaskedArray"): _masked_array,
}
for _core in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS[f"{_core}.multiarray", "_reconstruct"] = _new_array
    _CONSTRUCTORS[f"{_core}.multiarray", "scalar"] = _scalar
    _CONSTRUCTORS[f"{_core}.numeric", "_frombuffer"] = _array_from_buffer


def _find(module: object, name: object) -> Callable[..., object]:
    if type(module) is not str or type(name) is not str:
        raise ValueError("a name that is not text")
    try:
        return _CONSTRUCTORS[module, name]
    except KeyError:
        raise Unreadable(
            f"refused: the pickle asks for {f'{module}.{name}'[:80]!r}, nothing of it was run; "
            "only plain containers and numeric NumPy arrays are read"
        ) from None


def run(data: bytes) -> object:
    """Runs the opcodes of a pickle and returns what stands on the stack at the end.

    Containers are plain ones; arrays are `PickledArray`.

    Raises:
        Unreadable: The pickle asks for more than plain containers and numeric arrays.
        Exception: One of `DAMAGE`, where it is damaged.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("LIST", "TUPLE", "DICT", "APPENDS", "SETITEMS"):
            items, stack = stack, below.pop()
            if name == "APPENDS":
                _append(stack[-1], items)
            elif name == "SETITEMS":
                _set_items(stack[-1], items)
            elif name == "DICT":
                stack.append({})
                _set_items(stack[-1], items)
            else:
                stack.append(items if name == "LIST" else tuple(items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(_pop(stack, int(name[-1]))))
        elif name == "APPEND":
            item = stack.pop()
            _append(stack[-1], [item])
        elif name == "SETITEM":
            pair = _pop(stack, 2)
            _set_items(stack[-1], pair)
        elif name == "GLOBAL":
            stack.append(_find(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_find(*_pop(stack, 2)))
        elif name == "REDUCE":
            function, arguments = _pop(stack, 2)
            if type(function) is not FunctionType or type(arguments) is not tuple:
                raise ValueError("something is called that is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            if type(stack[-1]) not in (_DType, PickledArray) or type(state) is not tuple:
                raise ValueError("a state for something that has none")
            stack[-1].build(state)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise Unreadable(
                f"refused: the pickle uses opcode {name}, which plain containers and numeric NumPy "
                "arrays do not need; nothing of it was run"
            )
    raise EOFError("no STOP")


def _pop(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise IndexError("the stack is empty")
    items = stack[-count:]
    del stack[-count:]
    return items


def _append(target: object, items: list[Any]) -> None:
    if type(target) is not list:
        raise ValueError("items for something that is no list")
    target.extend(items)


def _set_items(target: object, items: list[Any]) -> None:
    if type(target) is not dict or len(items) % 2:
        raise ValueError("pairs for something that is no dict")
    # Hashing nested tuples may take for ever, or the whole stack.
    if any(type(key) not in (str, int) for key in items[::2]):
        raise ValueError("a dict's key is neither text nor a whole number")
    target.update(zip(items[::2], items[1::2], strict=True))
