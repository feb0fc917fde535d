"""Checkpoints of a training: when they are written, what they carry, how they reach the disk."""

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
from parcnet_train.files import whole_file

log = logging.getLogger(__name__)


class CheckpointContents(Callback):
    """Adds plain values, such as the configuration, to every checkpoint.

    Args:
        contents: numbers, strings, lists and dicts only: checkpoints are read with
            `weights_only=True`.
    """

    def __init__(self, contents: dict[str, Any]) -> None:
        self.contents = contents

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds them."""
        checkpoint.update(self.contents)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints as whole files: the previous one is there, or the new one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes a checkpoint file.

        Raises:
            TrainingError: where the disk does not take it; the previous file is still there.
        """
        place = Path(path)
        try:
            with whole_file(place) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch's writer turns the former into the latter
            raise TrainingError(
                f"{place} cannot be written: {first_reason(error)}; the checkpoint written before "
                "it is kept. Make room, and go on with ckpt=last"
            ) from error


def first_reason(error: BaseException) -> str:
    """What the system said, also where torch's writer wrapped it."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    return reason_of(cause)


class BestCheckpoint(ModelCheckpoint):
    """The best epochs of a run, which may be moved or copied between two of its processes.

    A checkpoint names their files relative to the run, so a resumed one finds them where it is now.
    A checkpoint of an earlier version has absolute paths; only their file names count.
    """

    kind = "ModelCheckpoint"  # under which a checkpoint holds the state; earlier versions, too

    def _generate_state_key(self, **settings: Any) -> str:
        return f"{self.kind}{settings!r}"

    def state_dict(self) -> dict[str, Any]:
        """Lightning's state, its paths relative to the run."""
        folder = Path(self.dirpath or "").name
        return {**self._placed(super().state_dict(), folder), "dirpath": folder}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state over for the folder of this run."""
        folder = str(self.dirpath)
        super().load_state_dict({**self._placed(state_dict, folder), "dirpath": self.dirpath})

    def _placed(self, state: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """The state with the files of its paths in a folder."""

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
        """Forgets epochs whose files are gone, and removes those that are too many by now."""
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
        # A run that starts from a file of another one has none of its epochs.
        if gone and Path(trainer.ckpt_path or "").resolve().parent == Path(str(self.dirpath)):
            log.warning(
                "%s: missing, though the run wrote it; the next epochs that are evaluated replace "
                "it, whatever their %s",
                ", ".join(gone),
                self.monitor,
            )


class BestEpochs(BestCheckpoint):
    """The best epochs beside `best.ckpt`.

    Args:
        folder: of the checkpoints.
        count: how many are kept.
        monitor: metric that ranks them.
        mode: `max` or `min`.
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
    """Keeps Lightning from listening to SIGTERM; at the end it gives back what it found.

    An evaluation would not end at that signal, and its processes would answer it by a collective of
    their own, between those of the metrics. A training has `LastCheckpoint`.
    """
    connector: Any = trainer._signal_connector

    def remember() -> None:
        connector._original_handlers = connector._get_current_signal_handlers()

    connector.register_signal_handlers = remember


class Stopped(Exception):  # noqa: N818  no error: somebody wanted it
    """A signal ended the training, its checkpoint written.

    Args:
        signum: of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class LastCheckpoint(Checkpoint):
    """Keeps the newest state of a training: after every epoch, in its middle, and at a signal.

    Processes agree on the clock and on signals, which reach them at different moments: one process
    looks after every step, several after every `agree_every`th.

    Args:
        path: of the file.
        every_n_steps: optimizer steps between two checkpoints; None: only the others.
        every_minutes: minutes between two checkpoints; None: only the others.
        agree_every: optimizer steps between two agreements of several processes.
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
        self.received = 0  # number of the signal
        self.handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock and listens to signals, in place of Lightning."""
        self.saved_at = time.monotonic()
        self.handlers = {number: signal.signal(number, self._receive) for number in SAVING}

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Gives the signals back."""
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
        """Saves behind an optimizer step where it is time to.

        The last step of an epoch is saved with the epoch, after its validation.
        """
        loop = trainer.fit_loop.epoch_loop
        if loop.batch_progress.is_last_batch or loop._should_accumulate():
            return
        if not loop._should_check_val_fx(None):  # type: ignore[arg-type]  # else after it
            self._save_if_due(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves after a validation in the middle of an epoch, if it is time to."""
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
        """Saves the epoch."""
        self._save(trainer)
        _, stop = self._agree(pl_module.device)
        assert trainer.max_epochs is not None
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if stop and not is_last:
            raise Stopped(stop)

    def _agree(self, device: torch.device) -> tuple[bool, int]:
        """Whether any process finds it time to save, and which signal any of them received."""
        minutes = (time.monotonic() - self.saved_at) / 60
        is_due = self.every_minutes is not None and minutes >= self.every_minutes
        wishes = [is_due, *(self.received == number for number in SAVING)]
        if torch.distributed.is_initialized():  # else no device has to be waited for
            wishes = anywhere(torch.tensor(wishes, device=device)).tolist()
        received = (number for number, wish in zip(SAVING, wishes[1:], strict=True) if wish)
        return wishes[0], next(received, 0)

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # a resumed run logs what comes after the checkpoint
        trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()


def requeue() -> None:
    """Puts this SLURM job back into its queue; it goes on in the same run directory.

    Only what srun has started finds its run again: outside of it, nothing happens but a warning.
    """
    job = slurm_job()
    if job is None:
        return
    if not is_srun_task():
        log.warning("SLURM job %s is not requeued: it would begin anew without srun in front", job)
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
        log.info("SLURM job %s is back in its queue", job)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip()
        log.warning("SLURM job %s cannot be requeued: %s; submit it again", job, reason)
