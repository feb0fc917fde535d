"""Sums, means and flags over processes."""

import torch
from torch.distributed import ReduceOp

from parcnet_train.distributed.collectives import anywhere, mean, total


def test_one_process_has_its_own_values():
    values, flags = torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    assert torch.equal(total(values), values)
    assert torch.equal(mean(values), values)
    assert torch.equal(anywhere(flags), flags)


def test_several_processes_reduce_copies(monkeypatch):
    """The other process has twice the values of this one, and the other flags."""

    def all_reduce(values, operation):
        if operation == ReduceOp.SUM:
            values *= 3
        else:
            values.copy_(torch.maximum(values, 1 - values))

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    values = torch.tensor([1.0, 2.0])
    assert total(values).tolist() == [3, 6]
    assert mean(values).tolist() == [1.5, 3]
    assert anywhere(torch.tensor([True, False])).tolist() == [True, True]
    assert values.tolist() == [1, 2]
