"""Dropout: shares, scale, independence, gradients and layouts."""

import math

import pytest
import torch

from parcnet_train.models.layers.dropout import Dropout

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9])
def test_share_of_zeros_and_scale(probability):
    torch.manual_seed(0)
    count = 1_000_003  # no multiple of the four elements that share a number
    y = Dropout(probability)(torch.ones(count, dtype=torch.float64))
    deviation = math.sqrt(count * probability * (1 - probability))
    assert abs((y == 0).sum().item() - count * probability) < 5 * deviation
    (scale,) = y[y != 0].unique()
    # The expected value is that of the input, after rounding to a multiple of 2^-16.
    rounded = round(probability * 65536) / 65536
    assert scale.item() == pytest.approx(1 / (1 - rounded), rel=1e-12)


def test_elements_that_share_a_number_are_independent():
    torch.manual_seed(0)
    dropped = (Dropout(0.3)(torch.ones(400_000)) == 0).view(-1, 4).double()
    correlations = torch.corrcoef(dropped.T).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / math.sqrt(len(dropped))
    patterns = torch.bincount((dropped @ torch.tensor([1.0, 2.0, 4.0, 8.0]).double()).long())
    expected = [math.prod(0.3 if i >> j & 1 else 0.7 for j in range(4)) for i in range(16)]
    chi_square = sum(
        (got - len(dropped) * share) ** 2 / (len(dropped) * share)
        for got, share in zip(patterns.tolist(), expected, strict=True)
    )
    assert chi_square < 50  # 15 degrees of freedom: exceeded with a probability of 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_is_the_factor_and_the_layout_is_kept(layout, dtype):
    x = torch.randn(3, 5, 7, 2).to(dtype).contiguous(memory_format=layout).requires_grad_()
    y = Dropout(0.5)(x)
    y.backward(torch.ones_like(y))
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    assert x.grad.unique().tolist() == [0, 2]
    torch.testing.assert_close(y, x * x.grad)


def test_parts_of_a_map_and_empty_maps():
    part = torch.ones(2, 8, 3, 3)[:, ::2, 1:]
    assert Dropout(0.5)(part).unique().tolist() == [0, 2]
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_same_seed_same_decisions():
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(Dropout(0.2)(torch.ones(1001)))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_all_or_nothing(probability, expected):
    assert Dropout(probability)(torch.ones(9)).tolist() == [expected] * 9


def test_evaluation_changes_nothing():
    layer = Dropout(0.5).eval()
    x = torch.randn(9)
    assert torch.equal(layer(x), x)
    assert torch.equal(torch.jit.script(layer)(x), x)
