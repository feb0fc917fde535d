"""A callback that decides how good the jobs of a sweep are."""

from bisect import bisect

import torch
from pytorch_lightning.callbacks import Callback


class Answers(Callback):
    """Let a classifier give the same answer to all images.

    Without moving averages (`recipe.ema=null`), the accuracy of an epoch is then the share of one
    class in the validation set, on every machine.

    Args:
        classes: For each kind of job, the class that it answers with in each epoch; a kind without
            classes fails.
        edges: Ascending numbers that divide the kinds.
        value: Number that decides the kind of this job, such as its learning rate.
    """

    def __init__(self, classes: list[list[int]], edges: list[float], value: float) -> None:
        self.classes = classes[bisect(edges, value)]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Set the last layer before it is validated and saved."""
        answer = self.classes[trainer.current_epoch]
        linear = pl_module.model.head.linear
        with torch.no_grad():
            linear.weight.zero_()
            linear.bias.zero_()
            linear.bias[answer] = 1
