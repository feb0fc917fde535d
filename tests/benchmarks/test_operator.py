"""Timings of the circular convolution."""

import itertools

import pytest
import torch

from benchmarking import SHAPE
from parcnet_train.benchmarks import operator
from parcnet_train.benchmarks.operator import time_operators, variant
from parcnet_train.models.layers.circular import ALGORITHMS, circular_conv


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("which", ["forward", "forward_backward"])
def test_variant_runs_what_its_name_says(layout, dtype, axis, which, monkeypatch):
    seen = {}

    def record(x, kernel, axis, algorithm):
        y = circular_conv(x, kernel, axis, algorithm=algorithm)
        seen.update(x=x, kernel=kernel, axis=axis, algorithm=algorithm, y=y)
        for name, tensor in (("dx", x), ("dk", kernel)):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient, name=name: seen.update({name: gradient}))
        return y

    monkeypatch.setattr(operator, "circular_conv", record)
    variant(SHAPE, layout, dtype, axis, which, "convolution", torch.device("cpu"))()
    assert (seen["axis"], seen["algorithm"]) == ({"height": 2, "width": 3}[axis], "convolution")
    assert seen["x"].shape == SHAPE
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert seen["x"].is_contiguous(memory_format=memory)
    assert seen["x"].dtype == seen["y"].dtype == getattr(torch, dtype)
    assert seen["kernel"].dtype == torch.float32
    assert tuple(seen["kernel"].shape) == {"height": (3, 1, 4, 1), "width": (3, 1, 1, 6)}[axis]
    assert ("dx" in seen, "dk" in seen) == (which == "forward_backward",) * 2


@pytest.mark.slow
def test_both_is_the_sum_of_the_axes_within_each_round():
    timings = time_operators(SHAPE, 3, torch.device("cpu"))
    for layout, dtype, which in itertools.product(
        ("nchw", "channels_last"), ("float32", "bfloat16"), ("forward", "forward_backward")
    ):
        height, width, both = (
            timings[layout, dtype, axis, which]["products"].milliseconds
            for axis in ("height", "width", "both")
        )
        assert both == tuple(a + b for a, b in zip(height, width, strict=True))


def test_shapes_include_those_of_the_paper_and_edge_cases():
    shapes = operator.SHAPES
    assert shapes[:3] == ((32, 96, 32, 32), (32, 128, 16, 16), (32, 160, 8, 8))
    assert any(height != width for _, _, height, width in shapes)
    assert any(batch == 1 for batch, *_ in shapes)
    assert any(height < 8 for _, _, height, _ in shapes)
    assert set(operator.CHOICES) == {*ALGORITHMS, "auto"}
