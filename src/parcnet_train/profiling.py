"""What a network costs, by arithmetic alone: parameters and multiply-adds, on no device."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from parcnet_train.parc import CircularConv


@dataclass(frozen=True)
class Counts:
    """Size of a network and work of one inference.

    Attributes:
        parameters: trainable ones, shared ones once.
        multiply_adds: of convolutions, linear layers and other matrix products, attention
            included; norms, activations, pooling and resizing are left out, as usual in papers.
    """

    parameters: int
    multiply_adds: int


def counts(network: nn.Module, size: tuple[int, int]) -> Counts:
    """Counts the parameters of a network, and the multiply-adds of one image.

    A circular convolution counts by its definition, whatever algorithm computes it.

    Args:
        network: takes `(B, 3, H, W)` float images; is left as it is.
        size: height and width of the image, in pixels.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        on_meta(network)(torch.empty(1, 3, *size, device="meta"))
    # torch counts a multiply-add as two operations.
    return Counts(count_parameters(network), counter.get_total_flops() // 2)


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters, shared ones once."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def on_meta(network: nn.Module) -> nn.Module:
    """A copy for inference, float32, that has shapes and no values."""
    network = copy.deepcopy(network).to("meta", torch.float32).eval()
    for module in network.modules():
        if isinstance(module, CircularConv):
            module.algorithm = "convolution"
    return network
