"""Learning rate as a function of the position in a training."""

from __future__ import annotations

import math
from typing import NamedTuple

from parcnet_train.bounds import Count, NotNegative, Share, Whole


class Position(NamedTuple):
    """The position in a training at the start of a step."""

    samples: int  # number of samples seen so far, by all processes
    epochs: float  # number of epochs done; the current one counts by its share of samples
    total_epochs: float  # number of epochs of the whole run, the last of which may end early


def warmup_cosine(
    position: Position,
    *,
    max_lr: float,
    reference_batch: Count,
    warmup_steps: Whole = 0,
    warmup_share: Share = 0.0,
    warmup_lr: NotNegative = 0.0,
    min_lr: NotNegative = 0.0,
    per_epoch: bool = False,
) -> float:
    """Return the learning rate: linear warm-up, then a cosine to `min_lr` (paper, section 4.1).

    As released, the cosine spans the whole run and is not shifted by the warm-up, which only
    replaces its beginning. Everything is counted in samples, so that a smaller batch takes more
    steps through the same curve.

    Args:
        position: Position of the step.
        max_lr: Learning rate at the top; all learning rates are those of a step of
            `reference_batch` samples.
        reference_batch: Number of samples per step for which the learning rates are given.
        warmup_steps: Length of the warm-up in steps of `reference_batch` samples.
        warmup_share: Length of the warm-up as a share of the run, used if `warmup_steps` is 0.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate at the end.
        per_epoch: Whether the cosine changes only between epochs, as released.

    Returns:
        The learning rate of a step of `reference_batch` samples.
    """
    warmup = warmup_steps * reference_batch
    if position.samples < warmup:
        return warmup_lr + (max_lr - warmup_lr) * position.samples / warmup
    share = position.epochs / position.total_epochs
    if not warmup and share < warmup_share:
        return warmup_lr + (max_lr - warmup_lr) * share / warmup_share
    epochs = math.floor(position.epochs) if per_epoch else position.epochs
    share = min(epochs / position.total_epochs, 1.0)
    return min_lr + 0.5 * (max_lr - min_lr) * (1 + math.cos(math.pi * share))
