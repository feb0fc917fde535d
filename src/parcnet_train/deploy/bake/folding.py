"""Folding of every BatchNorm into the convolution before it.

A pair is a convolution whose output is read by a norm and by nothing else. The pairs are found by
running a copy of the network on the meta device, so networks of any library can be folded.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from parcnet_train.models.base import channels_of

# Scale and shift per channel, float64. `torch.nn.utils.fusion` does not give them: it only folds a
# norm into the convolution before it; ours also go into convolutions after it, and into circular
# convolutions, or are split between layers.
Affine = tuple[Tensor, Tensor]


def affine_of(norm: nn.Module) -> Affine:
    """Return scale and shift of a BatchNorm in evaluation mode, both `(C,)` float64.

    The norm computes `x * scale + shift`.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None  # for the type checker
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale = scale * norm.weight.double()
        shift = shift * norm.weight.double() + norm.bias.double()
    return scale.detach(), shift.detach()


def bias_of(layer: nn.Conv2d) -> Tensor:
    """Return the bias of a convolution, `(out_channels,)` float64; zeros if it has none."""
    if layer.bias is None:
        return layer.weight.new_zeros(layer.out_channels, dtype=torch.float64)
    return layer.bias.detach().double()


def set_weights(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Replace weight and bias of a convolution; its dtype stays."""
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def fold_norm_after(layer: nn.Conv2d, affine: Affine) -> None:
    """Fold a norm that follows a convolution into it."""
    scale, shift = affine
    weight = layer.weight.detach().double() * scale.view(-1, 1, 1, 1)
    set_weights(layer, weight, bias_of(layer) * scale + shift)


def fold_norm_before(layer: nn.Conv2d, affine: Affine) -> None:
    """Fold a norm that precedes a 1x1 convolution into it.

    This is exact because a 1x1 convolution has no padding: the shift reaches every pixel.
    """
    weight = layer.weight.detach().double()
    inputs, outputs = weight.shape[1], layer.out_channels // layer.groups
    # Each output channel reads only the input channels of its group.
    scale, shift = (
        each.view(layer.groups, 1, inputs).expand(-1, outputs, -1).reshape(-1, inputs, 1, 1)
        for each in affine
    )
    set_weights(layer, weight * scale, bias_of(layer) + (weight * shift).sum((1, 2, 3)))


class Pairs(TorchFunctionMode):
    """Record of which layers' outputs go into norms, and how often each output is read.

    The forward hooks that `made_by` returns register the outputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maker: Any = WeakIdKeyDictionary()  # maps an output to the name of its layer
        self.runs: Counter[str] = Counter()  # calls of each layer
        self.reads: Counter[str] = Counter()  # reads of each layer's outputs
        self.normed: dict[str, int] = {}  # maps a layer to the id of its norm's running mean

    def made_by(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        """Return the hook of a layer; if two layers return the same tensor, the outer one wins."""

        def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            self.maker[output] = name
            self.runs[name] += 1

        return note

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator and record what it reads."""
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        read = [self.maker[each] for each in tensors_in(args, kwargs) if each in self.maker]
        if (
            next(tensors_in((output,), {}), None) is not None
        ):  # a call without tensors only asked for a shape
            self.reads.update(read)
        if function is functional.batch_norm and read:
            self.normed[read[0]] = id(args[1])
        return output


def tensors_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors among some arguments, also those in lists and tuples."""
    for each in (*args, *kwargs.values()):
        for value in each if isinstance(each, list | tuple) else (each,):
            if isinstance(value, Tensor):
                yield value


def fold_batch_norms(
    model: nn.Module, size: tuple[int, int], foldable: tuple[type[nn.Module], ...] = ()
) -> None:
    """Fold every BatchNorm2d that follows a convolution, in place.

    Args:
        model: Network in evaluation mode.
        size: Height and width of an image that the network accepts, in pixels.
        foldable: Classes besides nn.Conv2d that a norm can be folded into; each has a method
            `fold_norm_after`.
    """
    twin, pairs = copy.deepcopy(model).to("meta"), Pairs()
    watched: tuple[type[nn.Module], ...] = (nn.Conv2d, *foldable)
    for name, module in twin.named_modules():
        if isinstance(module, watched):
            module.register_forward_hook(pairs.made_by(name))
    with torch.no_grad(), pairs:
        twin(empty_image(twin, size))
    norms = {
        id(norm.running_mean): name
        for name, norm in twin.named_modules()
        if isinstance(norm, nn.BatchNorm2d)
    }
    for name, mean in pairs.normed.items():
        if mean in norms and pairs.reads[name] == pairs.runs[name] == 1:
            layer: Any = model.get_submodule(name)
            norm = model.get_submodule(norms[mean])
            fold = fold_norm_after if isinstance(layer, nn.Conv2d) else type(layer).fold_norm_after
            fold(layer, affine_of(norm))
            model.set_submodule(norms[mean], remainder_of(norm))


def empty_image(twin: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return a batch of one image on the meta device."""
    return torch.empty(
        1, channels_of(twin), *size, device="meta", dtype=next(twin.parameters()).dtype
    )


def remainder_of(norm: nn.Module) -> nn.Module:
    """Return what remains of a folded norm: timm's norms contain an activation."""
    parts = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    return nn.Sequential(*parts) if parts else nn.Identity()
