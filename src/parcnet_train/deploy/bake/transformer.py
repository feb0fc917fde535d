"""Parts of a baked MobileViT: one feature map size, so all sequences have the same length."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.models.backbones.mobilevit import PATCH, MobileViTStage, TransformerLayer


def rows_of(layer: nn.Linear, first: int, count: int, factor: float) -> nn.Linear:
    """Return a linear layer that computes some outputs of another one, times a factor."""
    part = nn.Linear(layer.in_features, count, device="meta")
    weight, bias = (each.detach()[first : first + count] for each in (layer.weight, layer.bias))
    part.weight = nn.Parameter(weight * factor, requires_grad=False)
    part.bias = nn.Parameter(bias * factor, requires_grad=False)
    return part


class FixedTransformerLayer(nn.Module):
    """`TransformerLayer` for one sequence length.

    The weights of the queries include the scale, and the keys are permuted directly to the layout
    that the matrix product needs.

    Args:
        layer: Layer to replace.
        length: Length of the sequences.
    """

    def __init__(self, layer: TransformerLayer, length: int) -> None:
        super().__init__()
        width = layer.qkv.in_features
        self.length, self.heads, self.width = length, layer.heads, width
        self.attention_norm = layer.attention_norm
        self.query = rows_of(layer.qkv, 0, width, 1 / math.sqrt(width // layer.heads))
        self.key = rows_of(layer.qkv, width, width, 1)
        self.value = rows_of(layer.qkv, 2 * width, width, 1)
        self.attention_project, self.mlp = layer.attention_project, layer.mlp

    def split(self, x: Tensor) -> Tensor:
        """Split the channels into heads: `(N, L, C)` to `(N, L, heads, C / heads)`."""
        return x.reshape(-1, self.length, self.heads, self.width // self.heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, L, C)` to the same shape."""
        normed = self.attention_norm(x)
        query = self.split(self.query(normed)).permute(0, 2, 1, 3)
        key = self.split(self.key(normed)).permute(0, 2, 3, 1)
        value = self.split(self.value(normed)).permute(0, 2, 1, 3)
        mixed = (query @ key).softmax(dim=-1) @ value
        mixed = mixed.permute(0, 2, 1, 3).reshape(-1, self.length, self.width)
        x = x + self.attention_project(mixed)
        return x + self.mlp(x)


class FixedMobileViTStage(nn.Module):
    """`MobileViTStage` for one feature map size.

    Args:
        stage: Stage to replace.
        size: Height and width of its feature maps.
    """

    def __init__(self, stage: MobileViTStage, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.even = (size[0] + size[0] % PATCH, size[1] + size[1] % PATCH)
        self.local, self.project, self.fuse = stage.local, stage.project, stage.fuse
        *layers, norm = stage.blocks
        assert isinstance(norm, nn.LayerNorm)  # for the type checker
        self.width = norm.normalized_shape[0]
        self.length = self.even[0] * self.even[1] // PATCH**2
        fixed = [
            FixedTransformerLayer(each, self.length)
            for each in layers
            if isinstance(each, TransformerLayer)
        ]
        self.blocks = nn.Sequential(*fixed, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape; odd sizes are resized to even ones and back."""
        features = self.local(x)
        if self.even != self.size:
            features = functional.interpolate(features, self.even, mode="bilinear")
        sequences = self.blocks(self.unfolded(features))
        features = self.folded(sequences)
        if self.even != self.size:
            features = functional.interpolate(features, self.size, mode="bilinear")
        return self.fuse(torch.cat([x, self.project(features)], dim=1))

    # Several runtimes transpose at most four axes, hence two steps.

    def unfolded(self, features: Tensor) -> Tensor:
        """Split `(B, C, H, W)` into a sequence per position within a patch: `(N, L, C)`."""
        columns = self.even[1] // PATCH
        split = features.reshape(-1, PATCH, columns, PATCH).permute(1, 3, 0, 2)
        maps = split.reshape(PATCH**2, -1, self.width, self.length)
        return maps.permute(0, 1, 3, 2).reshape(-1, self.length, self.width)

    def folded(self, sequences: Tensor) -> Tensor:
        """Put the sequences of `unfolded` together again."""
        maps = sequences.reshape(PATCH**2, -1, self.length, self.width).permute(0, 1, 3, 2)
        columns = self.even[1] // PATCH
        split = maps.reshape(PATCH, PATCH, -1, columns).permute(2, 0, 3, 1)
        return split.reshape(-1, self.width, *self.even)
