"""ParC-Net and its plug-ins as models of timm; importing this package registers them.

`timm.create_model("parcnet_s", num_classes=10)` works after `import parcnet_train.timm_models`. The
names are those of `conf/backbone/`, whose files have the arguments of the backbones.
"""

from __future__ import annotations

import functools
from typing import Any

from parcnet_train.config.compose import compose_choice
from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.registered import NETWORKS as NETWORKS
from parcnet_train.models.backbones.registered import cfg_of
from parcnet_train.targets import locate

try:
    from timm import create_model as create_model
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
except ModuleNotFoundError as error:
    raise ConfigError(
        "parcnet_train.timm_models: the package timm is not installed. Fix: pip install timm"
    ) from error

from parcnet_train.timm_models.network import Features, TimmNetwork, own_names

default_cfgs = generate_default_cfgs({name: cfg_of(name) for name in NETWORKS})


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
