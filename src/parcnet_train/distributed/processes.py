"""Rank, world size and launcher of this process, read from the environment.

This module does not import PyTorch, so that `--help` stays fast.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Variables of torchrun (docs.pytorch.org/docs/stable/elastic/run.html) and of our launcher.
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
NO_RUN_ID = "none"  # torchrun's name of a run without --rdzv-id

LAUNCHER = "PARCNET_TRAIN_LAUNCHER"  # process id of our launcher, set for its processes
SWEEP = "PARCNET_TRAIN_SWEEP"  # process id of a sweep's launcher, set for its jobs
# SLURM's usual warning before a time limit (`--signal=USR1@120`); Windows lacks this signal.
USR1: int | None = getattr(signal, "SIGUSR1", None)
# Signals at which a checkpoint is written.
SAVING = (signal.SIGTERM,) if USR1 is None else (signal.SIGTERM, USR1)
PR_SET_PDEATHSIG = 1  # from prctl.h of Linux

# Variables of tasks that srun starts. Batch scripts and `salloc` shells are unnumbered steps.
SRUN = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
FIRST_UNNUMBERED_STEP = 0xFFFFFFF0  # SLURM_MAX_NORMAL_STEP_ID of slurm.h


@dataclass(frozen=True)
class Place:
    """Rank and process information of a process in its run.

    Attributes:
        started_by: Launcher of the process; None if it was started without one.
        rank: Rank among all processes.
        world_size: Number of all processes.
        nodes: Number of machines.
        run_name: Name that all processes share, also after a job is requeued; None without one.
    """

    started_by: Literal["torchrun", "srun"] | None = None
    rank: int = 0
    world_size: int = 1
    nodes: int = 1
    run_name: str | None = None

    @property
    def local_world_size(self) -> int:
        """Number of processes on this machine."""
        return self.world_size // self.nodes

    @property
    def is_shared(self) -> bool:
        """Whether several processes must choose the same directory without communication.

        A run of torchrun with a name may have only one process left after others have gone.
        """
        is_named = self.started_by == "torchrun" and self.run_name is not None
        return self.world_size > 1 or is_named

    @property
    def is_alone(self) -> bool:
        """Whether no launcher has started further processes; then this package starts them."""
        return self.started_by is None or (self.started_by == "srun" and self.world_size == 1)


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Return rank and process information of this process."""
    if all(environment.get(name) for name in TORCHRUN):
        return _place_in_torchrun(environment)
    return _place_in_slurm(environment) if is_srun_task(environment) else Place()


def is_srun_task(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether srun has started this process or its launcher."""
    is_task = all(environment.get(name) for name in SRUN)
    return is_task and int(environment["SLURM_STEP_ID"]) < FIRST_UNNUMBERED_STEP


def slurm_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the id of this SLURM job, such as 120_3 in an array; None outside of SLURM."""
    if array := environment.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def job_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the SLURM job or the named torchrun run of this process; None outside of both."""
    name = environment.get("TORCHELASTIC_RUN_ID", NO_RUN_ID)
    return slurm_job(environment) or (None if name == NO_RUN_ID else name)


def is_restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether SLURM or torchrun has restarted this command."""
    names = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(environment.get(name, "0") != "0" for name in names)


def _place_in_torchrun(environment: Mapping[str, str]) -> Place:
    world_size = int(environment["WORLD_SIZE"])
    run_id = environment.get("TORCHELASTIC_RUN_ID", NO_RUN_ID)
    # Without underscores: runs/directories.py appends suffixes such as `_test` to names.
    word = re.sub(r"[^A-Za-z0-9.]+", "-", run_id)
    return Place(
        started_by="torchrun",
        rank=int(environment["RANK"]),
        world_size=world_size,
        nodes=world_size // int(environment.get("LOCAL_WORLD_SIZE", world_size)),
        run_name=None if run_id == NO_RUN_ID else f"torchrun-{word}",
    )


def _place_in_slurm(environment: Mapping[str, str]) -> Place:
    step = environment["SLURM_STEP_ID"]
    return Place(
        started_by="srun",
        rank=int(environment["SLURM_PROCID"]),
        world_size=int(environment["SLURM_NTASKS"]),
        nodes=int(environment.get("SLURM_NNODES", "1")),
        # A script may call srun several times; SLURM names the second step job.1.
        run_name=f"slurm-{slurm_job(environment)}" + ("" if step == "0" else f".{step}"),
    )


def own_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def follow_launcher(variable: str = LAUNCHER) -> bool:
    """Make this process end with its launcher, even if the launcher is killed (Linux only).

    Args:
        variable: Environment variable that contains the launcher's process id.

    Returns:
        Whether our launcher has started this process.
    """
    launcher = os.environ.pop(variable, None)
    if launcher is None:
        return False
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # the launcher ended before the line above
        sys.exit(1)
    return True
