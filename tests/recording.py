"""A data module that tells what each process of a training has seen, and what it ended with."""

import json
from pathlib import Path

import torch

from parcnet_train.data.classification.module import ImageFolderData


class RecordingData(ImageFolderData):
    """`ImageFolderData` that leaves `<rank>.json` and `<rank>.pt` in a folder; needs 0 workers.

    Args:
        record: the folder.
        settings: of `ImageFolderData`.
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
        """Called by Lightning in every process for every checkpoint; the average is not yet on."""
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
