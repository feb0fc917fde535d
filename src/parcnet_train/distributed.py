"""Several processes in one training: how Lightning finds them, and what they must share."""

from __future__ import annotations

import parcnet_train.compat  # noqa: F401  before Lightning, whose metrics import torchvision

import os

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import nn

from parcnet_train.processes import place


def cluster_environment(world_size: int) -> ClusterEnvironment:
    """Tells Lightning how processes find each other, so that it never starts any itself.

    It would start the command again, which under `-m` is a whole sweep.

    Args:
        world_size: number of processes.
    """
    if world_size == 1:
        return LightningEnvironment()
    if place().started_by == "srun":
        # Lightning wants this from srun's command line; that it is so, `check` has made sure.
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(place().local_world_size))
        return SLURMEnvironment(auto_requeue=False)  # what is done at signals, callbacks do
    return TorchElasticEnvironment()


class SharedBuffers(Callback):
    """Gives all processes the buffers of the first: those of the weights, and those of their EMA.

    Every process has BatchNorm statistics of its own images. The first one's are saved; torch
    brings them to the others in front of a training step, but neither after the last one nor to
    the averages.
    """

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the weights are evaluated, and the EMA takes their place."""
        self._share(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where an epoch ends without validation, too."""
        self._share(trainer, pl_module)

    def _share(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        modules: list[nn.Module | None] = [pl_module]
        modules += [
            each._average_model
            for each in trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(each, WeightAveraging)
        ]
        for module in modules:
            for buffer in module.buffers() if module else ():
                torch.distributed.broadcast(buffer, src=0)
