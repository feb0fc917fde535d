"""Data module that records the samples and the final weights of each training process."""

import json
from pathlib import Path

import torch

from parcnet_train.data.classification.module import ImageFolderData


class RecordingData(ImageFolderData):
    """`ImageFolderData` that writes `<rank>.json` and `<rank>.pt`; it needs 0 workers.

    Args:
        record: Folder to write to.
        settings: Settings of `ImageFolderData`.
    """

    def __init__(self, record: str, **settings):
        super().__init__(**settings)
        self.record = Path(record)
        self.seen = []

    def setup(self, stage):
        super().setup(stage)
        if stage == "fit":
            transform = self.train_set.transform

            def recorded(image, key):
                self.seen.append((key.sample, key.size))
                return transform(image, key)

            self.train_set.transform = recorded

    def state_dict(self):
        """Record the weights; Lightning calls this in every process before it averages them."""
        state = self.trainer.lightning_module.state_dict()
        self.saved = {name: value.clone() for name, value in state.items()}
        return super().state_dict()

    def teardown(self, stage):
        if stage == "fit":
            self.record.mkdir(exist_ok=True)
            rank, task = self.trainer.global_rank, self.trainer.lightning_module
            (self.record / f"{rank}.json").write_text(json.dumps(self.seen))
            states = {"saved": self.saved, "end": task.state_dict()}
            torch.save(states, self.record / f"{rank}.pt")
