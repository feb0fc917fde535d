"""Counting: against the published sizes, formulas, and other packages' networks."""

import pytest
import timm
import torch
from torch import nn

from parcnet_train.backbones.mobilevit import TransformerLayer
from parcnet_train.build import build_model, meta_device
from parcnet_train.circular import ALGORITHMS
from parcnet_train.parc import CircularConv
from parcnet_train.profiling import counts
from running import configure

# Parameters, and multiply-adds of 256x256 pixels in millions: of the authors' implementation.
SIZES = {
    "parcnet_s": (5_037_088, 1657),
    "parcnet_xs": (2_185_384, 944),
    "parcnet_h": (20_403_940, 8544),
    "mobilevit_s": (5_578_632, 2001),
    "mobilevit_xs": (2_317_848, 1026),
    "mobilevit_xxs": (1_272_024, 407),
}


def network(*overrides):
    values, _ = configure(overrides)
    with meta_device():
        return build_model(values, 1000)


@pytest.mark.parametrize("backbone", SIZES)
def test_the_published_sizes(backbone):
    counted = counts(network(f"backbone={backbone}"), (256, 256))
    assert (counted.parameters, round(counted.multiply_adds / 1e6)) == SIZES[backbone]


def test_another_implementation_of_a_network_with_attention():
    theirs = timm.create_model("mobilevit_s")
    assert counts(theirs, (192, 320)) == counts(network("backbone=mobilevit_s"), (192, 320))


def test_convolutions_linear_layers_and_attention_by_their_formulas():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.layer = TransformerLayer(8, heads=2, dropout=0.1)

        def forward(self, images):
            return self.layer(self.stem(images).flatten(2).mT)

    length, width = 4 * 6, 8
    stem = length * width * 27
    attention = 2 * length**2 * width
    linear = length * width * (3 * width + width + 2 * width + 2 * width)
    assert counts(Network(), (8, 12)).multiply_adds == stem + attention + linear


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_a_circular_convolution_counts_by_its_definition(algorithm):
    conv = CircularConv(3, 2, 16, algorithm=algorithm)
    assert counts(conv, (16, 4)).multiply_adds == 3 * 16 * 4 * 16
    assert conv.algorithm == algorithm


def test_the_network_stays_as_it_is():
    conv = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    conv[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in conv.state_dict().items()}
    assert counts(conv, (2, 2)).parameters == 9 + 6
    assert conv.training
    for name, value in conv.state_dict().items():
        assert torch.equal(value, before[name])
