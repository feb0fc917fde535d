"""Learning rate as a function of the step."""

from __future__ import annotations

import math


def warmup_cosine(
    step: int,
    *,
    max_lr: float,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_lr: float = 0.0,
    min_lr: float = 0.0,
) -> float:
    """Linear warm-up, then a cosine from `max_lr` to `min_lr` (paper, section 4.1).

    As released, the cosine spans the whole run and is not shifted by the warm-up, which only
    replaces its beginning. Learning rates are per step of the optimizer.

    Args:
        step: optimizer steps taken so far.
        max_lr: learning rate at the top.
        total_steps: optimizer steps of the whole run.
        warmup_steps: optimizer steps of the warm-up.
        warmup_lr: learning rate of the first step.
        min_lr: learning rate at the end.

    Returns:
        The learning rate of the next step, as a factor of `max_lr`.
    """
    if step < warmup_steps:
        return (warmup_lr + (max_lr - warmup_lr) * step / warmup_steps) / max_lr
    share = min(step / max(total_steps, 1), 1.0)
    return (min_lr + 0.5 * (max_lr - min_lr) * (1 + math.cos(math.pi * share))) / max_lr
