"""Pictures of evaluations, for the run directory and the loggers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.trainer.states import TrainerFn

from parcnet_train.errors import UnwritableError
from parcnet_train.files import write_whole
from parcnet_train.runs.loggers import attempt
from parcnet_train.visualize.pictures import Pair, Picture, encode, grid

log = logging.getLogger(__name__)

NAME = "val/pictures"  # name in the loggers
LOGGERS = (TensorBoardLogger, WandbLogger)  # that take pictures

DrawPairs = Callable[[Any, Any], Iterable[Pair]]


class Pictures(Callback):
    """Pictures of the first images of every evaluation, predictions beside ground truth.

    The first process writes `pictures/epoch_003.jpg` into the run directory (epochs count from 1,
    as in the log), or `pictures/final.jpg` outside of a training, and logs the picture to
    TensorBoard and wandb. A picture that cannot be written gives a warning.

    Args:
        count: Number of images to show; fewer if the first process has fewer.
        draw: Function that makes pairs of pictures from a batch and the result of `validation_step`
            for it; it is iterated only as far as pictures are shown.
    """

    def __init__(self, count: int, draw: DrawPairs) -> None:
        self.count = count
        self.draw = draw
        self.pairs: list[Pair] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discard the pairs of the previous evaluation."""
        self.pairs = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw pairs until there are enough."""
        missing = self.count - len(self.pairs)
        if trainer.is_global_zero and missing:
            self.pairs += itertools.islice(self.draw(batch, outputs), missing)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write and log the picture."""
        if not self.pairs:
            return
        picture = grid(self.pairs)
        is_training = trainer.state.fn == TrainerFn.FITTING
        name = f"epoch_{trainer.current_epoch + 1:03d}" if is_training else "final"
        file = Path(trainer.default_root_dir) / "pictures" / f"{name}.jpg"
        try:
            write_whole(file, encode(picture))
        except UnwritableError as error:  # the next checkpoint decides whether the run can go on
            log.warning("%s", error)
        log_picture(trainer.loggers, NAME, picture, trainer.global_step - 1)


def log_picture(loggers: Iterable[Logger], name: str, picture: Picture, step: int) -> None:
    """Log a picture to the loggers that support it.

    Args:
        loggers: Loggers of the training.
        name: Name of the picture in the loggers.
        picture: Picture to log.
        step: Step of the metrics that belong to it, counted from 0.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            attempt(logger, add_image, logger, name, picture, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step)


def add_image(logger: TensorBoardLogger, name: str, picture: Picture, step: int) -> None:
    """Log a picture to TensorBoard."""
    logger.experiment.add_image(name, picture, step, dataformats="HWC")
    logger.experiment.flush()  # after the training nobody does, and the picture would be lost
