"""The lowest precision in which losses and metrics are computed."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Convert to float32, unless the type of the values is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
