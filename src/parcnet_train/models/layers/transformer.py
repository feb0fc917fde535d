"""Layers that vision transformers share: attention of several heads, residual branches, tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

STD = 0.02  # standard deviation of initial weights and embeddings


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float | None = None
) -> Tensor:
    """Attend with several heads: softmax(Q K^T * scale) V for each head.

    Args:
        query: Queries `(B, N, C)`.
        key: Keys `(B, M, C)`.
        value: Values `(B, M, C)`.
        heads: Number of heads, which must divide C.
        scale: Factor of the products; None stands for 1 / sqrt(C / heads).

    Returns:
        The mixed values `(B, N, C)`, the heads side by side.
    """
    query_parts, key_parts, value_parts = (
        x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value)
    )
    mixed = functional.scaled_dot_product_attention(
        query_parts, key_parts, value_parts, scale=scale
    )
    return mixed.transpose(1, 2).reshape(query.shape)


def mlp(width: int, hidden: int) -> nn.Sequential:
    """Return two linear layers with a GELU between them, `(..., width)` to the same shape."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def drop_branch(probability: float) -> nn.Module:
    """Return stochastic depth (arXiv 1603.09382): it drops a branch for whole images."""
    return StochasticDepth(probability, "row") if probability > 0 else nn.Identity()


def increasing(probability: float, depths: Sequence[int]) -> Iterator[list[float]]:
    """Yield stochastic depth per block of each stage, linear from 0 to that of the last block."""
    every = torch.linspace(0, probability, sum(depths), device="cpu").tolist()
    for depth in depths:
        yield [every.pop(0) for _ in range(depth)]


def to_tokens(x: Tensor) -> Tensor:
    """Turn a map `(B, C, H, W)` into tokens `(B, H * W, C)`, row by row."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn tokens `(B, H * W, C)` into a map `(B, C, H, W)` of that height and width."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *size)


def initialize_linear(module: nn.Module) -> None:
    """Set initial weights of a linear layer, as released: truncated normal of 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def linear_classifier(channels: int, num_classes: int) -> nn.Linear:
    """Return the linear layer after a class token."""
    linear = nn.Linear(channels, num_classes)
    initialize_linear(linear)
    return linear
