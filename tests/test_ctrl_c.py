"""Ctrl-C twice at every stage of a training, and of a sweep."""

import json
import subprocess
import sys

import pytest

from moments import run_with
from parcnet_train.checkpoints.reading import read_checkpoint
from running import TINY

# What a stage calls: a module and a name in it.
STAGES = {
    "start-up": ("parcnet_train.__main__", "get_args_parser"),
    "composing": (
        "hydra._internal.config_loader_impl",
        "ConfigLoaderImpl.load_configuration",
    ),
    "first step": ("torch", "Tensor.backward"),
    "checkpoint": ("torch", "save"),
    "validation": ("pytorch_lightning.loops.evaluation_loop", "_EvaluationLoop.run"),
    "results": ("os", "replace"),
}

# Sends Ctrl-C twice, at the first call of a function that has an argument of a certain ending. They
# come from another process, since the first one ends what would send the second.
TWICE = """
import importlib, os, subprocess, sys, time
from parcnet_train.__main__ import main
module, name, ending = sys.argv[1:4]
del sys.argv[1:4]
owner = importlib.import_module(module)
*parents, last = name.split(".")
for each in parents:
    owner = getattr(owner, each)
original, calls = getattr(owner, last), []

def called(*args, **kwargs):
    if not calls and (not ending or any(str(each).endswith(ending) for each in args)):
        calls.append(1)
        print("reached", flush=True)
        keys = f"kill -INT {os.getpid()}; sleep 0.1; kill -INT {os.getpid()}"
        subprocess.Popen(["sh", "-c", keys], start_new_session=True)
        time.sleep(20)
    return original(*args, **kwargs)

setattr(owner, last, called)
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_twice_ends_in_bounded_time_without_a_traceback(stage, tmp_path):
    run = tmp_path / "run"
    ending = "results.json" if stage == "results" else ""
    done = subprocess.run(
        [
            *(sys.executable, "-c", TWICE, *STAGES[stage], ending, *TINY),
            *(f"hydra.run.dir={run}", f"paths.cache={tmp_path / 'cache'}"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "reached" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (130, -2), done.stderr
    if stage == "results":
        assert (run / "checkpoints" / "last.ckpt").is_file()
    for file in run.rglob("*.ckpt"):
        read_checkpoint(file)
    assert not list(run.rglob("*.partial"))


# What the launcher of a sweep, a job or the comparison writes at a stage, and who gets Ctrl-C.
SWEEP_STAGES = {
    "first file": ("multirun.yaml", "press_ctrl_c_twice"),
    "start of a job": ("output.log", "press_ctrl_c_twice"),
    "training": ("last.ckpt", "press_ctrl_c_twice_in_launcher"),
    "results of a job": ("results.json", "press_ctrl_c_twice_in_launcher"),
    "table": ("report/table.md", "press_ctrl_c_twice"),
}


def sweep_in(folder):
    """Return the arguments of a sweep of two trainings."""
    jobs = [*TINY, "task.pictures=0", "-m", "seed=0,1", f"hydra.sweep.dir={folder / 'sweep'}"]
    return [*jobs, f"paths.cache={folder / 'cache'}"]


def refuse_leftovers(done, folder):
    """Check how a stopped sweep has ended, and what it has left."""
    assert done.returncode in (130, -2), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for log in folder.rglob("output.log"):
        assert "Traceback" not in log.read_text()
    for file in folder.rglob("*.ckpt"):
        read_checkpoint(file)
    assert not list(folder.rglob("*.partial"))
    running = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True)
    assert str(folder / "sweep") not in running.stdout


@pytest.mark.slow
@pytest.mark.parametrize("stage", SWEEP_STAGES)
def test_ctrl_c_twice_ends_a_sweep_and_the_same_command_resumes(stage, tmp_path):
    command = ["-m", "parcnet_train", *sweep_in(tmp_path)]
    file, kind = SWEEP_STAGES[stage]
    refuse_leftovers(run_with(kind, file, tmp_path / "fault", command), tmp_path)
    done = run_with(kind, "nothing", tmp_path / "fault", command)
    assert done.returncode == 0, done.stderr
    results = sorted(tmp_path.glob("sweep/seed*/results.json"))
    assert [json.loads(each.read_text())["seed"] for each in results] == [0, 1]
    assert (tmp_path / "sweep" / "report" / "table.md").is_file()


@pytest.mark.slow
def test_ctrl_c_twice_while_a_sweep_composes_its_jobs(tmp_path):
    stage = ("hydra._internal.config_loader_impl", "ConfigLoaderImpl.load_sweep_config", "")
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *stage, *sweep_in(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "reached" in done.stdout, done.stderr
    refuse_leftovers(done, tmp_path)
    assert not list(tmp_path.glob("sweep/seed*"))
