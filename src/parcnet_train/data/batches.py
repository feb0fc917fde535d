"""What data modules give to tasks: one typed batch per task."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassificationBatch(NamedTuple):
    """Images with one class each."""

    # (B, 3, H, W) uint8, RGB, in memory (B, H, W, 3); the model scales them on its device.
    images: Tensor
    labels: Tensor  # (B,) int64, class indices; -1: does not count (padding of an evaluation)
    skipped: Tensor  # () int64, unreadable images that were left out of this batch
