"""How long models take, compared within one run: only such ratios mean anything on a machine."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# What LiteRT's CPU kernels (XNNPACK) tell apart, the slowest first: flag of /proc/cpuinfo -> name.
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512bw": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_int8": "AMX int8",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON int8 matrix products",
}
WARM_UP = 20  # calls before the first that counts: caches, buffers, the clock's first steps
ROUNDS = 200
# Ninth decile over the first: above it the machine was busy with something else.
NOISY = 1.5


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call.

    Attributes:
        median: Of all rounds.
        low: 10th percentile.
        high: 90th percentile.
    """

    median: float
    low: float
    high: float

    @property
    def noisy(self) -> bool:
        """Whether the calls differ too much for the median to be believed."""
        return self.high > NOISY * self.low


def machine_name() -> str:
    """The processor, how many cores there are and what it computes with, to stand beside times."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    found = instruction_sets()
    return f"{name}, {os.cpu_count()} cores" + (f", {found[-1]}" if found else "")


def instruction_sets() -> list[str]:
    """Those of `INSTRUCTION_SETS` that the processor has; none where the system does not tell."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]


def _cpuinfo(key: str) -> str:
    """A value of Linux's /proc/cpuinfo; nothing elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.partition(":")[0].strip() == key:
                return line.partition(":")[2].strip()
    return ""


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS, warm_up: int = WARM_UP
) -> dict[str, Latency]:
    """Times calls in turn, A B C A B C …, so that whatever else the machine does hits all alike.

    Args:
        calls: Name -> what to time.
        rounds: Timed turns.
        warm_up: Untimed calls of each before.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {
        name: Latency(*(1e3 * float(np.percentile(values, share)) for share in (50, 10, 90)))
        for name, values in seconds.items()
    }
