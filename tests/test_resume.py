"""A run that is killed and resumed with `ckpt=last` equals an uninterrupted run."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import running
from killing import differing
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.visualize.curves import read_series

RUN = [
    "backbone=parcnet_xs",
    "backbone.depths=[1,1,1]",
    "trainer=cpu",
    "recipe.image_size=64",
    "recipe.batch_size=6",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=12",
    "trainer.limit_val_batches=2",
    "trainer.log_every_n_steps=1",
    "data.num_workers=2",
    "checkpoint.every_n_steps=2",
    "recipe.schedule.warmup_steps=0",
    "recipe.multi_scale.rule=balanced",
    "recipe.multi_scale.largest=1.25",
]
STEPS = 24
# Times, and paths; the files of the checkpoints have the paths, too, and are compared without them.
TIMES = ("seconds", "train/images_per_second", "run_dir", "checkpoint", "checkpoint_sha256")


def start(cwd, *overrides):
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "parcnet_train", *RUN, *overrides],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # one signal reaches all of its processes
    )


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def run_in(cwd):
    """Return the directory of the only run in a folder."""
    (run,) = cwd.glob("runs/classification/parcnet_xs-demo/*")
    return run


def steps_logged(cwd):
    series = (read_series(folder) for folder in cwd.glob("runs/*/*/*/csv"))
    return len(next(series, {}).get("train/loss_step", ([], []))[0])


def kill_at(step, cwd, *overrides):
    process = start(cwd, *overrides)
    deadline = time.monotonic() + 240
    while steps_logged(cwd) < step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def without_folder(value, folder):
    """Return nested values in which paths are relative to the run's folder."""
    if isinstance(value, dict):
        return {
            without_folder(key, folder): without_folder(each, folder) for key, each in value.items()
        }
    if isinstance(value, list):
        return [without_folder(each, folder) for each in value]
    return value.replace(str(folder), "") if isinstance(value, str) else value


def assert_same_end(straight, resumed):
    for name in ("last", "best"):
        ends = []
        for folder in (straight, resumed):
            end = without_folder(read_checkpoint(folder / f"checkpoints/{name}.ckpt"), folder)
            del end["config"]["ckpt"], end["config"]["overrides"]
            for state in end["callbacks"].values():
                # Lightning saves this value but neither reads nor restores it.
                state.pop("current_score", None)
            ends.append(end)
        assert list(differing(*ends)) == []
    results = [json.loads((folder / "results.json").read_text()) for folder in (straight, resumed)]
    assert [k for k in results[0] if k not in TIMES and results[0][k] != results[1][k]] == []
    series = [read_series(folder / "csv") for folder in (straight, resumed)]
    assert len(series[0]["train/loss_step"][0]) == STEPS
    for name in ("train/loss_step", "train/loss_epoch", "train/lr", "val/loss", "val/top1"):
        assert series[0][name] == series[1][name], name


def kill_and_resume(straight, cwd, *overrides):
    step = random.randrange(3, STEPS - 2)  # after the first checkpoint, before the last step
    print("killed at step", step)  # shown if the test fails
    kill_at(step, cwd, *overrides)
    run = run_in(cwd)
    assert not (run / "results.json").exists()
    finish(start(cwd, *overrides, "ckpt=last"))
    assert run_in(cwd) == run
    assert_same_end(straight, run)
    assert json.loads((run / "results.json").read_text())["run_dir"] == str(run)
    # After a kill between the log line and the checkpoint of an epoch, the line is repeated.
    epochs = re.findall(r"epoch (\d)/2", (run / "parcnet_train.log").read_text())
    assert sorted(set(epochs)) == ["1", "2"]
    assert "=" not in str(run.relative_to(cwd))


@pytest.mark.slow
def test_killed_and_resumed_run_is_bit_identical(tmp_path):
    running.run(RUN, tmp_path / "straight")
    kill_and_resume(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["soft", "feature"])
def test_killed_and_resumed_run_with_a_teacher_is_bit_identical(trained, tmp_path, kind):
    taught = (
        f"recipe.distillation={{teacher: {trained[0]}, kind: {kind}}}",
        "backbone.stochastic_depth=0.3",
    )
    running.run([*RUN, *taught], tmp_path / "straight")
    kill_and_resume(tmp_path / "straight", tmp_path / "killed", *taught)


@pytest.mark.slow
def test_killed_and_resumed_run_of_two_processes_is_bit_identical(tmp_path):
    several = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    finish(start(tmp_path / "straight", *several))
    kill_and_resume(run_in(tmp_path / "straight"), tmp_path / "killed", *several)
