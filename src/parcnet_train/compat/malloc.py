"""Makes training on CPUs reuse the memory that it frees.

glibc gives every large block back to the system as it is freed. The next activation of that size
then starts with a page fault per 4 KiB, which takes several times as long as what is computed on
it. torch's tuning guide advises another allocator for that, to be loaded before Python starts; two
settings of glibc's own do the same from inside.
"""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keeps freed blocks in this process, for its next allocations, until it ends.

    Returns:
        Whether the C library has such settings; nothing changes where it has not.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # as in musl
        return False
    # No blocks of their own from the system, and none of the heap given back.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
