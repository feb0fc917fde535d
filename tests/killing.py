"""Trainings that end like a killed process, inside the test process, and their comparison."""

import pytest
import torch

from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.tasks.base import Task
from parcnet_train.visualize.curves import read_series
from running import run

LAST = "checkpoints/last.ckpt"


class Killed(BaseException):
    """An end like SIGKILL: nothing more is written."""


def kill_behind(number):
    """Return a hook of a task that ends the training after this many batches."""

    def hook(task, outputs, batch, batch_idx):
        if task.trainer.fit_loop.total_batch_idx + 1 == number:
            raise Killed

    return hook


def run_killed(overrides, output, behind):
    """Run a training that is killed after a number of batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "on_train_batch_end", kill_behind(behind), raising=False)
        with pytest.raises(Killed):
            run(overrides, output)


def run_killed_and_resumed(overrides, output, behind):
    """Return the results of a training that is killed after a number of batches, and resumed."""
    run_killed(overrides, output, behind)
    return run([*overrides, f"ckpt={output}"], output)


def assert_same_end(folder, results, other, resumed):
    """Assert that two trainings gave the same results, curves and checkpoints, in every bit."""
    for key in ("train/loss", "train/skipped", "val/loss", "val/top1", "steps", "epochs"):
        assert resumed[key] == results[key], key
    series = [read_series(each / "csv") for each in (folder, other)]
    for name in ("train/loss_step", "train/loss_epoch", "train/lr", "val/loss"):
        assert series[0][name] == series[1][name], name
    ends = [read_checkpoint(each / LAST) for each in (folder, other)]
    states = ("state_dict", "current_model_state", "optimizer_states", "position")
    assert list(differing(*({name: end.get(name) for name in states} for end in ends))) == []


def differing(one, other, key=""):
    """Return the keys under which two nested values differ in any bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from differing(one.get(name), other.get(name), f"{key}/{name}")
    elif isinstance(one, list | tuple) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differing(*pair, f"{key}/{number}")
    elif isinstance(one, torch.Tensor):
        if not isinstance(other, torch.Tensor) or not torch.equal(one, other):
            yield key
    elif one != other:
        yield key
