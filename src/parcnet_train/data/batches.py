"""What data modules give to tasks: one typed batch per task."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

UNLABELED = -1  # label of a place in a batch that does not count


class ClassificationBatch(NamedTuple):
    """Images with one class each."""

    # (B, 3, H, W) uint8, RGB, in memory (B, H, W, 3); the model scales them on its device.
    images: Tensor
    labels: Tensor  # (B,) int64, class indices, or UNLABELED (in evaluations)
    skipped: Tensor  # () int64, unreadable images whose places do not count
