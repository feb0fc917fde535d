"""Where this process stands among those of its run, as whatever started it has told it.

All of that is in environment variables: `--help` needs no torch.
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

# Of torchrun (docs.pytorch.org/docs/stable/elastic/run.html) and of our launcher.
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
NO_RUN_ID = "none"  # what torchrun calls a run that was given no name

LAUNCHER = "PARCNET_TRAIN_LAUNCHER"  # process id of our launcher, told to what it starts
SWEEP = "PARCNET_TRAIN_SWEEP"  # the same of the launcher of a sweep, told to its jobs
# SLURM's usual warning before a time limit (`--signal=USR1@120`); Windows has no such signal.
USR1: int | None = getattr(signal, "SIGUSR1", None)
SAVING = (signal.SIGTERM,) if USR1 is None else (signal.SIGTERM, USR1)  # write a checkpoint
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h

# Of tasks that srun starts; a batch script and a shell of `salloc` are no numbered steps.
SRUN = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
FIRST_UNNUMBERED_STEP = 0xFFFFFFF0  # SLURM_MAX_NORMAL_STEP_ID of slurm.h


@dataclass(frozen=True)
class Place:
    """The place of a process among those of its run.

    Attributes:
        started_by: what has started it as one of several; None where it was started alone.
        rank: its number among all processes.
        world_size: number of all processes.
        nodes: number of machines.
        run_name: the same in all processes, and in those of a job that was requeued; None where
            they have none.
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
    def is_alone(self) -> bool:
        """Whether nothing has started the other processes of a run; then we do."""
        return self.started_by is None or (self.started_by == "srun" and self.world_size == 1)


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """The place of this process."""
    if all(environment.get(name) for name in TORCHRUN):
        return _place_in_torchrun(environment)
    return _place_in_slurm(environment) if is_srun_task(environment) else Place()


def is_srun_task(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether srun has started this process, or the launcher that has: it has a run of the job."""
    is_task = all(environment.get(name) for name in SRUN)
    return is_task and int(environment["SLURM_STEP_ID"]) < FIRST_UNNUMBERED_STEP


def slurm_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """This SLURM job as SLURM's commands take it, 120_3 for one of an array; None outside of it."""
    if array := environment.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def job_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """The job of SLURM, or the run of torchrun, that this process belongs to; None outside."""
    return slurm_job(environment) or environment.get("TORCHELASTIC_RUN_ID")


def is_restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether SLURM or torchrun has started the same command before."""
    names = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(environment.get(name, "0") != "0" for name in names)


def _place_in_torchrun(environment: Mapping[str, str]) -> Place:
    world_size = int(environment["WORLD_SIZE"])
    run_id = environment.get("TORCHELASTIC_RUN_ID", NO_RUN_ID)
    # What runs/directories.py puts behind names, `_test`, cannot be part of one.
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
        # A script may call srun several times: the second run is job.1, as SLURM writes it.
        run_name=f"slurm-{slurm_job(environment)}" + ("" if step == "0" else f".{step}"),
    )


def own_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def follow_launcher(variable: str = LAUNCHER) -> bool:
    """Makes a process of our launcher end with it, even where it is killed; Linux only.

    Args:
        variable: of the environment, which holds the launcher's process id.

    Returns:
        Whether this is such a process.
    """
    launcher = os.environ.pop(variable, None)
    if launcher is None:
        return False
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it ended before the line above
        sys.exit(1)
    return True
