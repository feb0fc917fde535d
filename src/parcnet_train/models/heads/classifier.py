"""Image classifier on the coarsest level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from parcnet_train.bounds import Share
from parcnet_train.models.base import Level
from parcnet_train.models.layers.blocks import ConvNormAct, initialize


class Classifier(nn.Module):
    """Classification head: optional expansion and norm, average pooling, dropout, linear layer.

    Args:
        levels: Levels of the backbone; the last one is classified.
        num_classes: Number of logits.
        dropout: Dropout probability before the linear layer.
    """

    task: ClassVar[str] = "classification"

    def __init__(self, levels: Sequence[Level], num_classes: int, dropout: Share = 0.2) -> None:
        super().__init__()
        last = levels[-1]
        channels = last.expansion or last.channels
        self.expand = (
            ConvNormAct(last.channels, channels, activation=last.activation)
            if last.expansion
            else nn.Identity()
        )
        self.norm = (
            nn.Identity()
            if last.pooled_norm is None
            else nn.LayerNorm(channels, eps=last.pooled_norm)
        )
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, num_classes)
        self.apply(initialize)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify the last map `(B, C, H, W)`; return logits `(B, num_classes)`."""
        return self.linear(self.dropout(self.norm(self.expand(maps[-1]).mean((2, 3)))))
