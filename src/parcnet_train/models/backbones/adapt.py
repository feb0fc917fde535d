"""Tools that backbones share: normalization, dilation, insertion of ParC."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parcnet_train.models.backbones.parcify import plan, replace
from parcnet_train.models.base import Backbone, StageSampling
from parcnet_train.models.layers.circular import Algorithm

# For RGB images in [0, 1], as torchvision's and most of timm's weights expect them.
Triple = tuple[float, float, float]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel.

    Neither is part of the state dict, so that state dicts of other libraries fit.

    Args:
        mean: Per-channel RGB mean, in [0, 1].
        std: Per-channel RGB standard deviation, above 0.
    """

    mean: Tensor  # a class, which TorchScript needs: without `from __future__ import annotations`
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to the same shape."""
        return (images - self.mean) / self.std


class NormalizingBackbone(Backbone):
    """Backbone that normalizes its images before the first stage.

    Args:
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode normalized images, as `Backbone.forward`."""
        return super().forward(images)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images, as `Backbone.forward`."""
        return self.encode(self.normalize(images))


def dilate(stage: nn.Module, sampling: StageSampling) -> None:
    """Replace the stride of a stage by dilation of its convolutions, in place.

    The result is that of torchvision's `replace_stride_with_dilation`. Convolutions with even
    kernels get no padding; the network has to pad.
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
    """Replace the named layers, if any, by ParC, as `parcnet_train.parcify` does, in place."""
    if layers:
        size = (meta_size, meta_size) if isinstance(meta_size, int) else meta_size
        replace(network, plan(network, layers, size, position_embeddings), algorithm)
