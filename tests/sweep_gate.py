"""A callback that holds some jobs of a sweep until a file exists."""

import time
from pathlib import Path

from pytorch_lightning.callbacks import Callback


class Gate(Callback):
    """Hold the second epoch of jobs with later seeds.

    Args:
        file: File that opens the gate.
        seed: Seed of the job.
        first: First seed that is held.
    """

    def __init__(self, file: str, seed: int, first: int) -> None:
        self.file = Path(file)
        self.is_held = seed >= first

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Wait for the file."""
        while self.is_held and trainer.current_epoch == 1 and not self.file.exists():
            time.sleep(0.05)
