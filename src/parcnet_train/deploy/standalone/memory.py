"""Memory of this process, as Linux reports it.

The text of this module is copied into the script that times files, so it must run with Python 3.9
and the standard library only.
"""

from __future__ import annotations

from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory_now() -> int | None:
    """Return the memory of this process in bytes, and forget its peak until now.

    Returns:
        The memory; None on other systems than Linux, which do not report it.
    """
    try:
        CLEAR.write_text("5")  # man 5 proc
        return in_status("VmRSS")
    except OSError:
        return None


def in_status(name: str) -> int:
    """Return an entry of this process's status in bytes, such as `VmRSS`, its memory."""
    (line,) = (each for each in STATUS.read_text().splitlines() if each.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
