"""A training may be resumed by another number of processes, and by other batches per step."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch

import coco_files
import voc_files
from elastic import IN_FLOAT64, callbacks, steps_in, train
from parcnet_train.checkpoints.reading import read_checkpoint

LAST = "checkpoints/last.ckpt"
CLASSES = ("ant", "bee", "cat")
COMMON = [
    "backbone=parcnet_xs",
    "backbone.depths=[1,1,1]",
    "backbone.dropout=0",
    "data.num_workers=0",
    "task.pictures=0",
    "recipe.image_size=64",
    "recipe.global_batch=10",
    "recipe.reference_batch=10",
    "recipe.accumulate=auto",
    "recipe.schedule.warmup_steps=3",
    "recipe.epochs=3",
    # The mean of Adam's squared gradients is near 0 for some weights, which amplifies rounding.
    "+recipe.optimizer.eps=0.001",
    "checkpoint.every_n_steps=1",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=3",
    "trainer.limit_val_batches=1",
]
MULTI_SCALE = "{_target_:parcnet_train.data.samplers.MultiScale,smallest:0.5,count:3}"
TASKS = {
    "classification": ["data=imagefolder", "head.dropout=0", "recipe.label_smoothing=0.1"],
    "detection": ["data=coco_format"],
    "segmentation": ["data=voc_format", "head.dropout=0", "recipe.class_weights=[1,2,3]"],
}
# Processes, and images of each in a batch: 1, 1 (ragged), 1 (ragged) and 3 batches per step.
ONE, TWO, THREE, PARTS = (1, 10), (2, 5), (3, 4), (1, 4)


def write_folders(root):
    """Write images of three classes into one folder per class."""
    random = np.random.default_rng(0)
    for split, number in (("train", 29), ("val", 6)):
        for index in range(number):
            folder = root / split / CLASSES[index % 3]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (48, 40, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{index}.png"), pixels)
    return root


SETS = {
    "classification": write_folders,
    "detection": coco_files.write_copies,
    "segmentation": voc_files.write_several,
}


def overrides_of(task, root):
    return [
        f"task={task}",
        *TASKS[task],
        *COMMON,
        f"data.root={root}",
        f"recipe.multi_scale={MULTI_SCALE}",
    ]


def run_to_the_end(overrides, folder, starts, kills):
    """Train in several starts, each with its processes and killed at its step but the last."""
    for (processes, batch_size), kill in zip(starts, [*kills, None], strict=True):
        own = [*overrides, f"recipe.batch_size={batch_size}"]
        code = train(own, folder / "run", folder / "record", processes, kill)
        assert (code == 0) == (kill is None)


def losses_of(run):
    """Return the loss of every step, the last one logged for it."""
    losses = {}
    for file in sorted((run / "csv").glob("*/metrics.csv")):
        for line in csv.DictReader(io.StringIO(file.read_text())):
            if line["train/loss_step"]:
                losses[int(line["step"])] = float(line["train/loss_step"])
    return losses


def assert_same_training(one, other):
    """Assert that two trainings have seen and computed the same, but for rounding in float64."""
    assert steps_in(other / "record") == steps_in(one / "record")
    losses = losses_of(one / "run")
    assert losses_of(other / "run") == pytest.approx(losses, rel=1e-10)
    assert sorted(losses) == list(range(len(losses)))
    ends = [read_checkpoint(each / "run" / LAST) for each in (one, other)]
    assert ends[0]["position"] == ends[1]["position"]
    for name, value in ends[0]["state_dict"].items():
        torch.testing.assert_close(
            ends[1]["state_dict"][name], value, rtol=1e-9, atol=1e-12, msg=name
        )
    results = [json.loads((each / "run" / "results.json").read_text()) for each in (one, other)]
    for key in ("steps", "epochs", "images"):
        assert results[0][key] == results[1][key]
    assert results[1]["train/loss"] == pytest.approx(results[0]["train/loss"], rel=1e-6)


def run_and_compare(task, starts, folder):
    """Kill a training at random steps, resume it in other ways, and compare with a whole one."""
    overrides = overrides_of(task, SETS[task](folder / "set"))
    run_to_the_end(overrides, folder / "straight", [ONE], [])
    count = len(steps_in(folder / "straight" / "record"))
    assert count >= 6
    random = np.random.default_rng()  # other steps in every run of the tests
    after = sorted(random.choice(np.arange(1, count), len(starts) - 1, replace=False).tolist())
    kills = [
        {"step": step, "rank": int(random.integers(processes))}
        for step, (processes, _) in zip(after, starts, strict=False)
    ]
    print(kills)  # shown if the test fails
    run_to_the_end(overrides, folder / "changed", starts, kills)
    assert_same_training(folder / "straight", folder / "changed")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_killed_and_resumed_by_other_processes(task, tmp_path):
    run_and_compare(task, [ONE, TWO, THREE, PARTS, ONE], tmp_path)


@pytest.mark.slow
def test_all_processes_skip_a_step_that_is_not_finite_in_one(tmp_path):
    overrides = overrides_of("classification", write_folders(tmp_path / "set"))
    poison = "+callbacks.poison={_target_:elastic.Poison,step:3,rank:1}"
    overrides += ["recipe.batch_size=5", "recipe.on_nan=skip", poison]
    assert train(overrides, tmp_path / "run", tmp_path / "record", 2) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["skipped_steps"] == 1
    assert results["steps"] == len(steps_in(tmp_path / "record"))
    checkpoint = read_checkpoint(tmp_path / "run" / LAST)
    for states in (checkpoint["state_dict"], checkpoint["current_model_state"]):
        assert all(value.isfinite().all() for value in states.values())


@pytest.mark.slow
def test_torchrun_goes_on_after_a_process_and_a_machine_are_lost(tmp_path):
    """Three machines of one process each: a process is killed, later a machine with its process."""
    overrides = overrides_of("classification", write_folders(tmp_path / "set"))
    run_to_the_end(overrides, tmp_path / "straight", [ONE], [])
    victim, record = tmp_path / "victim", tmp_path / "changed" / "record"
    kills = [
        {"step": 2, "rank": 1, "once": tmp_path / "killed"},
        {"step": 5, "once": victim},
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1:3", "--nproc-per-node=1"),
        *("--max-restarts=9", "--monitor-interval=0.5", "--rdzv-id=mine", "--rdzv-backend=c10d"),
        f"--rdzv-endpoint=127.0.0.1:{port}",
        "--rdzv-conf=last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=3",
        *(str(IN_FLOAT64), *overrides, *callbacks(record, *kills), "recipe.batch_size=10"),
        *(
            "trainer=ddp",
            "trainer.accelerator=cpu",
            f"hydra.run.dir={tmp_path / 'changed' / 'run'}",
        ),
    ]
    # With a shared store, torch 2.13 waits in vain for a machine that joins later.
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    machines = [subprocess.Popen(command, env=environment)]
    try:
        while not is_listening(port):  # the first one is the meeting point
            time.sleep(0.2)
        machines += [subprocess.Popen(command, env=environment) for _ in range(2)]
        victim.write_text(str(machines[-1].pid))
        assert [machine.wait(timeout=400) for machine in machines] == [0, 0, -signal.SIGKILL]
    finally:
        for machine in machines:
            machine.kill()
    processes = [
        json.loads(line)["processes"]
        for file in record.iterdir()
        for line in file.read_text().splitlines()
    ]
    assert {2, 3} <= set(processes)
    assert (tmp_path / "killed").read_text() == victim.read_text() == "done"
    assert_same_training(tmp_path / "straight", tmp_path / "changed")


def is_listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
