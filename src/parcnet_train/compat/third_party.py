"""Makes third-party packages importable as they are; `import parcnet_train` calls `prepare`.

- torchvision's Python code registers gradients of two operators of its binary. Beside a torch build
  for which no such binary exists, `import torchvision` therefore fails, and torchmetrics with it.
  Where the binary is absent, both operators are defined just before torchvision is imported.
- albumentations asks the network for updates when it is imported.
- Lightning warns of what a user of this package can neither cause nor fix.
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


def prepare() -> None:
    """Prepares torchvision, albumentations and Lightning; imports none of them, and no torch."""
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
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, BeforeTorchvision())


class BeforeTorchvision(MetaPathFinder):
    """Defines torchvision's operators at its first import, and finds nothing itself.

    A hook, since torch takes seconds to import and much of this package needs none of it.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Called by Python's import system for every module that is imported."""
        if name == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            define_missing_operators()


def define_missing_operators() -> None:
    """Defines `torchvision::nms` and `torchvision::qnms` unless torchvision's binary has them."""
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
    """Whether torchvision's compiled operators fit this torch; loads them."""
    import torch

    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:  # built for another torch, or for CUDA where there is none
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False
