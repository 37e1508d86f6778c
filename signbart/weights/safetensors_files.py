"""``.safetensors`` files as NumPy arrays; the header is looked at before the library reads it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from signbart.errors import CheckpointError
from signbart.json_text import parse_json
from signbart.memory import read_whole
from signbart.weights.torch_pickles import BFLOAT16

_DTYPES = {
    **{"F64": "f8", "F32": "f4", "F16": "f2", "BF16": BFLOAT16, "BOOL": "?"},
    **{"I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1"},
}


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What stands in a file's header beside its tensors.

    Raises:
        CheckpointError: The file is cut or damaged.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise CheckpointError(f"{path} is cut, or not a readable .safetensors file")
        try:
            found = parse_json(file.read(length)).get("__metadata__") or {}
        except (ValueError, AttributeError, RecursionError):
            raise CheckpointError(f"{path} is not a readable .safetensors file") from None
    return found if isinstance(found, dict) else {}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors by name, bfloat16 as its 16 bits, and `safetensors_metadata`.

    Raises:
        CheckpointError: The file is cut or damaged, or has tensors of a kind that no model has.
    """
    from safetensors import SafetensorError, deserialize

    metadata = safetensors_metadata(path)
    try:
        arrays = {
            name: np.frombuffer(bytearray(one["data"]), _DTYPES[one["dtype"]]).reshape(one["shape"])
            for name, one in sorted(deserialize(read_whole(path)), key=lambda pair: pair[0])
        }
    except KeyError as error:
        raise CheckpointError(f"{path} has tensors of dtype {error}, which no model has") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is cut, or not a readable .safetensors file: {error}"
        ) from None
    return arrays, metadata
