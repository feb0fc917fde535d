"""What each of several jobs at once may use: its own GPUs, its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from parcnet_train.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def visible_gpus() -> list[str]:
    """The GPUs of this process, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return names[:count] or [str(number) for number in range(count)]


def processes_of(config: Mapping[str, Any], otherwise: int = 1) -> int:
    """Processes of a job: `trainer.devices`.

    Args:
        config: of the job; one with faults, which fails by itself, is taken for one process.
        otherwise: what `auto` stands for.
    """
    devices = config.get("trainer", {}).get("devices")
    if devices == "auto":
        return max(1, otherwise)
    return devices if isinstance(devices, int) and devices > 0 else 1


def gpus_wanted(config: Mapping[str, Any], visible: int, at_once: int) -> int:
    """The GPUs that a job is given.

    Args:
        config: of the job.
        visible: GPUs of this machine.
        at_once: jobs that share them; `trainer.devices=auto` takes its share.
    """
    accelerator = config.get("trainer", {}).get("accelerator")
    if visible == 0 or accelerator not in ("auto", "gpu", "cuda"):
        return 0
    return processes_of(config, visible // at_once)


def refuse_too_few(wanted: Sequence[int], visible: int, at_once: int) -> None:
    """Makes sure that any jobs at once have GPUs of their own.

    Args:
        wanted: GPUs of each job.
        visible: GPUs of this machine.
        at_once: jobs at once.

    Raises:
        ConfigError: where the greediest ones would want more than there are.
    """
    needed = sum(sorted(wanted)[-at_once:])
    if needed > visible:
        raise ConfigError(
            f"hydra.launcher.n_jobs={at_once}: jobs at once want {needed} GPUs, each its own, and "
            f"this machine shows {visible}; lower hydra.launcher.n_jobs or trainer.devices, or use "
            "trainer.accelerator=cpu"
        )


def environment_of(
    config: Mapping[str, Any], gpus: Sequence[str], at_once: int, cores: int
) -> dict[str, str]:
    """What a job's process is told of its devices, beside the environment of this one.

    Args:
        config: of the job.
        gpus: its own, as `CUDA_VISIBLE_DEVICES` names them.
        at_once: jobs that share the cores; a single one finds out by itself.
        cores: of this machine.
    """
    told = {VISIBLE: ",".join(gpus)} if gpus else {}
    if at_once > 1 and not os.environ.get(THREADS):
        processes = len(gpus) or processes_of(config)
        told[THREADS] = str(max(1, cores // (at_once * processes)))
    return told
