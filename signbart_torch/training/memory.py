"""How the C library treats the memory of tensors that are gone."""

import ctypes
import platform

# mallopt's parameters, from glibc's malloc.h, and the largest M_MMAP_THRESHOLD that every version
# takes (DEFAULT_MMAP_THRESHOLD_MAX on 64 bits).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MAPPED = 32 << 20
_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Lets this process use freed memory again instead of giving it back.

    A training step makes and frees the same large tensors every time. By default glibc returns them
    to the system and asks for them again, and each page of 4 KiB then costs a fault: thousands in
    a step. The process's peak hardly changes. Without glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    # Either setting ends glibc's own adaptation of both, so it is both or none.
    if libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MAPPED):
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
