"""Ctrl-C twice at every stage of a training."""

import subprocess
import sys

import pytest

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

# Sends Ctrl-C twice, at the first call of a function that has an argument of a certain ending.
TWICE = """
import importlib, os, signal, sys, time
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
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
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
