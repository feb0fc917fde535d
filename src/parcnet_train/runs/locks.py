"""Locks of directories: one process at a time, and the others learn which one.

The kernel frees the lock of a process that ends, however it ends. It does not know the processes of
other machines on every network file system, so the file also names its holder: line 1 is a note of
whoever locks it, which stays; line 2 is the holder, while there is one.
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

from parcnet_train.distributed.processes import is_restarted, job_name
from parcnet_train.errors import TrainingError, reason_of

BOOT = Path("/proc/sys/kernel/random/boot_id")  # Linux: one for all containers of a machine


class HeldError(Exception):
    """Another process holds a lock; the message names process, machine and start.

    Args:
        holder: what it wrote.
        path: of the lock file.
    """

    def __init__(self, holder: dict[str, Any], path: Path) -> None:
        who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        is_here = not holder or is_of_this_machine(holder)
        super().__init__(
            (who if holder else "another process")
            + ("" if is_here else f"; if that process is gone, remove {path}")
        )


class Lock:
    """A lock that this process holds until it is closed.

    Args:
        path: of the file.
        file: locked.
        note: first line of the file.
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
        """Writes the note, and who holds the lock.

        Raises:
            TrainingError: if the file cannot be written; then nobody holds it.
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
            self.file.close()
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Gives the lock back; the file stays if it has a note."""
        if self.file.closed:
            return
        with contextlib.suppress(OSError):
            if self.note:
                self._write(f"{self.note}\n")
            else:
                self.path.unlink()
        self.file.close()

    def _write(self, text: str) -> None:
        self.file.truncate(0)
        self.file.write(text)
        self.file.flush()


_open: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_in_child() -> None:
    """Lets a forked process, such as a data worker, not keep the locks of its parent."""
    for each in _open:
        each.file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def take_lock(path: Path) -> Lock:
    """Locks a file, which is made if it does not exist; its note stays.

    A lock of a dead process of this machine is taken over, and so is one that an earlier start of
    this job of SLURM or torchrun has left on any machine.

    Raises:
        HeldError: if another process holds it, or did on another machine and has not given it back.
        TrainingError: if the file cannot be written.
    """
    try:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
            is_certain = _lock(file, path)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    break
            file.close()  # whoever held it has removed it meanwhile
        note, holder = read_lock(path)
        if is_in_force(holder, os.fstat(file.fileno()).st_ino, is_certain):
            file.close()
            raise HeldError(holder, path)
    except OSError as error:
        raise unwritable(path, error) from error
    lock = Lock(path, file, note)
    lock.sign(note)
    return lock


def unwritable(path: Path, error: OSError) -> TrainingError:
    """What to raise if a lock file cannot be written."""
    return TrainingError(
        f"{path.parent} cannot be written: {reason_of(error)}; make room, or write elsewhere: "
        "paths.runs=PATH"
    )


def read_lock(path: Path) -> tuple[str, dict[str, Any]]:
    """The note and the holder of a lock file; an empty text and an empty dict if there is none."""
    try:
        lines = [*path.read_text().splitlines(), "", ""]
    except (OSError, UnicodeDecodeError):
        return "", {}
    try:
        holder = json.loads(lines[1])
    except ValueError:
        holder = None
    return lines[0].strip(), holder if isinstance(holder, dict) else {}


def is_in_force(holder: dict[str, Any], inode: int, is_certain: bool) -> bool:
    """Whether the holder that a lock file names may still be at work, though the kernel lets go.

    Args:
        holder: as written; empty: it gave the lock back.
        inode: number of the file.
        is_certain: the kernel has locked the file, so no process of this machine holds it.
    """
    if not holder or holder.get("inode") != inode:  # the file is a copy
        return False
    if is_restarted() and holder.get("job") == job_name():
        return False
    if is_certain and is_of_this_machine(holder):
        return False
    return holder.get("host") != socket.gethostname() or is_alive(holder.get("pid"))


def is_of_this_machine(holder: dict[str, Any]) -> bool:
    """Whether a holder is or was a process of this machine, maybe in another container."""
    return holder.get("host") == socket.gethostname() or (
        holder.get("boot") is not None and holder.get("boot") == boot()
    )


def is_alive(pid: Any) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, TypeError):
        return False
    except PermissionError:
        pass
    return True


def boot() -> str | None:
    """What tells this start of this machine from others; None where the system has no such name."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return None


def _lock(file: TextIO, path: Path) -> bool:
    """Locks an open file.

    Returns:
        Whether the file system has locks.

    Raises:
        HeldError: if another process has locked it.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise HeldError(read_lock(path)[1], path) from None
    except OSError:  # file systems of some clusters have no locks
        return False
    return True
