"""Pyramid Vision Transformer: Wang et al., ICCV 2021, arXiv 2102.12122.

Sizes are those of the paper's Table 1. With `head=native`, the last stage has a class token and a
norm, and the network is the published classifier. Otherwise the levels are the four maps that the
paper's detectors take, without the token; a checkpoint of the classifier initializes them. Position
embeddings are interpolated bilinearly for other image sizes, as in section 3.2 of the paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.bounds import Count, Pixels, Positive, Share
from parcnet_train.models.backbones.adapt import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizingBackbone,
    Triple,
)
from parcnet_train.models.base import Level, OutputStride, StageSampling, last_stages
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

EPSILON = 1e-6  # epsilon of the layer norms (released value)
PATCH = 4  # pixels along both axes of the first stage's patches


class PatchEmbedding(nn.Module):
    """Embed patches of a map, and add one embedding per position.

    Args:
        in_channels: Number of channels of the map.
        width: Number of channels of the tokens.
        patch: Side of a patch, in pixels of the map.
        grid: Rows and columns of patches that the position embeddings are stored for.
        sampling: Sampling of the stage; without a stride, the patches overlap. None: the first
            stage, which always has its stride.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        patch: int,
        grid: tuple[int, int],
        sampling: StageSampling | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pad: nn.Module = nn.Identity()
        self.projection = nn.Conv2d(in_channels, width, patch, patch)
        if sampling is not None and sampling.stride == 1:
            dilation = sampling.dilation_before
            before = dilation // 2
            self.pad = nn.ZeroPad2d((before, dilation - before, before, dilation - before))
            self.projection.stride, self.projection.dilation = (1, 1), (dilation, dilation)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.position = nn.Parameter(torch.zeros(1, grid[0] * grid[1], width))
        nn.init.trunc_normal_(self.position, std=STD)

    def positions(self, size: tuple[int, int]) -> Tensor:
        """Return the embeddings `(1, H * W, width)` for rows and columns of patches."""
        if size == self.grid:
            return self.position
        grid = to_map(self.position, self.grid)
        return to_tokens(functional.interpolate(grid, size, mode="bilinear"))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Map `(B, in_channels, H, W)` to tokens `(B, h * w, width)`, and return (h, w) too."""
        x = self.projection(self.pad(x))
        size = (x.shape[2], x.shape[3])
        return self.norm(to_tokens(x)) + self.positions(size), size


class Attention(nn.Module):
    """Attention whose keys and values are spatially reduced (section 3.3 of the paper).

    Args:
        width: Number of channels.
        heads: Number of attention heads.
        reduction: Side of the squares of tokens that become one key and one value; 1: none.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.reduce = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(width, EPSILON) if reduction > 1 else nn.Identity()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens `(B, N, C)` to the same shape; `size` has rows and columns of the tokens."""
        few = x if self.reduce is None else to_tokens(self.reduce(to_map(x, size)))
        few = self.norm(few)
        return self.project(attend(self.query(x), self.key(few), self.value(few), self.heads))


class Block(nn.Module):
    """Pre-norm transformer layer: attention, then an MLP.

    Args:
        width: Number of channels.
        heads: Number of attention heads.
        mlp_ratio: Width of the MLP relative to that of the tokens.
        reduction: Spatial reduction of keys and values, see `Attention`.
        drop: Probability that training skips a branch for an image.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, reduction: int, drop: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, EPSILON)
        self.attention = Attention(width, heads, reduction)
        self.mlp_norm = nn.LayerNorm(width, EPSILON)
        self.mlp = mlp(width, width * mlp_ratio)
        self.drop = drop_branch(drop)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens `(B, N, C)` to the same shape; `size` has rows and columns of the tokens."""
        x = x + self.drop(self.attention(self.attention_norm(x), size))
        return x + self.drop(self.mlp(self.mlp_norm(x)))


class Stage(nn.Module):
    """Patch embedding and transformer layers, from one map to the next.

    Args:
        embed: Patch embedding.
        blocks: Transformer layers.
    """

    def __init__(self, embed: PatchEmbedding, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, width, H / stride, W / stride)`."""
        x, size = self.embed(x)
        for block in self.blocks:
            x = block(x, size)
        return to_map(x, size)


class ClassifyingStage(Stage):
    """Stage whose result is a class token, for `head=native`.

    Args:
        embed: Patch embedding.
        blocks: Transformer layers, which do not reduce keys and values.
    """

    def __init__(self, embed: PatchEmbedding, blocks: Sequence[Block]) -> None:
        super().__init__(embed, blocks)
        width = embed.norm.normalized_shape[0]
        self.class_token, self.class_position = (
            nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2)
        )
        for parameter in (self.class_token, self.class_position):
            nn.init.trunc_normal_(parameter, std=STD)
        self.class_norm = nn.LayerNorm(width, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to the vector `(B, width)`."""
        x, size = self.embed(x)
        token = (self.class_token + self.class_position).expand(x.shape[0], -1, -1)
        x = torch.cat([token, x], dim=1)
        for block in self.blocks:
            x = block(x, size)
        return self.class_norm(x[:, 0])


class PVT(NormalizingBackbone):
    """Pyramid Vision Transformer of four stages.

    Args:
        widths: Numbers of channels of the stages of stride 4, 8, 16 and 32.
        depths: Numbers of transformer layers of these stages.
        heads: Numbers of their attention heads; each divides its width.
        mlp_ratios: Widths of their MLPs relative to those of the tokens.
        reductions: Sides of the squares of tokens that become one key and one value.
        stochastic_depth: Probability that training skips the branches of the last layer for an
            image; it decreases linearly towards the first layer.
        output_stride: Stride of the last level; values below 32 let the patches of the last stages
            overlap, dilated.
        meta_size: Image size in pixels (one number, or height and width) whose numbers of patches
            the position embeddings are stored for; they are interpolated for other sizes.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
        native: Whether the last stage has a class token, for `head=native`.

    Raises:
        ValueError: If a number of heads does not divide its width, or the stage with the class
            token reduces its tokens.
    """

    brings_classifier: ClassVar[bool] = True
    native_entries: ClassVar[tuple[str, ...]] = ("stages.3.class_",)

    def __init__(
        self,
        widths: tuple[Count, Count, Count, Count],
        depths: tuple[Count, Count, Count, Count],
        heads: tuple[Count, Count, Count, Count] = (1, 2, 5, 8),
        mlp_ratios: tuple[Count, Count, Count, Count] = (8, 8, 4, 4),
        reductions: tuple[Count, Count, Count, Count] = (8, 4, 2, 1),
        stochastic_depth: Share = 0.0,
        output_stride: OutputStride = 32,
        meta_size: Pixels = 224,
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
        native: bool = False,
    ) -> None:
        super().__init__(mean, std)
        if any(width % count for width, count in zip(widths, heads, strict=True)):
            raise ValueError(
                f"backbone.heads={list(heads)}: expected divisors of backbone.widths={list(widths)}"
            )
        if native and reductions[-1] > 1:
            raise ValueError(
                f"backbone.reductions={list(reductions)}: expected 1 at the end, since the last "
                "stage has a class token with head=native"
            )
        lengths = (meta_size, meta_size) if isinstance(meta_size, int) else meta_size
        samplings = last_stages(output_stride)
        drops = increasing(stochastic_depth, depths)
        self.stages = nn.ModuleList()
        for number, (before, width) in enumerate(itertools.pairwise((3, *widths))):
            stride = PATCH * 2**number
            embed = PatchEmbedding(
                before,
                width,
                2 if number else PATCH,
                (max(1, lengths[0] // stride), max(1, lengths[1] // stride)),
                samplings[number - 1] if number else None,
            )
            blocks = [
                Block(width, heads[number], mlp_ratios[number], reductions[number], drop)
                for drop in next(drops)
            ]
            kind = ClassifyingStage if native and number == 3 else Stage
            self.stages.append(kind(embed, blocks))
        strides = (PATCH, *(sampling.output_stride for sampling in samplings))
        *dense, last = map(Level, strides, widths)
        pooled = Level(last.stride, last.channels, pooled_norm=EPSILON)
        self.levels = (last,) if native else (*dense, pooled)
        self.apply(initialize_linear)

    def classifier(self, num_classes: int) -> nn.Module:
        """Make the linear layer after the class token."""
        return linear_classifier(self.levels[-1].channels, num_classes)
