"""Tokens-to-Token ViT: Yuan et al., ICCV 2021, arXiv 2101.11986.

The lite sizes of the paper's Table 1, with a performer in each of the two steps that make tokens.
The one level has stride 16. With `head=native`, its map is the class token, which the published
classifier takes; otherwise it is the map of the other tokens. Both forms have the same weights.

Sinusoid positions are made for the patches of `meta_size` and interpolated bicubically for other
image sizes, as the authors' code does for fine-tuning: made anew, the codes of a row would depend
on the length of the rows. Attention scales by 1 / sqrt(channels per head), as the published weights
are evaluated.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.bounds import Count, Pixels, Positive, PositiveShare, Share
from parcnet_train.models.backbones.adapt import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizingBackbone,
    Triple,
)
from parcnet_train.models.base import Level
from parcnet_train.models.layers.dropout import Dropout
from parcnet_train.models.layers.transformer import (
    STD,
    attend,
    drop_branch,
    increasing,
    initialize_linear,
    linear_classifier,
    mlp,
    to_map,
    to_tokens,
)
from parcnet_train.precision import at_least_float32

STRIDE = 16
EPSILON = 1e-8  # added to the performer's denominator (released value)
WAVELENGTH = 10_000  # longest one of the sinusoids, in units of 2 pi (arXiv 1706.03762)


class SoftSplit(nn.Module):
    """Overlapping patches as tokens (section 3.1 of the paper).

    Args:
        kernel: Side of a patch, in pixels.
        stride: Distance between patches, in pixels.
        padding: Zeros around the map, in pixels.
    """

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Split `(B, C, H, W)` into tokens `(B, h * w, C * kernel^2)`; return (h, w) too."""
        patches = functional.unfold(x, self.kernel, 1, self.padding, self.stride)
        over = 2 * self.padding - self.kernel
        height, width = ((length + over) // self.stride + 1 for length in x.shape[2:])
        return patches.transpose(1, 2), (height, width)


class Performer(nn.Module):
    """Transformer layer with attention by positive random features (arXiv 2009.14794).

    Its attention has one head, takes the values as the residual, and may change the width.

    Args:
        in_width: Number of channels of the input.
        width: Number of channels of the output.
        features: Number of random features.
        dropout: Dropout probability after attention and after the MLP.
    """

    projections: Tensor

    def __init__(self, in_width: int, width: int, features: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(in_width)
        self.kqv = nn.Linear(in_width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = mlp(width, width)
        self.dropout = Dropout(dropout)
        drawn = torch.empty(features, width)
        nn.init.orthogonal_(drawn)
        self.register_buffer("projections", drawn * math.sqrt(features))

    def features(self, x: Tensor) -> Tensor:
        """Return exp(w x - |x|^2 / 2) / sqrt(m) for each of m projections w, `(B, N, m)`."""
        projections = self.projections.to(x.dtype)
        exponents = x @ projections.T - x.square().sum(-1, keepdim=True) / 2
        return exponents.exp() / math.sqrt(len(projections))

    def attention(self, key: Tensor, query: Tensor, value: Tensor) -> Tensor:
        """Attend, in float32 or wider, since the exponentials exceed narrower ranges."""
        device = value.device.type  # there is no autocast on the meta device
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            key, query = (self.features(at_least_float32(x)) for x in (key, query))
            mixed = query @ (key.transpose(1, 2) @ at_least_float32(value))
            total = query @ key.sum(dim=1).unsqueeze(2)
            return (mixed / (total + EPSILON)).to(value.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `(B, N, in_width)` to `(B, N, width)`."""
        key, query, value = self.kqv(self.attention_norm(x)).chunk(3, dim=-1)
        x = value + self.dropout(self.project(self.attention(key, query, value)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Reduction(nn.Module):
    """One step of tokens to token: soft split, then a performer that makes a map again.

    Args:
        split: Soft split.
        performer: Performer of the split tokens.
    """

    def __init__(self, split: SoftSplit, performer: Performer) -> None:
        super().__init__()
        self.split, self.performer = split, performer

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, width, H / stride, W / stride)`."""
        tokens, size = self.split(x)
        return to_map(self.performer(tokens), size)


class Layer(nn.Module):
    """Pre-norm transformer layer: self-attention without biases of its inputs, then an MLP.

    Args:
        width: Number of channels.
        heads: Number of attention heads.
        mlp_ratio: Width of the MLP relative to that of the tokens.
        drop: Probability that training skips a branch for an image.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, drop: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = mlp(width, width * mlp_ratio)
        self.drop = drop_branch(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `(B, N, C)` to the same shape."""
        query, key, value = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        x = x + self.drop(self.project(attend(query, key, value, self.heads)))
        return x + self.drop(self.mlp(self.mlp_norm(x)))


class Transformer(nn.Module):
    """The last soft split, a class token, positions, and transformer layers.

    Args:
        split: Soft split.
        in_width: Number of channels of the split tokens.
        layers: Transformer layers.
        width: Number of channels of the layers.
        grid: Rows and columns of tokens that the positions are made for.
        native: Whether the result is the class token rather than the map of the other tokens.
    """

    positions: Tensor

    def __init__(
        self,
        split: SoftSplit,
        in_width: int,
        layers: list[Layer],
        width: int,
        grid: tuple[int, int],
        native: bool,
    ) -> None:
        super().__init__()
        self.grid, self.native = grid, native
        self.split = split
        self.project = nn.Linear(in_width, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.class_token, std=STD)
        # The first position is that of the class token.
        codes = sinusoids(1 + grid[0] * grid[1], width)
        self.register_buffer("positions", codes.unsqueeze(0), persistent=False)
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)

    def positions_of(self, size: tuple[int, int]) -> Tensor:
        """Return positions `(1, 1 + h * w, width)` for rows and columns of tokens."""
        if size == self.grid:
            return self.positions
        grid = to_map(self.positions[:, 1:], self.grid)
        fitted = to_tokens(functional.interpolate(grid, size, mode="bicubic"))
        return torch.cat([self.positions[:, :1], fitted], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, width, H / 2, W / 2)`; to `(B, width)` if native."""
        patches, size = self.split(x)
        tokens = self.project(patches)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        tokens = self.norm(self.layers(tokens + self.positions_of(size)))
        return tokens[:, 0] if self.native else to_map(tokens[:, 1:], size)


class T2TViT(NormalizingBackbone):
    """Tokens-to-Token ViT: two steps that make tokens, then a transformer.

    Args:
        width: Number of channels of the transformer.
        depth: Number of transformer layers.
        heads: Number of attention heads; divides the width.
        mlp_ratio: Width of the MLPs relative to that of the tokens.
        token_width: Number of channels of the performers.
        feature_share: Number of random features of the performers, relative to their channels.
        dropout: Dropout probability of the performers (released value 0.1).
        stochastic_depth: Probability that training skips the branches of the last layer for an
            image; it decreases linearly towards the first layer.
        output_stride: Stride of the level, which is fixed.
        meta_size: Image size in pixels (one number, or height and width) that the positions are
            made for; they are interpolated for other sizes.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
        native: Whether the result is the class token, for `head=native`.

    Raises:
        ValueError: If `heads` does not divide the width, or the width is odd.
    """

    brings_classifier: ClassVar[bool] = True
    output_strides: ClassVar[tuple[int, ...]] = (STRIDE,)

    def __init__(
        self,
        width: Count,
        depth: Count,
        heads: Count = 4,
        mlp_ratio: Count = 2,
        token_width: Count = 64,
        feature_share: PositiveShare = 0.5,
        dropout: Share = 0.1,
        stochastic_depth: Share = 0.0,
        output_stride: Literal[16] = 16,
        meta_size: Pixels = 224,
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
        native: bool = False,
    ) -> None:
        super().__init__(mean, std)
        if width % heads or width % 2:
            raise ValueError(
                f"backbone.width={width}: expected an even multiple of backbone.heads={heads}"
            )
        lengths = (meta_size, meta_size) if isinstance(meta_size, int) else meta_size
        features = max(1, int(token_width * feature_share))
        patch = 9 * token_width  # of 3x3 pixels
        (drops,) = increasing(stochastic_depth, [depth])
        self.stages = nn.ModuleList(
            [
                Reduction(SoftSplit(7, 4, 2), Performer(3 * 49, token_width, features, dropout)),
                Reduction(SoftSplit(3, 2, 1), Performer(patch, token_width, features, dropout)),
                Transformer(
                    SoftSplit(3, 2, 1),
                    patch,
                    [Layer(width, heads, mlp_ratio, drop) for drop in drops],
                    width,
                    (max(1, lengths[0] // STRIDE), max(1, lengths[1] // STRIDE)),
                    native,
                ),
            ]
        )
        self.levels = (Level(output_stride, width),)
        self.apply(initialize_linear)

    def classifier(self, num_classes: int) -> nn.Module:
        """Make the linear layer after the class token."""
        return linear_classifier(self.levels[-1].channels, num_classes)


def sinusoids(length: int, width: int) -> Tensor:
    """Return position codes `(length, width)`: interleaved sines and cosines (arXiv 1706.03762)."""
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    angles = torch.arange(length, dtype=torch.float64)[:, None] / WAVELENGTH**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(length, width).float()
