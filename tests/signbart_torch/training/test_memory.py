"""Memory that was freed stays with the process, once that is asked for."""

import platform
import subprocess
import sys

import pytest

# How much of a tensor of 24 MiB is still resident when it is gone. Each answer needs a process of
# its own: glibc raises its thresholds with the first large tensor that is freed.
SCRIPT = """
import os, sys, torch
from signbart_torch.training.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "kept":
    keep_freed_memory()
before = resident()
torch.ones(6 << 20)
print(resident() - before)
"""


def left_of_24_mib(mode: str) -> float:
    """MiB that stay resident."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, timeout=100
    )
    assert process.returncode == 0, process.stderr
    return int(process.stdout) / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no mallopt")
def test_freed_tensors_stay_with_the_process():
    kept, default = left_of_24_mib("kept"), left_of_24_mib("default")
    # What else a first tensor loads is far below the half of it.
    assert default < 12 < kept, (default, kept)
