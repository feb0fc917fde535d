"""What turns networks of other libraries into backbones: normalisation, dilation, ParC."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parcnet_train.models.backbones.parcify import plan, replace
from parcnet_train.models.base import StageSampling
from parcnet_train.models.layers.circular import Algorithm

# Red, green, blue, of images in [0, 1]: what torchvision's and most of timm's weights expect.
Triple = tuple[float, float, float]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation, per channel.

    Both are no part of the state dict, so that those of other libraries fit.

    Args:
        mean: of red, green and blue in [0, 1].
        std: of the same; above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps `(B, 3, H, W)` to the same shape."""
        return (images - self.mean) / self.std


def dilate(stage: nn.Module, sampling: StageSampling) -> None:
    """Takes the stride from a stage and dilates its convolutions instead, in place.

    As torchvision's `replace_stride_with_dilation`. A convolution with an even kernel gets no
    padding; its network must pad.
    """
    if sampling.stride == 2:
        return
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            had_stride = layer.stride != (1, 1)
            dilation = sampling.dilation_before if had_stride else sampling.dilation
            layer.stride = (1, 1)
            layer.dilation = (dilation, dilation)
            height, width = layer.kernel_size
            layer.padding = ((height - 1) // 2 * dilation, (width - 1) // 2 * dilation)


def insert_parc(
    network: nn.Module,
    layers: Sequence[str],
    position_embeddings: bool | Sequence[str],
    meta_size: int | tuple[int, int],
    algorithm: Algorithm = "auto",
) -> None:
    """What `parcnet_train.parcify` does, without its report; nothing where no layer is named."""
    if layers:
        size = (meta_size, meta_size) if isinstance(meta_size, int) else meta_size
        replace(network, plan(network, layers, size, position_embeddings), algorithm)
