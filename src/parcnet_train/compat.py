"""Makes third-party packages importable as they are; imported before any of them.

- torchvision's Python code registers gradients of two operators of its binary. Beside a torch build
  for which no such binary exists, `import torchvision` therefore fails, and torchmetrics with it.
  Where the binary is absent, both operators are defined here.
- albumentations asks the network for updates when it is imported.
- Lightning warns of what a user of this package can neither cause nor mend.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path

import torch

from parcnet_train.detection.suppression import nms

# https://github.com/Lightning-AI/pytorch-lightning/issues/21326
warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
# A resumed run goes on in its own directory.
warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
# Our loaders take up an epoch in its middle, through the data module.
warnings.filterwarnings("ignore", ".*ended before the epoch ended and your dataloader is not resum")
# `data.num_workers` is the user's choice, and 0 is right for small files.
warnings.filterwarnings("ignore", ".* does not have many workers")
# Frozen parts are, since `recipe.finetuning` says so.
warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start of training")
# Metrics are the same in all processes when they are logged.
warnings.filterwarnings("ignore", r"It is recommended to use `self\.log\(.*sync_dist=True")

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def _has_binary() -> bool:
    """Whether torchvision's compiled operators fit this torch; loads them."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:  # built for another torch, or for CUDA where there is none
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False


if not _has_binary():
    for _operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{_operator}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )
    torch.library.impl("torchvision::nms", "CompositeExplicitAutograd")(nms)
