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
    fold_behind,
    fold_in_front,
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
def test_a_norm_goes_into_the_convolution_in_front_of_it(groups, has_bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=has_bias).double()
    norm, x = drawn_norm(8), torch.randn(2, 4, *SIZE, dtype=torch.float64)
    expected = norm(conv(x))
    fold_behind(conv, affine_of(norm))
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_norm_goes_into_the_1x1_convolution_behind_it(groups, has_bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 1, groups=groups, bias=has_bias).double()
    norm, x = drawn_norm(8), torch.randn(2, 8, *SIZE, dtype=torch.float64)
    expected = conv(norm(x))
    fold_in_front(conv, affine_of(norm))
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


def test_a_norm_without_parameters():
    norm = nn.BatchNorm2d(3, affine=False).double().eval()
    norm.running_mean.uniform_()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    scale, shift = (each.view(-1, 1, 1) for each in affine_of(norm))
    torch.testing.assert_close(x * scale + shift, norm(x), rtol=0, atol=1e-12)


class Network(nn.Module):
    """A convolution and a norm."""

    channels = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.channels, 3)
        self.norm = nn.BatchNorm2d(self.channels)


class Twice(Network):
    """A convolution whose output goes into a norm and elsewhere."""

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Shared(Network):
    """A convolution that runs twice, with a norm behind one of them."""

    channels = 3

    def forward(self, x):
        return self.norm(self.conv(self.conv(x)))


class Asking(Network):
    """A convolution that is asked for its output's shape in front of the norm."""

    def forward(self, x):
        y = self.conv(x)
        assert y.ndim == 4
        assert y.shape[1] == 4
        return functional.relu(self.norm(y), inplace=True)


@pytest.mark.parametrize(("network", "left"), [(Twice, 1), (Shared, 1), (Asking, 0)])
def test_only_what_is_read_by_the_norm_alone_is_folded(network, left):
    torch.manual_seed(0)
    model = network().double().eval()
    enliven(model)
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, SIZE)
    x = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=1e-12)
    assert len(norms_of(folded)) == left


def test_activations_inside_norms_of_timm_stay():
    model = timm.create_model("mobilenetv1_100", num_classes=7).double().eval()
    enliven(model)
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, (64, 32))
    x = torch.randn(1, 3, 64, 32, dtype=torch.float64)
    torch.testing.assert_close(folded(x), model(x))
    assert norms_of(folded) == []
