"""Several processes in one training: how Lightning finds them."""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from parcnet_train.distributed.processes import place


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
