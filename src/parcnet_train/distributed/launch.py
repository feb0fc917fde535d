"""Starts the processes of a run on this machine, one per device, and ends with them.

They see what torchrun would show them. torchrun's own launcher as a library
(`torch.distributed.launcher.api.elastic_launch`) was tried: at a signal it raises and loses the
exit codes of its processes, adds lines of its own to every failure, leaves a folder in /tmp, and
its processes go on when it is killed itself.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from parcnet_train.distributed.processes import LAUNCHER, SAVING

FORWARDED = (*SAVING, signal.SIGINT)
SAVING_SECONDS = 60.0  # that processes have, after a signal, to write a checkpoint
FAILING_SECONDS = 10.0  # that they have once one has failed: without it none can do a step
POLL_SECONDS = 0.05

Child = subprocess.Popen[bytes]


def launch(command: Sequence[str], processes: int) -> int:
    """Runs a command in several processes and waits for all of them.

    SIGTERM, SIGINT and SIGUSR1 go to every process, which then has a minute. Once one fails, the
    others are ended.

    Args:
        command: program and arguments; a process finds its rank in its environment.
        processes: how many.

    Returns:
        The exit code of the first process that failed, as shells count, or 0.
    """
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in FORWARDED
    }
    # Where the processes meet; its port is taken, and not just free a moment ago.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {**os.environ, **shared_environment(processes, store.port)}
    children: list[Child] = []
    try:
        for rank in range(processes):
            environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # A session of its own: Ctrl-C comes from here, and not from the terminal as well.
            child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
            children.append(child)
        return watch(children, received)
    finally:
        end(children, signal.SIGKILL)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def shared_environment(processes: int, port: int) -> dict[str, str]:
    """What torchrun tells all processes, and the process id of the launcher."""
    threads = max(1, torch.get_num_threads() // processes)  # those of one process, shared out
    return {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": uuid.uuid4().hex,
        "TORCHELASTIC_USE_AGENT_STORE": str(True),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        LAUNCHER: str(os.getpid()),
    }


def watch(children: Sequence[Child], received: list[int]) -> int:
    """Waits for processes; passes signals on, and ends them all once one has failed.

    Args:
        children: the processes.
        received: numbers of signals, which come in while this waits.

    Returns:
        See `launch`.
    """
    first, deadline = None, math.inf
    while True:
        codes = [child.poll() for child in children]
        if first is None and any(codes):
            first = next(rank for rank, code in enumerate(codes) if code)
            if deadline == math.inf:
                tell(first, codes[first])
                end(children, signal.SIGTERM)
                deadline = time.monotonic() + FAILING_SECONDS
        if None not in codes:
            code = 0 if first is None else children[first].returncode
            return 128 - code if code < 0 else code
        while received:
            end(children, received.pop(0))
            deadline = min(deadline, time.monotonic() + SAVING_SECONDS)
        if time.monotonic() > deadline:
            end(children, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def tell(rank: int, code: int | None) -> None:
    """Says which process a signal has ended, since it could not say so itself."""
    if code is not None and code < 0:
        print(f"error: process {rank} was ended by {signal.Signals(-code).name}", file=sys.stderr)


def end(children: Sequence[Child], number: int) -> None:
    """Sends a signal to all processes that still run."""
    for child in children:
        child.send_signal(number)
