"""Trainings in float64 by several processes, which record their steps and may be killed."""

import json
import os
import signal
import sys
from pathlib import Path

from pytorch_lightning.callbacks import Callback
from torch.nn.modules.batchnorm import _BatchNorm

from parcnet_train.distributed.launch import launch

IN_FLOAT64 = Path(__file__).with_name("in_float64.py")


class Record(Callback):
    """Callback that writes samples, size, rank and epoch of each batch as a line of JSON.

    It also freezes the statistics of every BatchNorm, which depend on the batch of a process.

    Args:
        folder: Folder to write to.
        started: Name of this start of the training.
    """

    def __init__(self, folder, started):
        self.folder = Path(folder)
        self.started = started

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for module in pl_module.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        line = {
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "samples": batch.samples.tolist(),
            "size": list(batch.images.shape[2:]),
        }
        with (self.folder / f"{self.started}-{trainer.global_rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


class Kill(Callback):
    """Callback that kills its process at the end of a step, before the checkpoint of that step.

    Args:
        step: Number of steps after which the process ends.
        rank: Rank of the process.
    """

    def __init__(self, step, rank):
        self.step = step
        self.rank = rank

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


def train(overrides, output, record, processes, kill=None):
    """Start or resume a training of several processes; return its exit code.

    Args:
        overrides: Overrides of the command line.
        output: Directory of the run.
        record: Folder of the records.
        processes: Number of processes.
        kill: Arguments of `Kill`; None: the training runs to its end.
    """
    record.mkdir(parents=True, exist_ok=True)
    started = len({file.name.split("-")[0] for file in record.iterdir()})
    callbacks = {"record": {"_target_": "elastic.Record", "folder": record, "started": started}}
    if kill is not None:
        callbacks["kill"] = {"_target_": "elastic.Kill", **kill}
    added = [
        f"+callbacks.{name}={{{','.join(f'{key}:{value}' for key, value in node.items())}}}"
        for name, node in callbacks.items()
    ]
    resumed = [f"ckpt={output}"] if (output / "checkpoints" / "last.ckpt").is_file() else []
    command = [
        *(sys.executable, str(IN_FLOAT64), *overrides, *added, *resumed),
        *("trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}"),
        f"hydra.run.dir={output}",
    ]
    return launch(command, processes)


def steps_in(record):
    """Return `(epoch, size, sorted samples)` of every step; a repeated step counts at its end."""
    steps = {}
    starts = sorted({int(file.name.split("-")[0]) for file in record.iterdir()})
    for started in starts:
        found = {}
        for file in record.glob(f"{started}-*.jsonl"):
            for line in map(json.loads, file.read_text().splitlines()):
                step = found.setdefault(line["step"], (line["epoch"], set(), []))
                step[1].add(tuple(line["size"]))
                step[2].extend(line["samples"])
        steps.update(found)
    return {
        number: (epoch, sizes, sorted(samples)) for number, (epoch, sizes, samples) in steps.items()
    }
