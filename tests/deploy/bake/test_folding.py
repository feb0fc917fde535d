import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from lively import enliven
from parcnet_train.deploy.bake.folding import (
    affine_of,
    fold_batch_norms,
    fold_norm_after,
    fold_norm_before,
)

SIZE = (12, 16)


def drawn_norm(channels):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(channels).double().eval()
    enliven(norm)
    return norm


def norms_of(model):
    return [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_norm_is_folded_into_the_convolution_before_it(groups, has_bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=has_bias).double()
    norm, x = drawn_norm(8), torch.randn(2, 4, *SIZE, dtype=torch.float64)
    expected = norm(conv(x))
    fold_norm_after(conv, affine_of(norm))
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_norm_is_folded_into_the_1x1_convolution_after_it(groups, has_bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 1, groups=groups, bias=has_bias).double()
    norm, x = drawn_norm(8), torch.randn(2, 8, *SIZE, dtype=torch.float64)
    expected = conv(norm(x))
    fold_norm_before(conv, affine_of(norm))
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


def test_norm_without_parameters_is_folded():
    norm = nn.BatchNorm2d(3, affine=False).double().eval()
    norm.running_mean.uniform_()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    scale, shift = (each.view(-1, 1, 1) for each in affine_of(norm))
    torch.testing.assert_close(x * scale + shift, norm(x), rtol=0, atol=1e-12)


class Network(nn.Module):
    """Convolution followed by a norm."""

    channels = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.channels, 3)
        self.norm = nn.BatchNorm2d(self.channels)


class Twice(Network):
    """Convolution whose output is read by a norm and by another layer."""

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Shared(Network):
    """Convolution that runs twice, with a norm after only one of the runs."""

    channels = 3

    def forward(self, x):
        return self.norm(self.conv(self.conv(x)))


class Asking(Network):
    """Convolution whose output's shape is read before the norm."""

    def forward(self, x):
        y = self.conv(x)
        assert y.ndim == 4
        assert y.shape[1] == 4
        return functional.relu(self.norm(y), inplace=True)


@pytest.mark.parametrize(("network", "left"), [(Twice, 1), (Shared, 1), (Asking, 0)])
def test_only_convolutions_read_by_nothing_but_the_norm_are_folded(network, left):
    torch.manual_seed(0)
    model = network().double().eval()
    enliven(model)
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, SIZE)
    x = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=1e-12)
    assert len(norms_of(folded)) == left


def test_activations_inside_timm_norms_are_kept():
    model = timm.create_model("mobilenetv1_100", num_classes=7).double().eval()
    enliven(model)
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, (64, 32))
    x = torch.randn(1, 3, 64, 32, dtype=torch.float64)
    torch.testing.assert_close(folded(x), model(x))
    assert norms_of(folded) == []
