"""Processes of torchrun, SLURM and submitit, as far as one machine can simulate them."""

import json
import os
import random
import socket
import subprocess
import sys

import pytest

from parcnet_train.config.compose import compose_config
from running import TINY

SEVERAL = ("trainer=ddp", "trainer.accelerator=cpu")
MODULE = ("-m", "parcnet_train")
RUNS = "runs/classification/parcnet_xs-demo"


def start(*arguments, cwd, environment=()):
    return subprocess.Popen(
        [sys.executable, *arguments, *TINY, *SEVERAL],
        cwd=cwd,
        env={**os.environ, **dict(environment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Wait until all processes succeed, and return their output."""
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), printed
    return "".join(printed)


def the_run(folder, printed, name):
    """Return the only run in a folder; assert that only one process has logged and written."""
    (run,) = folder.glob(f"{RUNS}/*")
    assert run.match(name)
    assert [path.name for path in folder.iterdir()] == ["runs"]
    assert json.loads((run / "results.json").read_text())["status"] == "done"
    for text in (printed, (run / "parcnet_train.log").read_text()):
        assert text.count("writing into") == text.count("epoch 1/1") == 1
    return run


@pytest.mark.slow
def test_torchrun_on_one_machine(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    printed = finish(start(*torchrun, *MODULE, "trainer.devices=2", cwd=tmp_path))
    the_run(tmp_path, printed, "torchrun-*")


@pytest.mark.slow
def test_torchrun_on_two_machines(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=mine")
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}")
    wanted = ("trainer.devices=1", "trainer.num_nodes=2")
    machines = [start(*torchrun, *meeting, *MODULE, *wanted, cwd=tmp_path) for _ in range(2)]
    the_run(tmp_path, finish(*machines), "torchrun-mine")


@pytest.mark.slow
def test_tasks_of_slurm(tmp_path):
    # Lightning derives its port from the job id.
    job = str(random.randrange(10_000, 60_000))
    tasks = []
    for rank in range(2):
        environment = {
            "SLURM_JOB_ID": job,
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_NNODES": "1",
        }
        tasks.append(
            start(*MODULE, "trainer.devices=2", cwd=tmp_path, environment=environment.items())
        )
    the_run(tmp_path, finish(*tasks), f"slurm-{job}")


def test_submitit_accepts_its_settings():
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=8"]
    config, faults = compose_config([*slurm, "trainer=ddp", "trainer.devices=8"])
    assert faults == []
    assert config.hydra.launcher.tasks_per_node == 8
    _, (fault,) = compose_config([*slurm, "hydra.launcher.node=2"])
    assert "did you mean hydra.launcher.nodes?" in fault.message


@pytest.mark.slow
def test_submitit_job_starts_its_processes(tmp_path):
    finish(start(*MODULE, "-m", "hydra/launcher=submitit_local", "trainer.devices=2", cwd=tmp_path))
    (run,) = (path for path in tmp_path.glob("runs/sweeps/*/*") if (path / "csv").is_dir())
    assert json.loads((run / "results.json").read_text())["trainer"] == "ddp"
    assert (run / "parcnet_train.log").read_text().count("epoch 1/1") == 1
