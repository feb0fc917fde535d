"""`bake`: rewrite a network for one image size, as plain convolutions.

Every step is exact, and its weights are computed in float64:

- ParC's kernels and position embeddings are resized to the feature maps of that size.
- A circular convolution over all L positions equals a convolution with zero padding whose kernel
  contains every tap but one twice: of its 2L - 1 taps, L meet pixels at every position, in the
  right order.
- Convolutions along the height and along the width commute, and the embeddings between them add a
  constant map to the output. Both halves of a mixer therefore run along the width, then along the
  height, and the channels are not split.
- A BatchNorm after a convolution is folded into it. So is one before ParC or before a 1x1
  convolution: padding does not prevent it, since every tap of a circular convolution meets a pixel.
- Parallel branches of timm's networks (RepViT, FastViT) become one convolution, which timm does.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parcnet_train.deploy.bake.blocks import (
    FixedBlock,
    FixedHalves,
    FixedMixer,
    along_height,
    along_width,
    along_wrapped_width,
    convolution,
    spread,
)
from parcnet_train.deploy.bake.folding import (
    affine_of,
    empty_image,
    fold_batch_norms,
    fold_norm_before,
)
from parcnet_train.deploy.bake.heads import FixedModel, FixedSSDLite, bake_deeplab
from parcnet_train.deploy.bake.transformer import FixedMobileViTStage
from parcnet_train.models.backbones.mobilevit import MobileViTStage
from parcnet_train.models.backbones.parcnet import (
    Axes,
    MetaFormerBlock,
    Mixer,
    ParCStage,
)
from parcnet_train.models.backbones.pvt import PatchEmbedding
from parcnet_train.models.backbones.t2t_vit import Transformer
from parcnet_train.models.heads.deeplabv3 import DeepLabV3
from parcnet_train.models.heads.ssdlite import SSDLite
from parcnet_train.models.layers.circular import HEIGHT, WIDTH
from parcnet_train.models.layers.parc import (
    CircularConv,
    OversizedConv,
    ParallelParC,
    along,
    fit_length,
)
from parcnet_train.models.model import Model

Size = tuple[int, int]
FLAT = 1e-12  # a map whose range, relative to its largest value, is at most this becomes a bias


def bake(model: nn.Module, size: Size) -> nn.Module:
    """Copy a network and rewrite the copy for one image size; its outputs stay the same.

    Args:
        model: Network with any backbone that takes `(B, 3, *size)` images; it is not changed.
        size: Height and width of the images, in pixels.

    Returns:
        The copy, in evaluation mode and of the same dtype. It has no BatchNorm before or after a
        convolution, and no parameter that is resized. The batch size remains free. For images of
        another size, the results are undefined.
    """
    baked = copy.deepcopy(model).eval().requires_grad_(False)
    fuse_branches(baked)
    for name, map_size in sizes_of_maps(baked, size).items():
        part: Any = baked.get_submodule(name)
        baked.set_submodule(name, BAKERS[type(part)](part, map_size))
    fold_batch_norms(baked, size, (FixedMixer, FixedHalves))
    for name, module in list(baked.named_modules()):
        if isinstance(module, MetaFormerBlock):
            baked.set_submodule(name, FixedBlock(module))
        elif isinstance(module, ParCStage):
            bake_stage(module)
    fixed = FixedModel(baked, size) if isinstance(baked, Model) else baked
    return fixed.eval()  # new parts are in training mode, and exporters read the outermost one


def fuse_branches(network: nn.Module) -> None:
    """Fuse the parallel branches and the classifiers of timm's networks, in place."""
    if is_of_timm(network) or any(map(is_of_timm, network.children())):
        fuse = importlib.import_module("timm.utils.model").reparameterize_model
        dtype = next(network.parameters()).dtype
        # The new layers are trainable, and of the default dtype.
        fuse(network, inplace=True).to(dtype).requires_grad_(False)
        return
    for module in network.children():
        fuse_branches(module)


def is_of_timm(module: nn.Module) -> bool:
    """Return whether timm defines the class of a module."""
    return type(module).__module__.startswith("timm.")


def sizes_of_maps(model: nn.Module, size: Size) -> dict[str, Size | list[Size]]:
    """Return the feature map size of every part that depends on it, found on the meta device."""
    twin = copy.deepcopy(model).to("meta")
    seen: dict[str, Size | list[Size]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            maps = inputs[0]
            seen[name] = size_of(maps) if isinstance(maps, Tensor) else [*map(size_of, maps)]

        module.register_forward_hook(note)

    for name, module in twin.named_modules():
        if type(module) in BAKERS:
            watch(name, module)
    with torch.no_grad():
        twin(empty_image(twin, size))
    return seen


def size_of(x: Tensor) -> Size:
    """Return the height and width of a `(B, C, H, W)` tensor."""
    return x.shape[2], x.shape[3]


def bake_stage(stage: ParCStage) -> None:
    """Fold the norm after a stage's blocks, and make the convolution before them depthwise."""
    *_, norm = stage.blocks
    fold_norm_before(stage.project.conv, affine_of(norm))
    stage.blocks[-1] = nn.Identity()
    first: Any
    mix: Any
    first, mix = stage.local
    if first.conv.in_channels == first.conv.groups < first.conv.out_channels:
        stage.local = spread(first.conv, first.act, mix)


def bake_mixer(mixer: Mixer, size: Size) -> FixedMixer:
    """Rewrite a mixer of ParC-Net for one feature map size."""
    first, second = mixer.height_first, mixer.width_first
    height = torch.cat([scaled_kernel(first, size), kernel_of(second.second, size)])
    width = torch.cat([kernel_of(first.second, size), scaled_kernel(second, size)])
    constant = response_to_zeros(mixer, len(height), size)
    if isinstance(first.first, CircularConv):
        return circular_mixer(width, height, constant, first.first.weight.dtype)
    dtype = next(mixer.parameters()).dtype
    # Other mixers use zero padding: the ablations BK of Table 2, with kernels shorter than the map,
    # and oversized ones, which have been rewritten as plain convolutions before.
    rows, columns = height.shape[HEIGHT] // 2, width.shape[WIDTH] // 2
    return FixedMixer(
        convolution(width.to(dtype), None, len(width), (0, columns)),
        convolution(height.to(dtype), None, len(height), (rows, 0)),
        constant.to(dtype),
        size,
    )


def circular_mixer(
    width: Tensor, height: Tensor, constant: Tensor, dtype: torch.dtype
) -> FixedMixer:
    """Build a mixer from depthwise circular kernels `(C, 1, 1, W)` and `(C, 1, H, 1)`, float64."""
    bias, remainder = split_constant(constant, dtype)
    return FixedMixer(
        along_wrapped_width(width.to(dtype)),
        along_height(height.to(dtype), bias, len(height)),
        remainder,
        (height.shape[HEIGHT], width.shape[WIDTH]),
    )


def bake_parallel(parc: ParallelParC, size: Size) -> nn.Module:
    """Rewrite a ParC plug-in for one feature map size."""
    layers = parc.height[1], parc.width[1]
    assert isinstance(layers[0], CircularConv)  # for the type checker
    height, width = (kernel_of(layer, size) for layer in layers)
    half, groups, dtype = len(height), layers[0].groups, layers[0].weight.dtype
    constant = response_to_zeros(parc, 2 * half, size)
    if groups == half:
        # A unit kernel along the other axis leaves each half as it is, which costs less than
        # splitting the channels.
        height = torch.cat([height, unit_kernel(half, HEIGHT, size[0])])
        width = torch.cat([unit_kernel(half, WIDTH, size[1]), width])
        return circular_mixer(width, height, constant, dtype)
    bias, remainder = split_constant(constant, dtype)
    first, second = (None, None) if bias is None else bias.chunk(2)
    return FixedHalves(
        along_height(height.to(dtype), first, groups),
        along_width(width.to(dtype), second, groups),
        remainder,
    )


def unit_kernel(channels: int, axis: int, length: int) -> Tensor:
    """Return the kernel of the identity, float64."""
    kernel = torch.zeros(channels, 1, *along(axis, length), dtype=torch.float64)
    kernel[:, :, 0, 0] = 1
    return kernel


def kernel_of(layer: nn.Module, size: Size) -> Tensor:
    """Return the kernel of a convolution along one axis, resized to the feature map, float64."""
    if isinstance(layer, CircularConv):
        kernel = fit_length(layer.weight, layer.axis, size[layer.axis - HEIGHT], layer.resize)
        return kernel.detach().double()
    assert isinstance(layer, nn.Conv2d)  # for the type checker
    return layer.weight.detach().double()


def scaled_kernel(axes: Axes, size: Size) -> Tensor:
    """Return the first kernel of one half, scaled by the norm before it, float64."""
    kernel = kernel_of(axes.first, size)
    if isinstance(axes.norm, nn.Identity):
        return kernel
    scale, _ = affine_of(axes.norm)
    return kernel * scale.view(-1, 1, 1, 1)


def bake_oversized(layer: OversizedConv, size: Size) -> nn.Module:
    """Rewrite an oversized convolution for one feature map size."""
    length = size[layer.axis - HEIGHT]
    wide = copy.deepcopy(layer).double()
    kernel = wide.kernel(length).detach().to(layer.weight.dtype)
    padding = (length - 1, 0) if layer.axis == HEIGHT else (0, length - 1)
    return convolution(kernel, None, len(kernel), padding)


def bake_patches(embedding: PatchEmbedding, size: Size) -> PatchEmbedding:
    """Interpolate the position embeddings of a patch embedding, given its feature map size."""
    meta = torch.empty(1, embedding.projection.in_channels, *size, device="meta")
    wide = copy.deepcopy(embedding).double()
    _, grid = copy.deepcopy(embedding).to("meta", torch.float32)(meta)
    positions = wide.positions(grid).to(embedding.position.dtype)
    embedding.position = nn.Parameter(positions, requires_grad=False)
    embedding.grid = grid
    return embedding


def bake_transformer(part: Transformer, size: Size) -> Transformer:
    """Interpolate the positions of a T2T-ViT, given the size of its input map."""
    _, grid = part.split(torch.empty(1, 1, *size, device="meta"))
    part.positions = copy.deepcopy(part).double().positions_of(grid).to(part.positions.dtype)
    part.grid = grid
    return part


def response_to_zeros(mixer: nn.Module, channels: int, size: Size) -> Tensor:
    """Return what embeddings, norms and biases add to the output, `(1, C, H, W)` float64.

    This is the output for zeros, since everything else in a mixer is linear.
    """
    wide: Any = copy.deepcopy(mixer).double()
    with torch.no_grad():
        return wide(torch.zeros(1, channels, *size, dtype=torch.float64))


def split_constant(constant: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """Return a constant map as a bias `(C,)` if it is equal at all positions, else as a map."""
    largest = constant.abs().max()
    if (constant.amax((2, 3)) - constant.amin((2, 3))).max() > FLAT * largest:
        return None, constant.to(dtype)
    return (constant[0, :, 0, 0].to(dtype) if largest > 0 else None), None


# Modules that depend on the feature map size, with the function or class that replaces them.
BAKERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Mixer: bake_mixer,
    ParallelParC: bake_parallel,
    OversizedConv: bake_oversized,
    PatchEmbedding: bake_patches,
    Transformer: bake_transformer,
    MobileViTStage: FixedMobileViTStage,
    SSDLite: FixedSSDLite,
    DeepLabV3: bake_deeplab,
}
