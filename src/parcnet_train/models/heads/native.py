"""The classifier that a network has from its own library or paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from parcnet_train.models.base import Level


class Native(nn.Module):
    """A network's own classifier, for parameters and weights that are those of its publisher.

    Args:
        levels: Level of the backbone; its map is a vector, see `Backbone`.
        num_classes: Number of logits.
        classifier: The backbone's own classifier, with that number of logits.
    """

    task: ClassVar[str] = "classification"
    is_native: ClassVar[bool] = True

    def __init__(self, levels: Sequence[Level], num_classes: int, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify the vector `(B, C)`; return logits `(B, num_classes)`."""
        return self.classifier(maps[-1])
