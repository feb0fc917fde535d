"""Checkpoints of a training: when they are written, what they contain, how they are written."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from parcnet_train.distributed.collectives import anywhere
from parcnet_train.distributed.processes import SAVING, is_srun_task, slurm_job
from parcnet_train.errors import TrainingError, reason_of
from parcnet_train.files import remedy, whole_file

log = logging.getLogger(__name__)


class CheckpointContents(Callback):
    """Callback that adds plain values, such as the configuration, to every checkpoint.

    Args:
        contents: Numbers, strings, lists and dicts only: checkpoints are read with
            `weights_only=True`.
    """

    def __init__(self, contents: dict[str, Any]) -> None:
        self.contents = contents

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the values."""
        checkpoint.update(self.contents)


class WholeFiles(TorchCheckpointIO):
    """Checkpoint writer that is atomic: either the previous file exists or the new one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint file.

        Raises:
            TrainingError: If the file cannot be written to the disk; the previous file is
                unchanged.
        """
        place = Path(path)
        try:
            with whole_file(place) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch's writer turns the former into the latter
            kept, way_out = "no such checkpoint exists yet", ""
            if place.is_file():
                kept, way_out = "the previous checkpoint is kept", ", then resume with ckpt=last"
            raise TrainingError(
                f"{place} cannot be written: {first_reason(error)}; {kept}. Fix: "
                f"{remedy(error)}{way_out}"
            ) from error


def first_reason(error: BaseException) -> str:
    """Return the operating system's message, even if torch's writer wrapped the error."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    return reason_of(cause)


class BestCheckpoint(ModelCheckpoint):
    """The best epochs of a run, whose folder may be moved or copied before it is resumed.

    A checkpoint names their files relative to the run, so a resumed run finds them in its current
    folder. Of the absolute paths in checkpoints of earlier versions, only the file names are used.
    """

    kind = "ModelCheckpoint"  # key of the state in a checkpoint, as in earlier versions

    def _generate_state_key(self, **settings: Any) -> str:
        return f"{self.kind}{settings!r}"

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, with paths relative to the run."""
        folder = Path(self.dirpath or "").name
        return {**self._placed(super().state_dict(), folder), "dirpath": folder}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with paths in the folder of this run."""
        folder = str(self.dirpath)
        super().load_state_dict({**self._placed(state_dict, folder), "dirpath": self.dirpath})

    def _placed(self, state: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Return the state with the files of its paths in a folder."""

        def place(path: str) -> str:
            return os.path.join(folder, Path(path).name) if path else ""  # noqa: PTH118  as Lightning

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        models = {place(path): score for path, score in state["best_k_models"].items()}
        return {
            **state,
            **{name: place(state[name]) for name in paths},
            "best_k_models": models,
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget epochs whose files are missing, and remove files beyond the number to keep."""
        super().on_train_start(trainer, pl_module)
        held = self.best_k_models
        gone = [path for path in held if not self.file_exists(path, trainer)]
        for path in gone:
            del held[path]
        ranked = sorted(held, key=lambda path: float(held[path]), reverse=self.mode == "max")
        kept, surplus = ranked[: self.save_top_k], ranked[self.save_top_k :]
        for path in surplus:
            del held[path]
            self._remove_checkpoint(trainer, path)
        if not gone and not surplus:
            return
        self.best_model_path = kept[0] if kept else ""
        self.best_model_score = held[kept[0]] if kept else None
        self.kth_best_model_path = kept[-1] if len(kept) == self.save_top_k else ""
        if kept:
            self.kth_value = held[kept[-1]]
        # A run that starts from another run's file has none of that run's epochs.
        if gone and Path(trainer.ckpt_path or "").resolve().parent == Path(str(self.dirpath)):
            log.warning(
                "%s: the run wrote this checkpoint, but it is missing; the next evaluated epochs "
                "replace it, whatever their %s",
                ", ".join(gone),
                self.monitor,
            )


class BestEpochs(BestCheckpoint):
    """The best epochs, kept in addition to `best.ckpt`.

    Args:
        folder: Folder of the checkpoints.
        count: Number of epochs to keep.
        monitor: Metric that ranks the epochs.
        mode: Direction of the metric, `max` or `min`.
        per_epoch: Whether each epoch is validated once, at its end.
    """

    kind = "BestEpochs"

    def __init__(
        self, folder: Path, count: int, monitor: str, mode: str, per_epoch: bool = True
    ) -> None:
        super().__init__(
            folder,
            filename="best_epoch{epoch:03d}" + ("" if per_epoch else "_step{step:06d}"),
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_top_k=count,
            save_on_train_epoch_end=per_epoch,
            enable_version_counter=False,
        )


def leave_signals(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling SIGTERM; at the end it restores the handlers it found.

    Lightning's handler would not end an evaluation, and its processes would answer the signal with
    a collective of their own, between those of the metrics. In a training, `LastCheckpoint` handles
    signals.
    """
    connector: Any = trainer._signal_connector

    def remember() -> None:
        handlers = connector._get_current_signal_handlers()
        # PyTorch's own, which notices ended loader processes, is set once for the whole program.
        handlers.pop(getattr(signal, "SIGCHLD", None), None)
        connector._original_handlers = handlers

    connector.register_signal_handlers = remember


class Stopped(Exception):  # noqa: N818  the user's wish, not an error
    """A signal ended the training after its checkpoint was written.

    Args:
        signum: Number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class LastCheckpoint(Checkpoint):
    """Checkpoint of the newest state: after every epoch, at intervals within it, on a signal.

    Processes agree on the clock and on signals, which reach them at different moments. A single
    process checks after every step, several processes after every `agree_every`th step.

    Args:
        path: Path of the file.
        every_n_steps: Number of optimizer steps between two checkpoints; None: no checkpoints by
            steps.
        every_minutes: Number of minutes between two checkpoints; None: no checkpoints by time.
        agree_every: Number of optimizer steps between two agreements of several processes.
    """

    def __init__(
        self,
        path: Path,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
        agree_every: int = 1,
    ) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.agree_every = agree_every
        self.saved_at = 0.0
        self.received = 0  # number of the received signal
        self.handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock and handle signals, in place of Lightning."""
        self.saved_at = time.monotonic()
        self.handlers = {number: signal.signal(number, self._receive) for number in SAVING}

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        while self.handlers:
            signal.signal(*self.handlers.popitem())

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save after an optimizer step if a checkpoint is due.

        The last step of an epoch is saved with the epoch, after its validation.
        """
        loop = trainer.fit_loop.epoch_loop
        if loop.batch_progress.is_last_batch or loop._should_accumulate():
            return
        if not loop._should_check_val_fx(None):  # type: ignore[arg-type]  # else after validation
            self._save_if_due(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation in the middle of an epoch if a checkpoint is due."""
        if not (trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or trainer.should_stop):
            self._save_if_due(trainer, pl_module)

    def _save_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
        by_step = self.every_n_steps is not None and step % self.every_n_steps == 0
        looks = trainer.world_size == 1 or step % self.agree_every == 0
        by_clock, stop = self._agree(pl_module.device) if looks else (False, 0)
        if by_step or by_clock or stop:
            self._save(trainer)
        if stop:
            raise Stopped(stop)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch."""
        self._save(trainer)
        _, stop = self._agree(pl_module.device)
        assert trainer.max_epochs is not None
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if stop and not is_last:
            raise Stopped(stop)

    def _agree(self, device: torch.device) -> tuple[bool, int]:
        """Return whether any process is due to save, and a signal that any of them received."""
        minutes = (time.monotonic() - self.saved_at) / 60
        is_due = self.every_minutes is not None and minutes >= self.every_minutes
        wishes = [is_due, *(self.received == number for number in SAVING)]
        if torch.distributed.is_initialized():  # a single process need not wait for its device
            wishes = anywhere(torch.tensor(wishes, device=device)).tolist()
        received = (number for number, wish in zip(SAVING, wishes[1:], strict=True) if wish)
        return wishes[0], next(received, 0)

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # a resumed run logs what comes after the checkpoint
        trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()


def requeue() -> None:
    """Requeue this SLURM job, to resume in the same run directory.

    Only a task of srun finds its run again; without srun, a warning is logged instead.
    """
    job = slurm_job()
    if job is None:
        return
    if not is_srun_task():
        log.warning(
            "SLURM job %s is not requeued: without srun, it would start from the beginning. Fix: "
            "start the command with srun",
            job,
        )
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
        log.info("SLURM job %s was requeued", job)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip()
        log.warning("SLURM job %s cannot be requeued: %s. Fix: submit it again", job, reason)
