import pytest
import torch

import running
from faults import assert_one_is, is_like
from parcnet_train.check.config import check
from running import faults_of


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (fault,) = faults_of("trainer.accelerator=gpu")
    assert fault.startswith("trainer.accelerator=gpu: torch")
    assert "Fix: set trainer.accelerator=cpu" in fault


def test_an_apple_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (fault,) = faults_of("trainer.accelerator=mps")
    assert fault == (
        "trainer.accelerator=mps: torch finds no Apple GPU. Fix: set trainer.accelerator=cpu"
    )


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "trainer.devices=8: the number of GPUs here is 2; expected 1 to 2" in faults_of(
        "trainer.devices=8"
    )


SEVERAL = ("trainer=ddp", "trainer.accelerator=cpu")


def test_a_global_batch_that_cannot_be_divided_is_named():
    three = [*SEVERAL, "trainer.devices=3", "recipe.batch_size=4"]
    assert faults_of(*three, "recipe.global_batch=12") == []
    assert faults_of(*three, "recipe.global_batch=24", "recipe.accumulate=auto") == []
    (fault,) = faults_of(*three, "recipe.global_batch=13")
    assert fault == (
        "recipe.global_batch=13: 3 devices and recipe.accumulate=1 divide a step into 3 batches, "
        "of up to 5 images; expected at most recipe.batch_size=4. Fix: recipe.accumulate=auto, or "
        "raise recipe.batch_size"
    )
    (fault,) = faults_of(*three, "recipe.global_batch=5")
    assert "of down to 1 images; expected at least 2, since BatchNorm needs more" in fault
    large = "{_target_: parcnet_train.data.samplers.MultiScale, rule: balanced, largest: 4}"
    (fault,) = faults_of(*three, "recipe.global_batch=12", f"recipe.multi_scale={large}")
    assert "of down to 0 images" in fault


TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


SRUN = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    **{"SLURM_NTASKS": "8", "SLURM_NNODES": "1"},
}


@pytest.mark.parametrize(
    ("started", "overrides", "message"),
    [
        (
            {},
            ["trainer.devices=2"],
            "trainer.devices=2: trainer=default uses only one device",
        ),
        (
            {},
            ["trainer=cpu", "trainer.devices=2"],
            "trainer=cpu uses only one device",
        ),
        (
            {},
            [*SEVERAL, "trainer.num_nodes=2"],
            "trainer.num_nodes=2: only one process was started. Fix: start torchrun on each",
        ),
        (
            TORCHRUN,
            [*SEVERAL, "trainer.devices=4"],
            "trainer.devices=4, trainer.num_nodes=2: torchrun has started 4 processes on 2 "
            "machines. Fix: start the same number on each machine, and set trainer=ddp "
            "trainer.devices=2 trainer.num_nodes=2",
        ),
        (TORCHRUN, [], "trainer.devices=1, trainer.num_nodes=1: torchrun has started 4 processes"),
        (SRUN, [*SEVERAL, "trainer.devices=4"], "trainer.devices=4, … srun has started 8 proc"),
        (
            TORCHRUN,
            [*SEVERAL, "trainer.num_nodes=2", "action=profile"],
            "action=profile runs in one process, but torchrun has started 4. Fix: run the command "
            "without torchrun",
        ),
    ],
    ids=str,
)
def test_processes_that_were_started_must_be_those_that_are_wanted(
    started, overrides, message, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    (fault,) = faults_of(*overrides)
    assert is_like(fault, message)


def test_processes_that_were_started_as_wanted_are_no_fault(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    for devices in ("2", "auto"):
        assert faults_of(*SEVERAL, f"trainer.devices={devices}", "trainer.num_nodes=2") == []


def test_what_runs_elsewhere_may_have_other_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    values, _ = running.configure(["trainer=ddp", "trainer.accelerator=gpu", "trainer.devices=8"])
    assert check(values)[0].message.startswith("trainer.accelerator=gpu: torch")
    assert check(values, is_here=False) == []


def test_batchnorm_over_processes_needs_gpus():
    (fault,) = faults_of(*SEVERAL, "trainer.sync_batchnorm=true")
    assert fault == (
        "trainer.sync_batchnorm=true: torch synchronizes BatchNorm only on GPUs. Fix: leave it out"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.accelerator=cpu", "trainer.precision=16-mixed"], "16-mixed: it needs a GPU"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["trainer.max_steps=0"], "trainer.max_steps=0"),
        (["trainer.val_check_interval=0.0"], "trainer.val_check_interval=0.0"),
        (["trainer.val_check_interval=1.5"], "trainer.val_check_interval=1.5"),
        (["trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch=0"),
        (
            ["trainer.check_val_every_n_epoch=2", "trainer.val_check_interval=50"],
            "trainer.check_val_every_n_epoch=2",
        ),
    ],
)
def test_wrong_validations_are_named(overrides, fault):
    (line,) = faults_of(*overrides)
    assert line.startswith(fault)
