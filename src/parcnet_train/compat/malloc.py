"""Make a process reuse the memory that it frees: a training on CPUs, or a check of many images.

glibc returns every large block to the system when it is freed. The next activation of that size
then starts with a page fault per 4 KiB, which takes several times as long as the computation on it.
torch's tuning guide recommends a different allocator, which has to be loaded before Python starts;
two settings of glibc have the same effect from inside the process.
"""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep freed blocks in this process for its next allocations, until it ends.

    Returns:
        Whether the C library has such settings; without them, nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # as in musl
        return False
    # Large blocks come from the heap too, and the heap returns nothing to the system.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
