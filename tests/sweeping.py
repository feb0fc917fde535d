"""Sweeps as commands: started, waited for, and read from the directories of their jobs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from parcnet_train.runs.directories import LAST
from parcnet_train.sweeps.jobs import LOCK
from running import TINY

# Overrides of a job that saves after every step, so that one that is killed has a checkpoint.
TRAINING = (
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=6",
    "checkpoint.every_n_steps=1",
    "recipe.schedule.warmup_steps=0",
)
SAME = ("config_hash", "val/top1", "val/loss", "epochs", "steps")  # in results that are equal


def start(cwd, *arguments, environment=()):
    """Start a sweep of small trainings, whose jobs can import the modules of the tests."""
    modules = filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    return subprocess.Popen(
        [sys.executable, "-m", "parcnet_train", "-m", *TINY, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(modules), **dict(environment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(is_there, process=None, seconds=600):
    """Wait until something is there, while a process runs."""
    deadline = time.monotonic() + seconds
    while not is_there():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finish(process, code=0):
    """Wait for the end of a sweep, and return what it has printed."""
    printed = process.communicate(timeout=900)[0]
    assert process.returncode == code, printed
    return printed


def kill(process):
    """Kill only the command of a sweep, if it still runs."""
    process.kill()
    process.wait()
    process.stdout.close()


def folders(cwd):
    """Return the directories of the jobs by their names, such as `seed-0`."""
    found = (path.parent for path in cwd.glob(f"runs/sweeps/*/*/{LOCK}"))
    return {path.name.rpartition("-")[0]: path for path in found}


def results(folder):
    """Return the results of a job."""
    return json.loads((folder / "results.json").read_text())


def times(folder):
    """Return when each file of a job was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def saved(cwd):
    """Return the names of the jobs that can be resumed."""
    return {name for name, folder in folders(cwd).items() if (folder / LAST).is_file()}


def processes_with(text):
    """Return the command lines of all processes that contain a text."""
    found = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if text in line]
