"""Dynamic ReLU against its definition in float64."""

import numpy as np
import torch
from torch import nn

from parcnet_train.models.layers.dynamic_relu import DynamicReLU


def test_dynamic_relu_takes_the_larger_of_two_lines():
    torch.manual_seed(0)
    layer = DynamicReLU(3, 16).double()
    x, token = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 16).double()
    theta = 2 * layer.mlp(token).detach().numpy().reshape(2, 4, 3) - 1
    lines = [
        (1 + theta[:, 0], 0.5 * theta[:, 2]),
        (theta[:, 1], 0.5 * theta[:, 3]),
    ]
    expected = np.maximum(*(a[..., None, None] * x.numpy() + b[..., None, None] for a, b in lines))
    np.testing.assert_allclose(layer(x, token).detach().numpy(), expected, atol=1e-12)


def test_dynamic_relu_is_a_relu_where_its_numbers_are_zero():
    layer = DynamicReLU(3, 16)
    nn.init.zeros_(layer.mlp[2].weight)
    nn.init.zeros_(layer.mlp[2].bias)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(x, torch.randn(2, 16)), x.relu())
