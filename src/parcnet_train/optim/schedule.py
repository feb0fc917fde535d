"""Learning rate as a function of how far a training has come."""

from __future__ import annotations

import math
from typing import NamedTuple

from parcnet_train.bounds import Count, NotNegative, Share, Whole


class Position(NamedTuple):
    """How far a training has come when a step begins."""

    samples: int  # seen so far, by all processes
    epochs: float  # done so far, the current one in part: its share of samples
    total_epochs: float  # of the whole run, whose last one may end early


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
    """Linear warm-up, then a cosine from `max_lr` to `min_lr` (paper, section 4.1).

    As released, the cosine spans the whole run and is not shifted by the warm-up, which only
    replaces its beginning. Everything is counted in samples, so that a smaller batch takes more
    steps through the same curve.

    Args:
        position: of the step.
        max_lr: learning rate at the top, like the other two for a step of `reference_batch`.
        reference_batch: samples of a step for which the numbers are given.
        warmup_steps: of `reference_batch` samples each.
        warmup_share: Length of the warm-up as a share of the run, used if `warmup_steps` is 0.
        warmup_lr: learning rate of the first step.
        min_lr: learning rate at the end.
        per_epoch: the cosine changes between epochs only, as released.

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
