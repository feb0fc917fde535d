"""Train light-weight vision networks for edge devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parcnet_train.checkpoints import load as load
    from parcnet_train.deploy.bake import bake as bake
    from parcnet_train.plugin import parcify as parcify

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # These need torch, whose import takes longer than all of `--help`.
    if name == "load":
        from parcnet_train.checkpoints import load

        return load
    if name == "bake":
        from parcnet_train.deploy.bake import bake

        return bake
    if name == "parcify":
        from parcnet_train.plugin import parcify

        return parcify
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
