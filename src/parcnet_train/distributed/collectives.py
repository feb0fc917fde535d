"""Reductions over all processes of a run; with one process, they return their input."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ReduceOp


def anywhere(flags: Tensor) -> Tensor:
    """Return the flags that are set in at least one process."""
    return _reduce(flags.int(), ReduceOp.MAX).bool()  # no backend reduces booleans by their maximum


def total(values: Tensor) -> Tensor:
    """Return the sums over all processes."""
    return _reduce(values, ReduceOp.SUM)


def mean(values: Tensor) -> Tensor:
    """Return the means over all processes."""
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return total(values) / processes


def _reduce(values: Tensor, operation: ReduceOp.RedOpType) -> Tensor:
    if torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values, operation)
    return values
