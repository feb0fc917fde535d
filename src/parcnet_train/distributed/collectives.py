"""What the processes of a run tell each other; with one process, what it told itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ReduceOp


def anywhere(flags: Tensor) -> Tensor:
    """Which of the flags are set in any process."""
    return _reduce(flags.int(), ReduceOp.MAX).bool()  # no backend compares booleans


def total(values: Tensor) -> Tensor:
    """Sums over all processes."""
    return _reduce(values, ReduceOp.SUM)


def mean(values: Tensor) -> Tensor:
    """Means over all processes."""
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return total(values) / processes


def _reduce(values: Tensor, operation: ReduceOp.RedOpType) -> Tensor:
    if torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values, operation)
    return values
