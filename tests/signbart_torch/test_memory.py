"""Memory that was freed comes without page faults the next time."""

import platform
import subprocess
import sys

import pytest

# Before and after: page faults of writing tensors of 16 MiB, which by default are mapped each time.
SCRIPT = """
import resource, torch
from signbart_torch.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
default = faults()
keep_freed_memory()
faults()
print(default, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no mallopt")
def test_freed_tensors_are_used_again():
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100
    )
    assert process.returncode == 0, process.stderr
    default, kept = map(int, process.stdout.split())
    # Four tensors have 16,384 pages of 4 KiB, or 32 of 2 MiB.
    assert kept < 16 < default, (default, kept)
