"""Buffers that all processes share; `distributed/test_cluster.py` has several processes."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from parcnet_train.callbacks.buffers import SharedBuffers


class Average(WeightAveraging):
    def __init__(self, module):
        self._average_model = module


@pytest.mark.parametrize("hook", ["on_validation_start", "on_train_epoch_end"])
@pytest.mark.parametrize("processes", [1, 2])
def test_buffers_of_weights_and_averages_come_from_the_first_process(hook, processes, monkeypatch):
    sent = []
    monkeypatch.setattr(torch.distributed, "broadcast", lambda buffer, src: sent.append(buffer))
    model, average = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    callbacks = [Average(average), Average(None)]
    trainer = SimpleNamespace(world_size=processes, callbacks=callbacks)
    getattr(SharedBuffers(), hook)(trainer, model)
    expected = [*model.buffers(), *average.buffers()] if processes == 2 else []
    assert list(map(id, sent)) == list(map(id, expected))
