"""Watchdog of a run: says what hangs, and ends the run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.distributed import PrefixStore, distributed_c10d  # type: ignore[attr-defined]

from parcnet_train.errors import TrainingError, print_error
from parcnet_train.runs.claims import note_outcome
from parcnet_train.runs.loggers import attempt

LOOKS = 10  # looks at the progress within the limit
MOST_SECONDS = 5.0  # between two looks
CERTAIN_LOOKS = 3  # looks after which a process that has not published anything is stopped
ANSWERING_SECONDS = 10.0  # time for the store to answer
REPORTING_SECONDS = 60.0  # time for the process that reports, before the others end by themselves
CODE = 2  # exit code, as of every error that a user can fix
TORCH = f"{os.sep}torch{os.sep}"  # in the names of its files
WAY_OUT = "then resume with ckpt=last if there is a checkpoint"

State = Mapping[str, Any]

_numbers = itertools.count()  # of the watchdogs of this process, the same in every process


class Watchdog(Callback):
    """Callback that ends a run that hangs: a process is stopped, or waits for something forever.

    A thread looks at the progress: the hooks that were passed, and the line that the main thread is
    at, which changes during a long evaluation.

    If one of several processes hangs, the others wait in a collective, and do not know for whom. So
    each thread publishes its progress in the store that the processes met at. The process that
    hangs is the one whose thread does not run, or else the one that has passed the fewest hooks,
    since all others have come as far as the collective. If several have passed the fewest, those
    that are in a function of torch are waiting.

    The thread runs only within `watched`.

    Args:
        minutes: Longest time without progress.
        folder: Run directory.
    """

    def __init__(self, minutes: float, folder: Path) -> None:
        self.minutes = minutes
        self.folder = folder
        self.seconds = min(MOST_SECONDS, 60 * minutes / LOOKS)
        self.passed = 0  # hooks
        self.looks = 0  # of the thread
        self.ended = threading.Event()
        self.ended.set()

    def _pass(self, *_: Any, **__: Any) -> None:
        self.passed += 1

    on_train_start = on_train_epoch_start = on_train_batch_start = on_before_backward = _pass
    on_after_backward = on_train_batch_end = on_train_epoch_end = on_train_end = _pass
    on_validation_start = on_validation_batch_start = on_validation_batch_end = _pass
    on_validation_epoch_end = on_validation_end = teardown = _pass

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the thread."""
        if not self.ended.is_set():
            states = States(f"watchdog-{next(_numbers)}", trainer.global_rank, trainer.world_size)
            threading.Thread(target=self._watch, args=(states,), daemon=True).start()

    def _watch(self, states: States) -> None:
        seen, waited = self._progress(), 0.0
        while not self.ended.wait(self.seconds):
            # Counted in looks: if the whole run is suspended, the time goes on without them.
            waited = waited + self.seconds if self._progress() == seen else 0.0
            seen = self._progress()
            self._publish(states)
            if waited >= 60 * self.minutes:
                self._end(states)

    def _progress(self) -> tuple[int, str]:
        return self.passed, main_line()

    def _publish(self, states: States) -> None:
        self.looks += 1
        states.publish({"passed": self.passed, "looks": self.looks, "line": main_line()})

    def _end(self, states: States) -> None:
        """End this process; the first one that does not hang says which one does."""
        seen, before = self.passed, states.read()
        self._look_on(states, CERTAIN_LOOKS)
        if self.ended.is_set() or self.passed > seen:
            return
        now = states.read()
        stopped = [each for each, state in now.items() if state == before.get(each)]
        fewest = min((state["passed"] for state in now.values()), default=0)
        late = [each for each, state in now.items() if state["passed"] == fewest]
        busy = [each for each in late if TORCH not in now[each]["line"]]
        hanging = stopped or busy or late
        awake = sorted(now.keys() - hanging) or sorted(now)
        if not now or states.rank == awake[0]:
            error = TrainingError(self._message(hanging, now, is_stopped=bool(stopped)))
            note_outcome(self.folder, error)
            print_error(error)
        else:
            self._look_on(states, int(REPORTING_SECONDS / self.seconds))
        sys.stderr.flush()
        os._exit(CODE)  # the main thread does not come back

    def _look_on(self, states: States, looks: int) -> None:
        for _ in range(looks):
            time.sleep(self.seconds)
            self._publish(states)

    def _message(
        self, hanging: Sequence[int], states: Mapping[int, State], is_stopped: bool
    ) -> str:
        limit = f"trainer.timeout_minutes={self.minutes:g}"
        if not states:
            place = ":".join(os.environ.get(key, "?") for key in ("MASTER_ADDR", "MASTER_PORT"))
            return (
                f"{limit}: the processes made no progress for that long, and {place}, where they "
                f"met, does not answer. Fix: check that machine and its process 0, {WAY_OUT}"
            )
        who = ", ".join(
            f"process {rank} (pid {states[rank]['pid']} on {states[rank]['host']})"
            for rank in hanging
        )
        if is_stopped:
            return (
                f"{limit}: {who} is stopped or gone, and the others wait for it. Fix: check that "
                f"machine, {WAY_OUT}"
            )
        subject = f"{who}, for which the others wait," if len(states) > 1 else "the run"
        return (
            f"{limit}: {subject} made no progress for that long; it is at "
            f"{states[hanging[0]]['line']}. Fix: increase it if that may take longer, otherwise "
            f"find out why it hangs there, {WAY_OUT}"
        )


@contextlib.contextmanager
def watched(trainer: pl.Trainer) -> Iterator[None]:
    """Let the watchdog of a trainer watch it until the trainer has returned.

    A hook would end too early: Lightning calls the last ones before it ends the loggers.
    """
    watchdogs = [each for each in trainer.callbacks if isinstance(each, Watchdog)]  # type: ignore[attr-defined]
    for each in watchdogs:
        each.ended.clear()
    try:
        yield
    finally:
        for each in watchdogs:
            each.ended.set()


class States:
    """What the watchdogs of all processes have published.

    Args:
        name: Name among the keys of the store.
        rank: Rank of this process.
        processes: Number of processes; a single one has no store.
    """

    def __init__(self, name: str, rank: int, processes: int) -> None:
        self.rank = rank
        self.processes = processes
        self.me: State = {"pid": os.getpid(), "host": socket.gethostname()}
        self.store: Any = None
        if processes > 1:
            store: Any = distributed_c10d._get_default_store()
            while isinstance(store, PrefixStore):
                store = store.underlying_store
            own = store.clone()  # another connection: the main thread may wait in the first one
            own.set_timeout(timedelta(seconds=ANSWERING_SECONDS))
            self.store = PrefixStore(name, own)

    def publish(self, state: State) -> None:
        """Publish the state of this process, unless the store is gone."""
        self.me = {**self.me, **state}
        if self.store is None:
            return
        with contextlib.suppress(RuntimeError):  # as `read` will notice
            self.store.set(str(self.rank), json.dumps(self.me))

    def read(self) -> dict[int, State]:
        """Return the states by rank; empty if the store does not answer."""
        if self.store is None:
            return {self.rank: self.me}
        try:
            ranks = [rank for rank in range(self.processes) if self.store.check([str(rank)])]
            return {rank: json.loads(self.store.get(str(rank))) for rank in ranks}
        except RuntimeError:
            return {}


def main_line() -> str:
    """Return the file, the line and the function that the main thread is at, and its logger."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    line = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
    outer = frame.f_back
    while outer is not None:
        if outer.f_code is attempt.__code__:
            return f"{line}, called by {type(outer.f_locals['logger']).__name__}"
        outer = outer.f_back
    return line
