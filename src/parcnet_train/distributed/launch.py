"""Launcher of the processes of a run on this machine, one per device.

The processes get the same environment variables as from torchrun. torchrun's own launcher
(`torch.distributed.launcher.api.elastic_launch`) is not used: at a signal it raises and loses the
exit codes of its processes, it adds lines to every failure, it leaves a folder in /tmp, and its
processes survive if it is killed.
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
SAVING_SECONDS = 60.0  # time to write a checkpoint after a signal
FAILING_SECONDS = 10.0  # time for the other processes to end after one has failed
POLL_SECONDS = 0.05

Child = subprocess.Popen[bytes]


def launch(command: Sequence[str], processes: int) -> int:
    """Run a command in several processes and wait for all of them.

    SIGTERM, SIGINT and SIGUSR1 are forwarded to every process, which then has a minute to end. If
    one process fails, the others are terminated.

    Args:
        command: Program and arguments; a process finds its rank in its environment.
        processes: Number of processes.

    Returns:
        The exit code of the first process that failed, as shells report it, or 0.
    """
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in FORWARDED
    }
    # The rendezvous of the processes. The store holds its port, so no program can take it.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {**os.environ, **shared_environment(processes, store.port)}
    children: list[Child] = []
    try:
        for rank in range(processes):
            environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # In its own session, the process gets Ctrl-C only from here, not from the terminal.
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
    """Return the variables that torchrun sets for all processes, and the launcher's process id."""
    threads = max(1, torch.get_num_threads() // processes)  # the threads of one process, shared
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
    """Wait for processes, forward signals to them, and end all of them if one fails.

    Args:
        children: Processes to wait for.
        received: Numbers of received signals; the handlers append to it meanwhile.

    Returns:
        The exit code, see `launch`.
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
    """Report a process that was ended by a signal, since it could not report that itself."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; the kernel does so if the memory is full (see dmesg)" if name == "SIGKILL" else ""
        print(f"error: process {rank} was ended by {name}{hint}", file=sys.stderr)


def end(children: Sequence[Child], number: int) -> None:
    """Send a signal to all processes that are still running."""
    for child in children:
        child.send_signal(number)
