"""How a process keeps the memory of its tensors."""

from __future__ import annotations

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
# Free memory at the end of the heap, and size of an allocation, from which the system is asked: none.
NEVER = 1 << 30


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors on the CPU leave for those of the next step.

    By itself it gives the memory of large tensors back to the system, and every step waits for the
    same pages again, cleared one by one: 5 to 10 % of the time of a small text model's training
    (tests/benchmarks/bench_text_recipe.py). The peak grows by what lies between tensors of unlike
    sizes, by 5 to 7 % there.

    Returns
    -------
    bool
        Whether the C library is one that can be told: glibc, on Linux.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(name, NEVER) for name in (TRIM_THRESHOLD, MMAP_THRESHOLD))
