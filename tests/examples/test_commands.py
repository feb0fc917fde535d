"""The commands of the files of examples/ compose, and running them again resumes the run."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from string import Template

import pytest
import yaml

from documentation import ROOT, arguments
from parcnet_train.config.compose import choices, compose_config, to_plain, typed_faults
from parcnet_train.config.overrides import typed
from parcnet_train.sweeps.grid import register_resolvers
from running import TINY

RUN = "classification/parcnet_xs-demo"


def skypilot():
    """The words of the command that SkyPilot runs, and where its variables stand."""
    task = yaml.safe_load((ROOT / "examples" / "skypilot.yaml").read_text("utf-8"))
    return shlex.split(task["run"].replace("\\\n", " "))


def trainjob():
    """The words of the command that every pod of the TrainJob runs."""
    job = yaml.safe_load((ROOT / "examples" / "trainjob.yaml").read_text("utf-8"))
    return job["spec"]["trainer"]["command"] + job["spec"]["trainer"]["args"]


@pytest.mark.parametrize("words", [skypilot(), trainjob()], ids=["skypilot", "trainjob"])
def test_commands_compose_without_a_fault(words):
    register_resolvers()
    overrides = arguments(words)
    assert {"trainer=ddp", "checkpoint.every_minutes=15", "paths.runs=/runs"} <= {*overrides}
    config, faults = compose_config(overrides)
    plain = to_plain(config, choices(config.hydra), typed(config.hydra))
    assert [str(each) for each in [*faults, *plain.faults, *typed_faults(plain)]] == []


def start(words, folder, environment):
    """Start torchrun as an example does, with a small training on this machine's CPU."""
    given = words[1 : words.index("parcnet_train") + 1]
    overrides = [*TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=40"]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *(Template(word).safe_substitute(environment) for word in given),
            *(*overrides, f"paths.runs={folder}"),
        ],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill(torchrun):
    """Kill torchrun and its processes, as when a machine is lost (Linux only)."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    torchrun.kill()
    for child in map(int, children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    torchrun.communicate(timeout=60)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


PET = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "127.0.0.1"}
SKY = {"SKYPILOT_NUM_GPUS_PER_NODE": "1", "SKYPILOT_TASK_ID": "sky-managed-1_parcnet-s_1-0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "machines", "name"),
    [
        (skypilot(), [SKY], "torchrun-sky-managed-1-parcnet-s-1-0"),
        (trainjob(), [{**PET, "PET_NODE_RANK": rank} for rank in "01"], "torchrun-parcnet-s"),
    ],
    ids=["skypilot", "trainjob"],
)
def test_same_command_resumes_after_all_machines_are_lost(words, machines, name, tmp_path):
    run = tmp_path / RUN / name
    port = {"PET_MASTER_PORT": free_port()}
    lost = [start(words, tmp_path, {**each, **port}) for each in machines]
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "last.ckpt").is_file():
        assert time.monotonic() < deadline
        assert {each.poll() for each in lost} == {None}
        time.sleep(0.05)
    for each in lost:
        kill(each)
    assert not (run / "results.json").exists()

    port = {"PET_MASTER_PORT": free_port()}
    again = [start(words, tmp_path, {**each, **port}) for each in machines]
    printed = [each.communicate(timeout=500)[0] for each in again]
    assert {each.returncode for each in again} == {0}, printed
    assert [folder.name for folder in run.parent.iterdir()] == [name]
    assert json.loads((run / "results.json").read_text())["status"] == "done"
    assert len(json.loads((run / "provenance.json").read_text())["sessions"]) == 2
