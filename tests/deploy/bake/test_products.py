"""Matrix products in place of long convolutions."""

import numpy as np
import pytest
import torch

from arithmetic import column, naive_circular_conv
from lively import lively
from parcnet_train.deploy.bake import products
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.bake.blocks import along_height, along_wrapped_width
from parcnet_train.deploy.bake.products import AxisProduct, shortened, with_products
from parcnet_train.models.layers.circular import HEIGHT, WIDTH

SIZES = {HEIGHT: 14, WIDTH: 26}  # the width is long enough to be wrapped


@pytest.mark.parametrize("axis", SIZES)
def test_product_matches_circular_convolution(axis):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, SIZES[HEIGHT], SIZES[WIDTH]))
    kernel, bias = rng.standard_normal((3, SIZES[axis])), rng.standard_normal(3)
    weight = torch.from_numpy(column(kernel, axis))
    expected = naive_circular_conv(x, kernel, axis)
    if axis == HEIGHT:
        layer = along_height(weight, torch.from_numpy(bias), 3)
        expected = expected + bias[:, None, None]
    else:
        layer = along_wrapped_width(weight)
    product = shortened(layer, axis, SIZES[axis])
    assert isinstance(product, AxisProduct)
    np.testing.assert_allclose(product(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("backbone", "overrides"),
    [("parcnet_xs", ()), ("parc_mobilenetv2", ()), ("parcnet_xs", ("ablation=table2_row2",))],
)
def test_networks_with_products_match(backbone, overrides, monkeypatch):
    monkeypatch.setattr(products, "FAST_TAPS", 2)
    model = bake(lively(backbone, "classification", *overrides).double(), (96, 160))
    replaced = with_products(model)
    found = [type(each) for each in replaced.modules()]
    assert AxisProduct in found
    images = torch.rand(2, 3, 96, 160, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(replaced(images), model(images), rtol=0, atol=1e-10)
    assert AxisProduct not in [type(each) for each in model.modules()]


def test_short_convolutions_stay():
    layer = along_height(torch.rand(2, 1, 13, 1), None, 2)  # 25 taps
    assert shortened(layer, HEIGHT, 13) is layer
