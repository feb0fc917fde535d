"""Make third-party packages importable and quiet; `import parcnet_train` calls `prepare`.

- torchvision's Python code registers gradients of two operators of its binary. With a torch build
  for which no such binary exists, `import torchvision` therefore fails, and torchmetrics with it.
  If the binary is missing, both operators are defined just before torchvision is imported.
- albumentations checks for updates over the network when it is imported.
- Some packages import others that take seconds and are rarely used (`compat/deferred.py`).
- Lightning and Hydra 1.4 warn about things that a user of this package can neither cause nor fix.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from parcnet_train.compat.deferred import DeferImports


def prepare() -> None:
    """Prepare third-party packages, without importing them or torch."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
    # A resumed run continues in its own directory.
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    # Our loaders resume an epoch in its middle, through the data module.
    warnings.filterwarnings(
        "ignore", ".*ended before the epoch ended and your dataloader is not resum"
    )
    # `data.num_workers` is the user's choice, and 0 is right for small files.
    warnings.filterwarnings("ignore", ".* does not have many workers")
    # Frozen parts are in evaluation mode because `recipe.finetuning` asks for it.
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start of train")
    # Metrics are the same in all processes when they are logged.
    warnings.filterwarnings("ignore", r"It is recommended to use `self\.log\(.*sync_dist=True")
    # Hydra 1.3 needs the parameter.
    warnings.filterwarnings("ignore", "The version_base parameter is deprecated")
    sys.meta_path.insert(0, DeferImports())
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, BeforeTorchvision())


class BeforeTorchvision(MetaPathFinder):
    """Import hook that defines torchvision's operators when it is first imported.

    It exists because torch takes seconds to import, and much of this package does not need it. It
    finds no module itself.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Handle an import; Python's import system calls this for every module."""
        if name == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            define_missing_operators()


def define_missing_operators() -> None:
    """Define `torchvision::nms` and `torchvision::qnms` unless torchvision's binary has them."""
    import torch

    from parcnet_train.compat.nms import nms

    if has_binary():
        return
    for operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{operator}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )
    torch.library.impl("torchvision::nms", "CompositeExplicitAutograd")(nms)


def has_binary() -> bool:
    """Load torchvision's compiled operators; return whether they fit this torch."""
    import torch

    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:  # built for another torch, or for CUDA on a machine without it
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False
