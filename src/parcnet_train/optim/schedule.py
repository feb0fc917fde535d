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
    warmup = of_warmup(position, max_lr, reference_batch, warmup_steps, warmup_share, warmup_lr)
    if warmup is not None:
        return warmup
    epochs = math.floor(position.epochs) if per_epoch else position.epochs
    share = min(epochs / position.total_epochs, 1.0)
    return min_lr + 0.5 * (max_lr - min_lr) * (1 + math.cos(math.pi * share))


def warmup_stable_decay(
    position: Position,
    *,
    max_lr: float,
    reference_batch: Count,
    warmup_steps: Whole = 0,
    warmup_share: Share = 0.0,
    warmup_lr: NotNegative = 0.0,
    min_lr: NotNegative = 0.0,
    per_epoch: bool = False,
    decay_share: Share = 0.1,
) -> float:
    """Return the learning rate: linear warm-up, a constant, then a linear decay (arXiv 2405.18392).

    Before the decay, a run can be continued for longer with nothing lost. With `decay_share=0` the
    learning rate stays constant after the warm-up.

    Args:
        position: Position of the step.
        max_lr: Learning rate at the top, as in `warmup_cosine`.
        reference_batch: Number of samples per step for which the learning rates are given.
        warmup_steps: Length of the warm-up in steps of `reference_batch` samples.
        warmup_share: Length of the warm-up as a share of the run, used if `warmup_steps` is 0.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate at the end of the decay.
        per_epoch: Whether the decay changes only between epochs.
        decay_share: Length of the decay at the end, as a share of the run.

    Returns:
        The learning rate of a step of `reference_batch` samples.
    """
    warmup = of_warmup(position, max_lr, reference_batch, warmup_steps, warmup_share, warmup_lr)
    if warmup is not None:
        return warmup
    epochs = math.floor(position.epochs) if per_epoch else position.epochs
    left = max(0.0, 1.0 - epochs / position.total_epochs)
    if left >= decay_share:
        return max_lr
    return min_lr + (max_lr - min_lr) * left / decay_share


def of_warmup(
    position: Position,
    max_lr: float,
    reference_batch: int,
    warmup_steps: int,
    warmup_share: float,
    warmup_lr: float,
) -> float | None:
    """Return the learning rate of a step in the warm-up; None after it."""
    warmup = warmup_steps * reference_batch
    if position.samples < warmup:
        return warmup_lr + (max_lr - warmup_lr) * position.samples / warmup
    share = position.epochs / position.total_epochs
    if not warmup and share < warmup_share:
        return warmup_lr + (max_lr - warmup_lr) * share / warmup_share
    return None
