"""ParC-Net and its plug-ins as models of timm; importing this package registers them.

`timm.create_model("parcnet_s", num_classes=10)` works after `import parcnet_train.timm_models`. The
names are those of `conf/backbone/`, whose files have the arguments of the backbones.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from parcnet_train.config.compose import compose_choice
from parcnet_train.errors import ConfigError
from parcnet_train.targets import locate

try:
    from timm import create_model as create_model
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
except ModuleNotFoundError as error:
    raise ConfigError(
        "parcnet_train.timm_models: the package timm is not installed. Fix: pip install timm"
    ) from error

from parcnet_train.timm_models.network import Features, TimmNetwork, own_names


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


def cfg_of(network: Registration) -> dict[str, Any]:
    """Return timm's pretrained configuration of a network.

    Mean and standard deviation are 0 and 1: the networks take RGB in [0, 1], and those that need
    another range normalize inside. Interpolation and crop are those of `action=test`.
    """
    size = network.image_size
    return {
        "url": "",  # no weights are published
        "num_classes": 1000,
        "input_size": (3, size, size),
        "pool_size": (size // LAST_STRIDE, size // LAST_STRIDE),
        "crop_pct": 8 / 9,
        "interpolation": "bilinear",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "first_conv": network.first_conv,
        "classifier": "head.linear",
    }


default_cfgs = generate_default_cfgs({name: cfg_of(each) for name, each in NETWORKS.items()})


@functools.cache
def settings_of(name: str) -> dict[str, Any]:
    """Return the values of a file in `conf/backbone/`."""
    return compose_choice("backbone", name)


def build(name: str, pretrained: bool = False, **arguments: Any) -> Any:
    """Build a registered network; arguments are those of timm and of `TimmNetwork`."""
    settings = dict(settings_of(name))
    architecture = locate(settings)
    del settings["_target_"], settings["pretrained"]
    return build_model_with_cfg(
        functools.partial(TimmNetwork, architecture, settings),
        name,
        pretrained,
        pretrained_filter_fn=own_names,
        feature_cfg={"out_indices": tuple(range(NETWORKS[name].levels)), "feature_cls": Features},
        **arguments,
    )


def register(name: str) -> None:
    """Register a network with timm, and make its entry point an attribute of this package."""

    def entry_point(pretrained: bool = False, **arguments: Any) -> Any:
        return build(name, pretrained, **arguments)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = f"Build the network of `conf/backbone/{name}.yaml`; see `TimmNetwork`."
    globals()[name] = register_model(entry_point)


for _name in NETWORKS:
    register(_name)
