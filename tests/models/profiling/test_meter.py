"""Activations and memory of an inference."""

import dataclasses

import pytest
import torch

from parcnet_train.build import build_model
from parcnet_train.models.layers.blocks import ConvNormAct
from parcnet_train.models.profiling.counts import profile
from parcnet_train.models.profiling.meter import Meter, tensors_of
from running import composed


def test_memory_of_meta_tensors_matches_real_tensors():
    values = composed("backbone=parcnet_xs", "backbone.algorithm=convolution")
    model = build_model(values, 1000).eval()
    images = torch.zeros(1, 3, 64, 64)
    meter = Meter([*model.parameters(), *model.buffers()], images)
    meter.start()
    with torch.no_grad(), meter:
        model(images)
    # Meta tensors need a few hundred bytes more: the statistics of a BatchNorm.
    assert meter.end()[2] == pytest.approx(profile(model, (64, 64))[-1].peak_memory_bytes, rel=0.01)


def test_freed_memory_does_not_count():
    layer = ConvNormAct(3, 3).eval()
    images = torch.zeros(1, 3, 8, 8)
    meter = Meter([*layer.parameters(), *layer.buffers()], images)
    with torch.no_grad(), meter:
        output = layer(images)
    assert meter.held() == images.nbytes + output.nbytes
    del output
    assert meter.held() == images.nbytes


def test_tensors_are_found_in_outputs_of_all_heads():
    a, b, c = torch.arange(3).unbind()
    assert list(map(int, tensors_of({"logits": a, "boxes": [(b, c)], "name": "x"}))) == [0, 1, 2]
    assert list(map(int, tensors_of(Counted(b, c)))) == [1, 2]


@dataclasses.dataclass
class Counted:
    first: torch.Tensor
    second: torch.Tensor
