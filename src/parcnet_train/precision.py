"""The least precision that a computation is done in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The same values in float32, or as they are where their type is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
