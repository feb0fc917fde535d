"""Trainings in float64 by several processes, which record their steps and may be killed."""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

from pytorch_lightning.callbacks import Callback
from torch.nn.modules.batchnorm import _BatchNorm

from parcnet_train.distributed.launch import launch

IN_FLOAT64 = Path(__file__).with_name("in_float64.py")


class Record(Callback):
    """Callback that writes samples and size of each batch as a line of JSON, in every process.

    It also freezes the statistics of every BatchNorm, which depend on the batch of a process.

    Args:
        folder: Folder to write to.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for module in pl_module.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        line = {
            "time": time.time(),
            "processes": trainer.world_size,
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "samples": batch.samples.tolist(),
            "size": list(batch.images.shape[2:]),
        }
        with (self.folder / f"{trainer.global_rank}-{os.getpid()}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


class Kill(Callback):
    """Callback that kills its process at the end of a step, before the checkpoint of that step.

    Args:
        step: Number of steps after which the process ends.
        rank: Rank of the process; None: that whose torchrun is to end, too.
        once: File that says that it has happened; with `rank=None`, it has the process id of that
            torchrun before.
    """

    def __init__(self, step, rank=None, once=None):
        self.step = step
        self.rank = rank
        self.once = None if once is None else Path(once)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step != self.step or trainer.fit_loop._should_accumulate():
            return
        if self.rank is None:
            if self.once.read_text() != str(os.getppid()):
                return
            os.kill(os.getppid(), signal.SIGKILL)
        elif trainer.global_rank != self.rank or (self.once is not None and self.once.is_file()):
            return
        if self.once is not None:
            self.once.write_text("done")
        os.kill(os.getpid(), signal.SIGKILL)


class Poison(Callback):
    """Callback that makes the outputs of one process NaN in one step.

    Args:
        step: Step, counted from 0.
        rank: Rank of the process.
    """

    def __init__(self, step, rank):
        self.step = step
        self.rank = rank
        self.hook = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            self.hook = pl_module.model.register_forward_hook(lambda *call: call[-1] * math.nan)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.hook is not None:
            self.hook.remove()


def callbacks(record, *kills):
    """Return the overrides that add the callbacks.

    Args:
        record: Folder of the records, created if it is missing.
        *kills: Arguments of each `Kill`.
    """
    record.mkdir(parents=True, exist_ok=True)
    nodes = {"record": {"_target_": "elastic.Record", "folder": record}}
    nodes |= {f"kill_{n}": {"_target_": "elastic.Kill", **kill} for n, kill in enumerate(kills)}
    return [
        f"+callbacks.{name}={{{','.join(f'{key}:{value}' for key, value in node.items())}}}"
        for name, node in nodes.items()
    ]


def train(overrides, output, record, processes, kill=None):
    """Start or resume a training of several processes; return its exit code.

    Args:
        overrides: Overrides of the command line.
        output: Directory of the run.
        record: Folder of the records.
        processes: Number of processes.
        kill: Arguments of `Kill`; None: the training runs to its end.
    """
    kills = [] if kill is None else [kill]
    resumed = [f"ckpt={output}"] if (output / "checkpoints" / "last.ckpt").is_file() else []
    command = [
        *(sys.executable, str(IN_FLOAT64), *overrides, *callbacks(record, *kills), *resumed),
        *("trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}"),
        f"hydra.run.dir={output}",
    ]
    return launch(command, processes)


def steps_in(record):
    """Return `(epoch, sizes, sorted samples)` of every step, as they were in its last attempt."""
    lines = {}
    for file in record.iterdir():
        rank, pid = map(int, file.stem.split("-"))
        for line in map(json.loads, file.read_text().splitlines()):
            lines.setdefault(line["step"], []).append({**line, "rank": rank, "pid": pid})
    steps = {}
    for step, found in lines.items():
        newest = max(found, key=lambda line: line["time"])
        kept = []
        for rank in range(newest["processes"]):
            of_rank = [line for line in found if line["rank"] == rank]
            pid = max(of_rank, key=lambda line: line["time"])["pid"]
            kept += [line for line in of_rank if line["pid"] == pid]
        samples = sorted(sample for line in kept for sample in line["samples"])
        steps[step] = (newest["epoch"], {tuple(line["size"]) for line in kept}, samples)
    return steps
