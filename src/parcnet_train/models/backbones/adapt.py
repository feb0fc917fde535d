"""Tools that backbones share: normalization, dilation, insertion of ParC."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from parcnet_train.data.channels import RGB
from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.parcify import plan, replace
from parcnet_train.models.base import Backbone, StageSampling
from parcnet_train.models.layers.circular import Algorithm
from parcnet_train.models.layers.parc import CircularConv, PositionEmbedding, fit_length

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

    def adapt(self, channels: int) -> None:
        """Fit the normalization of RGB to images of another number of channels."""
        self.mean = for_channels(self.mean, channels)
        self.std = for_channels(self.std, channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
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


def adapt_input(backbone: Backbone, channels: int) -> None:
    """Let a backbone take images with another number of channels, in place.

    The first convolution gets new random weights of the same standard deviation. Means and standard
    deviations are repeated as timm repeats pretrained weights: channel 3 has those of channel 0,
    and so on; a single channel has their averages.

    Args:
        backbone: Backbone that takes RGB images, which only its first convolution reads.
        channels: Number of channels.

    Raises:
        ConfigError: If its first convolution does not read RGB images.
    """
    if channels == RGB:
        return
    backbone.in_channels = channels
    convolutions = (each for each in backbone.modules() if isinstance(each, nn.Conv2d))
    first = next(convolutions, None)
    if first is None or first.in_channels != RGB:
        raise ConfigError(
            f"data.channels={channels}: {type(backbone).__name__} has no convolution that reads "
            "the image; expected 3. Fix: data.channels=3, or another backbone",
            "data.channels",
        )
    weight = first.weight.detach()
    shape = (weight.shape[0], channels, *weight.shape[2:])
    first.in_channels = channels
    first.weight = nn.Parameter(torch.randn(shape, device=weight.device) * weight.std())
    for module in backbone.modules():
        if isinstance(module, Normalize):
            module.adapt(channels)


def adapted_weights(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Return a state dict that fits a backbone for other image channels or other meta lengths.

    Weights for RGB become those of another number of channels as in timm: the weights of a single
    channel are the sum over RGB, so that a gray image gives what it gave as RGB, apart from the
    averaged normalization of a backbone with `Normalize`. Those of more channels are repeated, and
    scaled by 3 / channels. Kernels and position embeddings of ParC are fitted to the backbone's
    meta lengths, as they would be to feature maps of these sizes; cropped ones cannot grow.

    Args:
        state: State dict of the backbone, for RGB or its own channels, of any meta lengths.
        backbone: Backbone that gets the weights.
    """
    own, channels, adapted = backbone.state_dict(), backbone.in_channels, dict(state)
    for name, weight in state.items():
        wanted = own[name].shape if name in own else weight.shape
        if weight.shape == wanted or weight.ndim != 4:
            continue
        if weight.shape[1] != RGB or wanted[1] != channels:
            continue
        repeated = weight.repeat(1, -(-channels // RGB), 1, 1)[:, :channels] * (RGB / channels)
        adapted[name] = weight.sum(1, keepdim=True) if channels == 1 else repeated
    for name, layer in backbone.named_modules():
        key = f"{name}.weight"
        if isinstance(layer, CircularConv | PositionEmbedding) and key in state:
            adapted[key] = with_length_of(state[key], layer)
    return adapted


def with_length_of(weight: Tensor, layer: CircularConv | PositionEmbedding) -> Tensor:
    """Return weights fitted to the meta length of a layer; unchanged if that is impossible."""
    axis, length = layer.axis, layer.weight.shape[layer.axis]
    if weight.ndim != 4 or (layer.resize == "crop" and weight.shape[axis] < length):
        return weight
    return fit_length(weight, axis, length, layer.resize)


def for_channels(values: Tensor, channels: int) -> Tensor:
    """Return the average of values `(3, 1, 1)` for one channel, otherwise their repetition."""
    if channels == 1:
        return values.mean(0, keepdim=True)
    return values.repeat(-(-channels // len(values)), 1, 1)[:channels]


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
