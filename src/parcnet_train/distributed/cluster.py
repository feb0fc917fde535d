"""Lightning's description of the processes of a run."""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from parcnet_train.distributed.processes import place


def cluster_environment(world_size: int) -> ClusterEnvironment:
    """Return a Lightning environment in which Lightning never starts processes itself.

    Otherwise it would start the command again, which with `-m` is the whole sweep.

    Args:
        world_size: Number of processes.
    """
    if world_size == 1:
        return LightningEnvironment()
    if place().started_by == "srun":
        # Lightning requires this variable of srun; `check` has already verified its value.
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(place().local_world_size))
        return SLURMEnvironment(auto_requeue=False)  # callbacks handle the signals
    return TorchElasticEnvironment()
