import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from parcnet_train.errors import TrainingError
from parcnet_train.runs import locks
from parcnet_train.runs.locks import HeldError, is_held, read_lock, take_lock

GONE = 2**22 + 1  # Linux never uses this process id


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "run.lock"


def leave(path, **changes):
    """Leave a lock like a killed process, with changes to what it wrote."""
    lock = take_lock(path)
    content = path.read_text()
    lock.file.close()
    note, holder = content.splitlines()
    path.write_text(f"{note}\n{json.dumps({**json.loads(holder), **changes})}\n")


def test_held_lock_raises_with_process_machine_and_time(path):
    with take_lock(path):
        with pytest.raises(HeldError) as caught:
            take_lock(path)
        holder = read_lock(path)[1]
        assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
        for told in (str(os.getpid()), socket.gethostname(), holder["since"]):
            assert told in str(caught.value)
        assert "remove" not in str(caught.value)
    assert not path.exists()
    take_lock(path).close()


def test_a_lock_is_held_until_its_process_is_gone(path):
    assert not is_held(path)
    with take_lock(path) as lock:
        lock.sign("mine")
        before = path.read_text()
        assert is_held(path)
        assert path.read_text() == before
    assert not is_held(path)  # the note remains


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),  # of this process
        ({"pid": GONE}, False),
        ({"boot": "before"}, False),
        ({"host": "elsewhere", "boot": "of-that-machine", "pid": GONE}, True),
        ({"inode": 1}, False),  # a copy
        ({"pid": "x"}, False),
    ],
    ids=str,
)
def test_a_lock_of_a_process_that_may_live_is_held(path, changes, expected):
    leave(path, **changes)
    assert is_held(path) == expected


@pytest.mark.parametrize("content", ["", "note", 'note\n{"pid": 1', "note\n[1]\n", "\n\x00"])
def test_a_damaged_lock_is_not_held(path, content):
    path.parent.mkdir()
    path.write_text(content)
    assert not is_held(path)


def test_note_is_kept(path):
    with take_lock(path) as lock:
        lock.sign("mine")
    assert path.read_text() == "mine\n"
    with take_lock(path) as lock:
        assert lock.note == "mine"


def test_killed_process_releases_its_lock_although_children_live(path):
    """Forked data workers outlive their parent by some seconds."""
    script = (
        "import os, sys, time; from pathlib import Path;"
        "from parcnet_train.runs.locks import take_lock;"
        f"lock = take_lock(Path({str(path)!r})); child = os.fork();"
        "print(child, flush=True) if child else None; time.sleep(60)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            with pytest.raises(HeldError, match=f"process {process.pid} on "):
                take_lock(path)
            process.kill()
            process.wait()
            deadline = time.monotonic() + 20
            while True:  # until the child has closed the file
                try:
                    take_lock(path).close()
                    break
                except HeldError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            os.kill(child, signal.SIGKILL)


def test_lock_of_dead_process_on_this_machine_is_taken_over(path):
    leave(path, pid=GONE)
    take_lock(path).close()
    leave(path, host="container", pid=1)  # another container of this machine
    if locks.boot() is not None:
        take_lock(path).close()


def test_lock_of_another_machine_raises_with_the_fix(path):
    since = "2026-11-28T10:00:00+01:00"
    leave(path, host="node7", boot="other", since=since)
    with pytest.raises(HeldError) as caught:
        take_lock(path)
    for told in ("node7", since, f"remove {path}"):
        assert told in str(caught.value)
    path.unlink()
    take_lock(path).close()


@pytest.mark.parametrize(
    ("job", "restarts"),
    [
        ({"SLURM_JOB_ID": "7"}, "SLURM_RESTART_COUNT"),
        ({"TORCHELASTIC_RUN_ID": "mine"}, "TORCHELASTIC_RESTART_COUNT"),
    ],
)
def test_restarted_job_takes_over_its_lock_on_any_machine(job, restarts, path, monkeypatch):
    other = dict.fromkeys(job, "8")
    for environment, is_taken in ((other, False), (job, True)):
        for name, value in job.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv(restarts, raising=False)
        leave(path, host="node7", boot="other")
        if "SLURM_JOB_ID" in job:  # torchrun does not count every start
            with pytest.raises(HeldError):
                take_lock(path)
        monkeypatch.setenv(restarts, "1")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        if is_taken:
            take_lock(path).close()
        else:
            with pytest.raises(HeldError):
                take_lock(path)
        path.unlink(missing_ok=True)


def test_lock_of_a_lost_machine_is_taken_over_without_a_counted_restart(path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    leave(path, host="node7", boot="other")
    take_lock(path).close()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun's own word for a run without name
    leave(path, host="node7", boot="other")
    with pytest.raises(HeldError):
        take_lock(path)


def test_copied_lock_file_locks_nothing(path, tmp_path):
    leave(path, host="node7", boot="other")
    shutil.copytree(path.parent, tmp_path / "copy")
    take_lock(tmp_path / "copy" / path.name).close()


def test_without_file_system_locks_the_process_id_is_checked(path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with take_lock(path), pytest.raises(HeldError, match=f"process {os.getpid()} on "):
        take_lock(path)
    leave(path, pid=GONE)
    take_lock(path).close()


def test_lock_file_removed_during_locking_is_created_again(path, monkeypatch):
    first = take_lock(path)
    flock = fcntl.flock

    def late(file, how):
        first.close()  # the holder ends after the file is opened and before it is locked
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with take_lock(path):
        monkeypatch.undo()
        assert path.exists()
        with pytest.raises(HeldError):
            take_lock(path)


@pytest.mark.parametrize("text", ["", "note", "note\n{", "note\n[]", "\n\n\n"])
def test_damaged_lock_file_is_free(text, path):
    path.parent.mkdir()
    path.write_text(text)
    take_lock(path).close()


def test_unwritable_folder_raises_training_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=f"{tmp_path}/file/job cannot be written: Not a dir"):
        take_lock(tmp_path / "file" / "job" / "run.lock")
