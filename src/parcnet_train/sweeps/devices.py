"""Devices of concurrent jobs: each job gets its own GPUs and its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Sequence

from parcnet_train.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def visible_gpus() -> list[str]:
    """Return the GPUs of this process, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return names[:count] or [str(number) for number in range(count)]


def processes_of(devices: object, otherwise: int = 1) -> int:
    """Return the number of processes of a job, from `trainer.devices`.

    Args:
        devices: Value of `trainer.devices`. An invalid one counts as one process, since the job
            itself reports it.
        otherwise: Number that `auto` stands for.
    """
    if devices == "auto":
        return max(1, otherwise)
    return devices if isinstance(devices, int) and devices > 0 else 1


def gpus_wanted(accelerator: object, devices: object, visible: int, at_once: int) -> int:
    """Return the number of GPUs that a job gets.

    Args:
        accelerator: Value of `trainer.accelerator`.
        devices: Value of `trainer.devices`.
        visible: Number of GPUs of this machine.
        at_once: Number of concurrent jobs; with `trainer.devices=auto` they share the GPUs.
    """
    if visible == 0 or accelerator not in ("auto", "gpu", "cuda"):
        return 0
    return processes_of(devices, visible // at_once)


def refuse_too_few(wanted: Sequence[int], visible: int, at_once: int) -> None:
    """Refuse a sweep whose concurrent jobs may need more GPUs than the machine has.

    Args:
        wanted: Number of GPUs of each job.
        visible: Number of GPUs of this machine.
        at_once: Number of concurrent jobs.

    Raises:
        ConfigError: If the jobs with the most GPUs need more than there are.
    """
    needed = sum(sorted(wanted)[-at_once:])
    if needed > visible:
        raise ConfigError(
            f"hydra.launcher.n_jobs={at_once}: concurrent jobs need {needed} GPUs, since jobs do "
            f"not share GPUs; expected at most {visible}, as many as this machine has. Fix: lower "
            "hydra.launcher.n_jobs or trainer.devices, or use trainer.accelerator=cpu"
        )


def environment_of(
    devices: object, gpus: Sequence[str], at_once: int, cores: int
) -> dict[str, str]:
    """Return the environment variables that assign devices to a job.

    Args:
        devices: Value of `trainer.devices`.
        gpus: GPUs of the job, as `CUDA_VISIBLE_DEVICES` names them.
        at_once: Number of concurrent jobs, which share the cores; a single job needs no limit.
        cores: Number of cores of this machine.
    """
    told = {VISIBLE: ",".join(gpus)} if gpus else {}
    if at_once > 1 and not os.environ.get(THREADS):
        processes = len(gpus) or processes_of(devices)
        told[THREADS] = str(max(1, cores // (at_once * processes)))
    return told
