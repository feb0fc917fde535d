"""Faults at a certain moment: when any process of a command opens a certain file to write it."""

import os
import shutil
import subprocess
import sys

from mounts import with_mount

FILLING = "filling"  # file that fills the disk
# Python imports a module of this name at its start, also in the processes that a command starts.
MODULE = "sitecustomize"
SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path

ending, reached, disk = (os.environ[f"FAULT_{name}"] for name in ("FILE", "REACHED", "DISK"))

def fill_disk():
    for log in Path(disk).rglob("*.log"):  # their next line takes a new page
        with log.open("a") as file:
            file.write(" " * (-log.stat().st_size % 4096))
    with open(f"{disk}/filling", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

def make_read_only():  # files that are open already can still be written
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)

def press_twice(target):  # from another process, since the first one may end this function
    keys = f"kill -INT {target}; sleep 0.1; kill -INT {target}"
    subprocess.Popen(["sh", "-c", keys], start_new_session=True)
    time.sleep(20)

def press_ctrl_c_twice():  # as in a terminal: all processes of the group get it
    press_twice(f"-{os.getpgid(0)}")

def press_ctrl_c_twice_in_launcher():  # of this job, which has a group of its own
    press_twice(os.getppid())

def opened(event, arguments):
    if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path, _, flags = arguments
    path = os.fsdecode(path)
    is_it = path.endswith(ending) or path.removesuffix(".partial").endswith(ending)
    if not flags & (os.O_WRONLY | os.O_RDWR) or not is_it:
        return
    try:
        os.close(os.open(reached, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    globals()[os.environ["FAULT_KIND"]]()

sys.addaudithook(opened)
"""


def run_with(kind, file, folder, command, disk=None):
    """Run a Python command; fail if the moment does not come.

    Args:
        kind: Name of a function of the script above.
        file: End of the path of the file; `nothing`: no fault.
        folder: Folder for the files of this function, which is overwritten.
        command: Arguments of Python.
        disk: Folder that becomes full or read-only; a file that fills it is removed before. The
            command then has its own mounts. None: no such folder.

    Returns:
        How the command ended, as `subprocess.run` does.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(SCRIPT)
    if disk is not None:
        (disk / FILLING).unlink(missing_ok=True)
    reached = folder / "reached"
    command = [sys.executable, *command]
    done = subprocess.run(
        command if disk is None else with_mount("true", command),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
            "FAULT_KIND": kind,
            "FAULT_FILE": file,
            "FAULT_REACHED": str(reached),
            "FAULT_DISK": str(disk),
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        start_new_session=True,  # with a process group of its own, as in a terminal
    )
    assert reached.is_file() == (file != "nothing"), done.stderr
    return done
