"""Which kernels XNNPACK takes in this process, by name, and those of a lesser processor instead.

XNNPACK runs every .tflite here. It asks the processor once what it has, keeps that as flags, and by
them chooses a kernel for each kind of product when the first is needed. The installed library has
its symbol table, so flags and choices are found in the process's memory; nobody offers them. Names
are those of XNNPACK's src/xnnpack/hardware-config.h and src/configs/gemm-config.c. Linux on x86-64.
"""

from __future__ import annotations

import ctypes
import re
import struct
from functools import cache
from pathlib import Path

from signbart.errors import SignBartError

# Instruction set -> the flags that stay, as bits from 0 (SSE2) on, and what its kernels are called
# in float32 and in int8. 8 is AVX-512's 256-bit half, 9 and 10 are AVX-512 (F; BW, DQ and VL), 14
# is AVX-VNNI, 18 AVX-512 VNNI.
SETS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "AVX2": (tuple(range(8)), "fma3", "avx2"),
    "AVX2, AVX-VNNI": ((*range(8), 14), "fma3", "avxvnni"),
    "AVX-512": (tuple(range(11)), "avx512f", "avx512skx"),
    "AVX-512 VNNI": (tuple(range(64)), "avx512f", "avx512vnni"),
}
# Scheme -> the tables of its products; where the first is empty, the second counts.
_TABLES = {
    "fp32": ("f32",),
    "dynamic_int8": ("qdu8_f32_qc8w", "qd8_f32_qc8w"),
    "int8": ("qs8_qc8w",),
}
_FLAGS_AT = 8  # bytes into the structure, behind a number that is not ours
_SYMBOLS = 2  # type of an ELF section


def restrict(name: str) -> dict[str, str]:
    """Leaves XNNPACK one of `SETS` in this process; before anything of it has run.

    Returns:
        Scheme -> the kernel of many rows that its products are computed by.

    Raises:
        SignBartError: The processor lacks the set, or this library's flags are others.
    """
    kept, float_part, int8_part = SETS[name]
    address = _call("xnn_init_hardware_config")
    flags = ctypes.c_uint64.from_address(address + _FLAGS_AT)
    flags.value &= sum(1 << bit for bit in kept)
    kernels = {scheme: _kernel(tables) for scheme, tables in _TABLES.items()}
    if float_part not in kernels["fp32"] or int8_part not in kernels["int8"]:
        raise SignBartError(
            f"{name}: this processor lacks it, or the library's flags mean something else: "
            f"it took {kernels['fp32']} and {kernels['int8']} where {float_part} and {int8_part} "
            "were expected"
        )
    return kernels


def _kernel(tables: tuple[str, ...]) -> str:
    """The name of the kernel that takes most rows at a time, without XNNPACK's own prefix."""
    symbols, start = _symbols(), _start()
    names = {start + value: name for name, (value, _) in symbols.items() if "_ukernel_" in name}
    for table in tables:
        address = _call(f"xnn_init_{table}_gemm_config")
        if not address:  # the processor has none of it
            continue
        size = symbols[f"{table}_gemm_config"][1]
        words = struct.unpack(f"<{size // 8}Q", ctypes.string_at(address, size // 8 * 8))
        found = [names[word] for word in words if "_gemm_minmax_" in names.get(word, "")]
        if found:
            rows = re.compile(r"ukernel_(\d+)x")
            return max(found, key=lambda kernel: int(rows.search(kernel)[1])).removeprefix("xnn_")
    raise SignBartError(f"XNNPACK has no kernel for {' or '.join(tables)} here")


def _call(name: str) -> int | None:
    """What one of the library's functions without arguments returns: an address."""
    try:
        value, _ = _symbols()[name]
    except KeyError:
        raise SignBartError(
            f"{_library()} has no symbol {name}: another XNNPACK than that of ai-edge-litert 2.3"
        ) from None
    return ctypes.CFUNCTYPE(ctypes.c_void_p)(_start() + value)()


def _library() -> Path:
    import ai_edge_litert

    return Path(ai_edge_litert.__file__).resolve().with_name("libpywrap_litert_common.so")


@cache
def _start() -> int:
    """Where the library lies in memory."""
    from ai_edge_litert import interpreter  # noqa: F401  loads it

    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, _, offset, *_, path = line.split()
        if path == str(_library()) and int(offset, 16) == 0:
            return int(span.partition("-")[0], 16)
    raise SignBartError(f"{_library()} is not loaded")


@cache
def _symbols() -> dict[str, tuple[int, int]]:
    """Name -> (address from the library's start, bytes), by its ELF symbol table."""
    data = _library().read_bytes()
    (headers,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, headers + size * at) for at in range(count)]
    found = {}
    for section in sections:
        if section[1] != _SYMBOLS:
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, _, _, _, value, length = struct.unpack_from("<IBBHQQ", data, at)
            end = data.index(b"\0", strings + name)
            found[data[strings + name : end].decode()] = (value, length)
    return found
