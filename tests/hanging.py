"""Commands in which something hangs, is stopped or is killed on purpose."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger

from mounts import with_mount
from running import TINY

CHECKPOINTS = ("checkpoint.every_n_steps=1", "trainer.limit_train_batches=6")


class At(Callback):
    """Callback that does something at the beginning of a step.

    Args:
        step: Step, counted from 0.
        what: Name of a method.
        rank: Rank of the process that does it.
    """

    def __init__(self, step, what, rank=0):
        self.step = step
        self.what = what
        self.rank = rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            getattr(self, self.what)(trainer)

    def stop(self, trainer):
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleep(self, trainer):
        time.sleep(600)

    def fill_memory(self, trainer):
        bytearray(2**62)

    def kill_worker(self, trainer):
        workers = trainer.datamodule.loaders[0]._iterator._workers
        os.kill(workers[0].pid, signal.SIGKILL)
        time.sleep(600)  # the signal of the ended process interrupts it


class Sleeping(CSVLogger):
    """Logger that blocks forever in one of its methods.

    Args:
        save_dir: Folder of its files.
        method: Name of the method.
    """

    def __init__(self, save_dir, method):
        super().__init__(save_dir)
        self.blocks = method

    def log_metrics(self, metrics, step=None):
        self.block("log_metrics")

    def finalize(self, status):
        self.block("finalize")

    def block(self, method):
        if self.blocks == method:
            time.sleep(600)


def command(output, *overrides, mount=None, prefix=()):
    """Run a small training as a command.

    Args:
        output: Directory of the run.
        *overrides: Overrides of the command line.
        mount: Shell command of a mount that only this command sees; None: none.
        prefix: Command that starts this one.
    """
    start = [sys.executable, "-m", "parcnet_train", *TINY, "task.pictures=0", *CHECKPOINTS]
    arguments = [*prefix, *start, *overrides, f"hydra.run.dir={output}"]
    return subprocess.run(
        arguments if mount is None else with_mount(mount, arguments),
        env={**os.environ, "PYTHONPATH": path_with_tests()},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def path_with_tests():
    """Return the search path of Python's modules, with the folder of the tests."""
    return os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


def only_error(done):
    """Return the only line of a failed command that is an error; it must be no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("error: "))
    return line
