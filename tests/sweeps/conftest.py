"""Fixtures: a machine without GPUs, and jobs on it."""

import sys

import pytest

from parcnet_train.check import config as checking
from parcnet_train.config.compose import PlainConfig
from parcnet_train.runs.directories import config_hash
from parcnet_train.sweeps import devices, launcher
from parcnet_train.sweeps.queue import Job
from sweep_jobs import FINISH, WRITE


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(checking, "check", lambda config, borrowed: [])
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])


@pytest.fixture
def jobs(tmp_path, machine):
    def make(*scripts, resuming=WRITE, gpus=1):
        made = []
        for seed, script in enumerate(scripts):
            trainer = {"accelerator": "auto", "devices": gpus}
            config = {"action": "fit", "seed": seed, "ckpt": None, "task": {}, "trainer": trainer}
            folder = tmp_path / f"seed-{seed}"
            head, tail = [sys.executable, "-c"], [str(folder), config_hash(config)]
            commands = [[*head, FINISH + body, *tail] for body in (script, resuming)]
            made.append(Job(f"seed={seed}", folder, PlainConfig(config), *commands))
        return made

    return make
