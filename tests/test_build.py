import pytest
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

import running
from parcnet_train.build import (
    build_model,
    build_optimizer,
    build_trainer,
    epochs_of,
    max_epochs,
    processes_to_start,
    world_size,
)
from parcnet_train.distributed.cluster import cluster_environment

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
}


def configured(*overrides):
    return running.configure(overrides)[0]


def start(monkeypatch, environment):
    # A trainer of several processes sets the rank in all of Lightning; later tests need another.
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 24_000), (96, 250), (800, 30), (801, 30), (50_000, 30)]
)
def test_max_epochs_depends_on_the_number_of_images(images, epochs):
    follows = {"trainer": {"max_epochs": {"at_least": 30, "images": 24_000}}}
    assert epochs_of(max_epochs(follows), images) == epochs
    assert epochs_of(max_epochs({"trainer": {"max_epochs": 7}}), images) == 7


@pytest.mark.parametrize(
    ("overrides", "processes"),
    [
        ([], 1),
        (["trainer=ddp", "trainer.devices=8"], 8),
        (["trainer=ddp", "trainer.devices=8", "trainer.num_nodes=2"], 16),
        (["trainer=ddp"], 3),
        (["trainer=ddp", "trainer.accelerator=cpu"], 1),
    ],
    ids=str,
)
def test_world_size_is_devices_times_machines(overrides, processes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert world_size(configured(*overrides)) == processes


def test_auto_devices_is_one_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert world_size(configured("trainer=ddp")) == 1


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_auto_devices_follows_the_launcher(environment, monkeypatch):
    start(monkeypatch, environment)
    assert world_size(configured("trainer=ddp", "trainer.num_nodes=2")) == 4


@pytest.mark.parametrize(("action", "processes"), [("fit", 4), ("test", 4), ("benchmark", 1)])
def test_only_trainings_and_evaluations_use_several_processes(action, processes, monkeypatch):
    config = configured("trainer=ddp", "trainer.devices=4", f"action={action}")
    assert processes_to_start(config) == processes
    start(monkeypatch, TORCHRUN)
    assert processes_to_start(config) == 1


def test_single_slurm_task_starts_the_processes_of_its_machine(monkeypatch):
    start(monkeypatch, {**SRUN, "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"})
    assert processes_to_start(configured("trainer=ddp", "trainer.devices=4")) == 4


def test_one_device_starts_no_other_process(tmp_path):
    config = configured("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1")
    config["paths"]["output"] = str(tmp_path)
    assert isinstance(build_trainer(config).strategy, SingleDeviceStrategy)


def test_lightning_gets_rank_and_world_size_from_torchrun(tmp_path, monkeypatch):
    start(monkeypatch, TORCHRUN)
    several = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.num_nodes=2")
    config = configured(*several)
    config["paths"]["output"] = str(tmp_path)
    trainer = build_trainer(config)
    assert isinstance(trainer.strategy, DDPStrategy)
    assert (trainer.global_rank, trainer.local_rank, trainer.world_size) == (3, 1, 4)
    assert trainer.strategy.cluster_environment.creates_processes_externally


def test_lightning_gets_rank_from_slurm_and_leaves_signals_to_callbacks(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    start(monkeypatch, SRUN)
    environment = cluster_environment(4)
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    ranks = environment.global_rank(), environment.local_rank(), environment.world_size()
    assert ranks == (3, 1, 4)
    # Lightning requires this variable; `check` verifies the number of tasks per machine.
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    cluster_environment(4).validate_settings(num_devices=2, num_nodes=2)


@pytest.mark.parametrize(
    ("overrides", "fused"),
    [
        ((), True),
        (("recipe.gradient_clip=1.0",), None),  # Lightning cannot clip with such a step
        (("+recipe.optimizer.foreach=true",), None),
        (("+recipe.optimizer.fused=false",), False),
    ],
)
def test_step_of_adamw_is_one_kernel_on_cpus(overrides, fused):
    config = configured(*running.TINY, *overrides)
    optimizer = build_optimizer(config, build_model(config, 10))
    assert optimizer.defaults["fused"] is fused
