import numpy as np
import pytest
import torch

from arithmetic import column, naive_circular_conv
from parcnet_train.deploy.bake import blocks as fixed
from parcnet_train.deploy.bake.blocks import along_height, along_width, along_wrapped_width
from parcnet_train.models.layers.circular import HEIGHT, WIDTH, circular_by_convolution

HEIGHT_WIDTH = (5, 7)


@pytest.mark.parametrize("form", ["padded", "wrapped"])
@pytest.mark.parametrize("axis", [HEIGHT, WIDTH])
def test_zero_padded_convolution_matches_circular_convolution(axis, form, monkeypatch):
    monkeypatch.setattr(fixed, "WRAPPED_WIDTH", 1 if form == "wrapped" else 100)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, *HEIGHT_WIDTH))
    kernel = rng.standard_normal((3, HEIGHT_WIDTH[axis - HEIGHT]))
    weight = torch.from_numpy(column(kernel, axis))
    layer = along_wrapped_width(weight) if axis == WIDTH else along_height(weight, None, 3)
    expected = naive_circular_conv(x, kernel, axis)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("axis", "form"), [(HEIGHT, along_height), (WIDTH, along_width)])
def test_dense_kernels_and_biases_match_circular_convolution(axis, form):
    torch.manual_seed(0)
    x = torch.randn(2, 4, *HEIGHT_WIDTH, dtype=torch.float64)
    shape = (4, 2, HEIGHT_WIDTH[0], 1) if axis == HEIGHT else (4, 2, 1, HEIGHT_WIDTH[1])
    weight, bias = (torch.randn(each, dtype=torch.float64) for each in (shape, (4,)))
    expected = circular_by_convolution(x, weight, axis, bias, groups=2)
    torch.testing.assert_close(form(weight, bias, 2)(x), expected, rtol=0, atol=1e-12)


def test_map_of_one_pixel_matches_circular_convolution():
    weight = torch.full((2, 1, 1, 1), 3.0)
    x = torch.randn(1, 2, 1, 1)
    assert torch.equal(along_wrapped_width(weight)(x), 3 * x)
    assert torch.equal(along_height(weight, None, 2)(x), 3 * x)
