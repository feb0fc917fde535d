"""Lock files: one process at a time holds a lock, and the others learn which process it is.

The kernel releases the lock of a process however it ends. On some network file systems it does not
know the processes of other machines, so the file also names the holder: line 1 is a permanent note,
and line 2 describes the current holder, if there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import weakref
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from parcnet_train.distributed.processes import is_restarted, job_name, slurm_job
from parcnet_train.files import unwritable

BOOT = Path("/proc/sys/kernel/random/boot_id")  # Linux; all containers of a machine share it


class HeldError(Exception):
    """Another process holds a lock; the message names process, machine and start time.

    Args:
        holder: Description of the holder, as written in the file.
        path: Lock file.
    """

    def __init__(self, holder: dict[str, Any], path: Path) -> None:
        who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        is_here = not holder or is_of_this_machine(holder)
        super().__init__(
            (who if holder else "another process")
            + ("" if is_here else f"; if that process is gone, remove {path}")
        )


class Lock:
    """A lock that this process holds until it closes it.

    Args:
        path: Lock file.
        file: Open lock file.
        note: First line of the file.
    """

    def __init__(self, path: Path, file: TextIO, note: str) -> None:
        self.path = path
        self.file = file
        self.note = note
        _open.add(self)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def sign(self, note: str) -> None:
        """Write the note and the holder of the lock.

        Raises:
            UnwritableError: If the file cannot be written; the lock is then released.
        """
        self.note = note
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot": boot(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "job": job_name(),
            "inode": os.fstat(self.file.fileno()).st_ino,
        }
        try:
            self._write(f"{note}\n{json.dumps(holder)}\n")
        except OSError as error:
            with contextlib.suppress(OSError):  # closing writes what is left, and fails again
                self.file.close()
            raise unwritable(self.path.parent, error) from error

    def close(self) -> None:
        """Release the lock; the file is kept if it has a note."""
        if self.file.closed:
            return
        with contextlib.suppress(OSError):
            if self.note:
                self._write(f"{self.note}\n")
            else:
                self.path.unlink()
        with contextlib.suppress(OSError):
            self.file.close()

    def _write(self, text: str) -> None:
        self.file.truncate(0)
        self.file.write(text)
        self.file.flush()


_open: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close inherited locks in a forked process, such as a data worker."""
    for each in _open:
        each.file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def take_lock(path: Path) -> Lock:
    """Lock a file, which is created if it does not exist; an existing note is kept.

    The lock of a dead process on this machine is taken over. So is a lock that an earlier start of
    this SLURM or torchrun job left on any machine.

    Raises:
        HeldError: If another process holds the lock, or one on another machine never released it.
        UnwritableError: If the file cannot be written.
    """
    try:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
            is_certain = _lock(file, path)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    break
            file.close()  # the previous holder has removed the file meanwhile
        note, holder = read_lock(path)
        if is_in_force(holder, os.fstat(file.fileno()).st_ino, is_certain):
            file.close()
            raise HeldError(holder, path)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    lock = Lock(path, file, note)
    lock.sign(note)
    return lock


def read_lock(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the note and the holder of a lock file; each is empty if it is missing."""
    try:
        lines = [*path.read_text().splitlines(), "", ""]
    except (OSError, UnicodeDecodeError):
        return "", {}
    try:
        holder = json.loads(lines[1])
    except (ValueError, RecursionError):
        holder = None
    return lines[0].strip(), holder if isinstance(holder, dict) else {}


def is_held(path: Path) -> bool:
    """Return whether the process named in a lock file may still be running.

    Unlike `take_lock`, it leaves the lock alone: a process that starts at this moment gets it.
    """
    _, holder = read_lock(path)
    try:
        inode = path.stat().st_ino
    except OSError:
        return False
    is_here = holder.get("host") == socket.gethostname()
    if is_here and holder.get("boot", boot()) != boot():
        return False  # the machine has been restarted since
    return is_in_force(holder, inode, is_certain=False)


def is_in_force(holder: dict[str, Any], inode: int, is_certain: bool) -> bool:
    """Return whether the holder named in a lock file may still be running.

    Args:
        holder: Holder as written in the file; empty: the lock was released.
        inode: Inode number of the file.
        is_certain: Whether the kernel has locked the file, so that no process of this machine
            holds it.
    """
    if not holder or holder.get("inode") != inode:  # the file is a copy
        return False
    # torchrun does not count a start after another machine has left or joined.
    starts_again = is_restarted() or slurm_job() is None
    if starts_again and holder.get("job") is not None and holder["job"] == job_name():
        return False
    if is_certain and is_of_this_machine(holder):
        return False
    return holder.get("host") != socket.gethostname() or is_alive(holder.get("pid"))


def is_of_this_machine(holder: dict[str, Any]) -> bool:
    """Return whether a holder is or was a process of this machine, even in another container."""
    return holder.get("host") == socket.gethostname() or (
        holder.get("boot") is not None and holder.get("boot") == boot()
    )


def is_alive(pid: Any) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, TypeError, OverflowError):  # the file may name anything
        return False
    except PermissionError:
        pass
    return True


def boot() -> str | None:
    """Return the id of the current boot of this machine, None if the system has no such id."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return None


def _lock(file: TextIO, path: Path) -> bool:
    """Lock an open file.

    Returns:
        Whether the file system supports locks.

    Raises:
        HeldError: If another process has locked the file.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise HeldError(read_lock(path)[1], path) from None
    except OSError:  # the file systems of some clusters do not support locks
        return False
    return True
