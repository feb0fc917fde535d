"""Launcher, with small processes that do not import PyTorch."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from parcnet_train.distributed import launch as launching
from parcnet_train.distributed.launch import FORWARDED, launch

# Writes its process id when it is ready, and a file for every signal that it receives.
LISTENER = """
import os, signal, sys, time
rank = os.environ["RANK"]
def note(number, _):
    open(f"{rank}-got-{number}-{time.monotonic_ns()}", "w").close()
    if sys.argv[1:] != ["stubborn"]:
        sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, note)
os.symlink(str(os.getpid()), f"{rank}-ready")  # atomically, with its content
time.sleep(600)
"""


def run(script, processes, *arguments):
    return launch([sys.executable, "-c", script, *arguments], processes)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def signal_when(files, number, folder):
    """Send this process a signal as soon as enough files exist."""

    def wait():
        while len(list(folder.iterdir())) < files:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def names(folder):
    return sorted(path.name.rsplit("-", 1)[0] for path in folder.glob("*-got-*"))


def test_processes_get_the_variables_of_torchrun(folder, monkeypatch):
    script = "import json, os; json.dump(dict(os.environ), open(os.environ['RANK'] + '.json', 'w'))"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert run(script, 3) == 0
    seen = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]
    assert [each["LOCAL_RANK"] for each in seen] == ["0", "1", "2"]
    for key, value in {
        "WORLD_SIZE": "3",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "2",  # 7 threads, shared by three processes
    }.items():
        assert {each[key] for each in seen} == {value}
    assert len({each["TORCHELASTIC_RUN_ID"] for each in seen}) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert run(script, 1) == 0
    assert json.loads((folder / "0.json").read_text())["OMP_NUM_THREADS"] == "5"


def test_processes_rendezvous_at_the_port(folder):
    script = """
import os
from torch.distributed import TCPStore
store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
store.set(os.environ["RANK"], "here")
store.wait([str(1 - int(os.environ["RANK"]))])
"""
    assert run(script, 2) == 0


def test_first_failure_terminates_the_other_processes(folder):
    script = LISTENER.replace("time.sleep(600)", "sys.exit(3) if rank == '1' else time.sleep(600)")
    assert run(script, 2) == 3
    assert names(folder) in ([f"0-got-{signal.SIGTERM.value}"], [])  # [] if it had not started


def test_killed_process_is_reported(capfd):
    script = """
import os, signal, time
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
    assert run(script, 2) == 137
    assert capfd.readouterr().err == (
        "error: process 1 was ended by SIGKILL; the kernel does so if the memory is full (see "
        "dmesg)\n"
    )


@pytest.mark.parametrize("number", FORWARDED)
def test_signals_reach_every_process_once(number, folder, capfd):
    before = signal.getsignal(number)
    signal_when(2, number, folder)
    assert run(LISTENER, 2) == 128 + number
    assert names(folder) == [f"{rank}-got-{number.value}" for rank in range(2)]
    assert signal.getsignal(number) == before
    assert capfd.readouterr().err == ""


def test_processes_that_ignore_signals_are_killed(folder, monkeypatch):
    monkeypatch.setattr(launching, "SAVING_SECONDS", 0.3)
    signal_when(2, signal.SIGTERM, folder)
    assert run(LISTENER, 2, "stubborn") == 137


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl and /proc")
def test_processes_end_with_a_killed_launcher(folder):
    child = (
        "from parcnet_train.distributed.processes import follow_launcher; follow_launcher()"
        + LISTENER
    )
    script = (
        "import sys; from parcnet_train.distributed.launch import launch; "
        f"launch([sys.executable, '-c', {child!r}], 2)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as launcher:
        while len(list(folder.iterdir())) < 2:
            assert launcher.poll() is None
            time.sleep(0.02)
        children = [path.readlink() for path in folder.iterdir()]
        launcher.kill()
    deadline = time.monotonic() + 300
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    """Return whether a process is running; zombies do not count."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# One process raises a user error; the other then loses its connection and raises a traceback.
FAULT = """
import os, time
from pathlib import Path
import parcnet_train.distributed.user_errors as entry
from parcnet_train.errors import DataError
entry.FIRST_WORD = 1.5
rank, pid = os.environ["RANK"], Path("pid")
with entry.user_errors():
    if rank in {finders!r}:
        pid.write_text(str(os.getpid()))
        raise DataError(f"data.root: a.png cannot be read")
    while not pid.exists() or not pid.read_text() or Path("/proc", pid.read_text()).exists():
        time.sleep(0.01)
    raise RuntimeError("connection closed by peer")
"""


@pytest.mark.parametrize("finders", ["0", "1", "01"])
def test_user_error_is_one_line(finders, folder, capfd):
    assert run(FAULT.replace("{finders!r}", repr(finders)), 2) == 2
    assert capfd.readouterr().err == "error: data.root: a.png cannot be read\n"


BUG = """
import parcnet_train.distributed.user_errors as entry
entry.FIRST_WORD = 1
with entry.user_errors():
    raise RuntimeError("a bug")
"""


def test_unexpected_error_is_one_traceback(capfd):
    assert run(BUG, 2) == 1
    assert capfd.readouterr().err.count("RuntimeError: a bug") == 1
