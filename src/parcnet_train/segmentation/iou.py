"""Intersection over union and pixel accuracy, from a confusion matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from parcnet_train.data.batches import IGNORED

CHUNK = 2**22  # pixels to count at once: 32 MiB for each int64 per pixel


class Confusion(Metric):
    """Confusion matrix: pixels by true and by predicted class, over all images and processes.

    Its memory does not depend on the size of an image. That of torchmetrics' matrix does: it needs
    several numbers per pixel, and with deterministic algorithms as many as the matrix has entries.

    Args:
        num_classes: Number of classes K.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    pixels: Tensor  # (K, K) int64

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("pixels", counts, dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Add an image.

        Args:
            found: Predicted class indices `(H, W)`, of any integer type.
            truth: True class indices `(H, W)`, or `IGNORED`.
        """
        pairs = self.num_classes**2
        for predicted, true in zip(
            torch.split(found.flatten(), CHUNK), torch.split(truth.flatten(), CHUNK), strict=True
        ):
            index = true.long() * self.num_classes + predicted
            index = index.where(true != IGNORED, pairs)  # an extra entry, which is dropped
            counts = index.bincount(minlength=pairs + 1)[:pairs]
            self.pixels += counts.view_as(self.pixels)

    def compute(self) -> Tensor:
        """Return the matrix, `(K, K)` int64."""
        return self.pixels


def intersection_over_union(confusion: Tensor) -> Tensor:
    """Compute the IoU of every class (PASCAL VOC's measure).

    Args:
        confusion: Numbers of pixels `(K, K)`, by true class and by predicted class.

    Returns:
        `(K,)` float64; NaN for a class that occurs neither in the labels nor in the predictions.
    """
    confusion = confusion.double()
    intersection = confusion.diagonal()
    return intersection / (confusion.sum(dim=0) + confusion.sum(dim=1) - intersection)


def pixel_accuracy(confusion: Tensor) -> Tensor:
    """Compute the share of the labeled pixels with the correct class, a float64 scalar."""
    return confusion.diagonal().sum().double() / confusion.sum()
