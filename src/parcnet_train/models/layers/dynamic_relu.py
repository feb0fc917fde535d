"""Dynamic ReLU: Chen et al., ECCV 2020, arXiv 2003.10027, with the numbers of a token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 8  # channel reduction in the MLP
SLOPE, INTERCEPT = 1.0, 0.5  # ranges around the initial values


class DynamicReLU(nn.Module):
    """`max(a1 x + b1, a2 x + b2)` per channel, with numbers from a token.

    Args:
        channels: Number of channels of the map.
        width: Number of channels of the token.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        hidden = max(1, width // REDUCTION)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 4 * channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape, given a token `(B, width)`."""
        numbers = 2 * self.mlp(token).reshape(x.shape[0], 4, x.shape[1], 1, 1) - 1
        first, second, first_intercept, second_intercept = numbers.unbind(1)
        return torch.maximum(
            (1 + SLOPE * first) * x + INTERCEPT * first_intercept,
            SLOPE * second * x + INTERCEPT * second_intercept,
        )
