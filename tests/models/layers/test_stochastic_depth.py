"""Stochastic depth of ParC-Net's blocks and of MobileViT's transformer layers."""

import pytest
import torch
from torchvision.ops import StochasticDepth

from parcnet_train.build import build_backbone
from running import composed

NETWORKS = {
    "parcnet_xs": ["backbone.depths=[1,2,1]"],
    "mobilevit_xxs": ["backbone.depths=[1,2,1]"],
    "parcnet_s": ["backbone.depths=[1,2,1]", "backbone.meta_former=false"],
}


def network(name, probability):
    values = composed(
        f"backbone={name}",
        *NETWORKS[name],
        "backbone.dropout=0.0",
        f"backbone.stochastic_depth={probability}",
    )
    torch.manual_seed(0)
    return build_backbone(values)


@pytest.mark.parametrize("name", NETWORKS)
def test_probability_rises_linearly_over_all_blocks(name):
    backbone = network(name, 0.3)
    skips = [each.p for each in backbone.modules() if isinstance(each, StochasticDepth)]
    assert skips == pytest.approx([0.0, 0.1, 0.2, 0.3])
    plain = network(name, 0.0)
    assert not any(isinstance(each, StochasticDepth) for each in plain.modules())
    assert plain.state_dict().keys() == backbone.state_dict().keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_images_are_skipped_and_evaluation_is_unchanged(name):
    backbone, plain = network(name, 0.5), network(name, 0.0)
    images = torch.rand(1, 3, 64, 64).repeat(12, 1, 1, 1)
    last = [each for each in backbone.modules() if isinstance(each, StochasticDepth)][-1]
    shares = []
    # The share of a branch that is zero, per image: all of it or nothing.
    last.register_forward_hook(
        lambda _, __, output: shares.append(output.reshape(len(images), -1).eq(0).float().mean(1))
    )
    with torch.no_grad():
        backbone.train()(images)
        found = torch.cat(shares)
        assert set((found > 0.99).tolist()) == {True, False}
        assert ((found > 0.99) | (found < 0.5)).all()
        for one, other in zip(backbone.eval()(images), plain.eval()(images), strict=True):
            assert one.shape == other.shape
