"""Train light-weight vision networks for edge devices."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from parcnet_train.compat import third_party
from parcnet_train.version import __version__ as __version__

if TYPE_CHECKING:
    from parcnet_train.actions.api import compose as compose
    from parcnet_train.actions.api import run as run
    from parcnet_train.deploy.bake.bake import bake as bake
    from parcnet_train.errors import UserError as UserError
    from parcnet_train.models.backbones.parcify import parcify as parcify
    from parcnet_train.restore import load as load

# The modules of these names are imported when they are first used: the import of torch takes longer
# than all of `--help`.
_MODULES = {
    "UserError": "errors",
    "bake": "deploy.bake.bake",
    "compose": "actions.api",
    "load": "restore",
    "parcify": "models.backbones.parcify",
    "run": "actions.api",
}

third_party.prepare()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
