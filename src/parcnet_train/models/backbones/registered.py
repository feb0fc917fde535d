"""What timm needs to know of the networks that `parcnet_train.timm_models` registers with it.

This module does not need timm: `action=release` writes the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parcnet_train.data.channels import RGB
from parcnet_train.sizes import Size


@dataclass(frozen=True)
class Registration:
    """What timm needs to know of a network before it is built.

    Attributes:
        first_conv: Name of the convolution that takes the images.
        levels: Number of feature maps.
        image_size: Height and width of the images that the network is made for, in pixels.
    """

    first_conv: str
    levels: int
    image_size: int


PARCNET = Registration("backbone.stages.0.0.conv", 5, 256)

# One line per network; the names are those of the files in conf/backbone/.
NETWORKS = {
    "parcnet_xs": PARCNET,
    "parcnet_s": PARCNET,
    "parcnet_h": PARCNET,
    "parcnetv2_xt": Registration("backbone.stages.0.1", 4, 224),
    "parc_resnet50": Registration("backbone.network.conv1", 5, 224),
    "parc_mobilenetv2": Registration("backbone.network.features.0.0", 5, 224),
    "parc_convnext_xt": Registration("backbone.network.features.0.0", 4, 224),
}

LAST_STRIDE = 32


def cfg_of(
    name: str, num_classes: int = 1000, size: Size | None = None, channels: int = RGB
) -> dict[str, Any]:
    """Return timm's pretrained configuration of a network.

    Mean and standard deviation are 0 and 1: the networks take images in [0, 1], and those that need
    another range normalize inside. Interpolation and crop are those of `action=test`.

    Args:
        name: Name of the network.
        num_classes: Number of logits.
        size: Height and width of the images, in pixels; None: the size that it is made for.
        channels: Number of channels of the images.
    """
    network = NETWORKS[name]
    height, width = size or (network.image_size, network.image_size)
    return {
        "url": "",  # no weights are published
        "num_classes": num_classes,
        "input_size": (channels, height, width),
        "pool_size": (height // LAST_STRIDE, width // LAST_STRIDE),
        "crop_pct": 8 / 9,
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": (0.0,) * channels,
        "std": (1.0,) * channels,
        "first_conv": network.first_conv,
        "classifier": "head.linear",
    }
