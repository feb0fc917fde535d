"""Train light-weight vision networks for edge devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parcnet_train.checkpoints import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `load` needs torch, whose import takes longer than all of `--help`.
    if name == "load":
        from parcnet_train.checkpoints import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
