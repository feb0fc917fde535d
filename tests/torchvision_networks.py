"""Backbones and weights for comparisons with torchvision."""

import torch

from parcnet_train.build import build_backbone
from parcnet_train.models.backbones.adapt import IMAGENET_MEAN, IMAGENET_STD
from running import composed


def with_stride(name, output_stride):
    """Return one of our backbones with another output stride."""
    return build_backbone(composed(f"backbone={name}", f"backbone.output_stride={output_stride}"))


def randomize(network):
    """Set values with which every parameter and statistic affects the output."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif name.endswith("layer_scale") or (name.endswith("weight") and value.ndim == 1):
            value.uniform_(0.2, 0.6, generator=generator)
        elif value.is_floating_point() and value.ndim == 1:
            value.normal_(0, 0.1, generator=generator)
    return network.eval()


def normalize(images):
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def assert_close(got, expected):
    assert (got - expected).abs().max() < 1e-4 * expected.std()
