"""Train light-weight vision networks for edge devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parcnet_train.compat import third_party
from parcnet_train.version import __version__ as __version__

if TYPE_CHECKING:
    from parcnet_train.deploy.bake.bake import bake as bake
    from parcnet_train.models.backbones.parcify import parcify as parcify
    from parcnet_train.restore import load as load

third_party.prepare()


def __getattr__(name: str) -> Any:
    # These need torch, whose import takes longer than all of `--help`.
    if name == "load":
        from parcnet_train.restore import load

        return load
    if name == "bake":
        from parcnet_train.deploy.bake.bake import bake

        return bake
    if name == "parcify":
        from parcnet_train.models.backbones.parcify import parcify

        return parcify
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
