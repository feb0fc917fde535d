"""What a network costs, by arithmetic alone: nothing is computed, on no device.

`counts` is for any network, `profile` splits a backbone and its head into their stages.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from parcnet_train.meter import Meter, tensors_of
from parcnet_train.model import Model
from parcnet_train.parc import CircularConv

Shape = tuple[int, ...]


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


@dataclass(frozen=True)
class Stage(Counts):
    """A part of a network, within an inference of the whole in float32.

    Attributes:
        name: of the part.
        output_shapes: of the tensors that it returns, the batch first.
        activations: elements of all outputs of convolutions and linear layers (arXiv 2003.13678).
        peak_memory_bytes: the most that tensors hold at one moment while the part runs: images,
            maps that earlier stages left for the head, results, and what lies between. Weights
            and buffers are left out, and so is the workspace of kernels. A circular convolution
            holds its wrapped input, attention its matrix of weights.
    """

    name: str
    output_shapes: tuple[Shape, ...]
    activations: int
    peak_memory_bytes: int | None


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


def profile(model: Model, size: tuple[int, int], batch_size: int = 1) -> list[Stage]:
    """Runs a batch of shapes through a network, and notes what its parts cost.

    Args:
        model: is left as it is.
        size: height and width of the images, in pixels.
        batch_size: images that all but the parameters is counted of.

    Returns:
        The parts in the order in which they end; `rest`, where any work or parameter belongs to
        none of them; and the whole, `total`.
    """
    model = on_meta(model)
    images = torch.empty(batch_size, 3, *size, device="meta")
    meter = Meter([*model.parameters(), *model.buffers()], images)
    stages: list[Stage] = []
    watch("total", model, meter, stages)
    for name, part in parts_of(model).items():
        watch(name, part, meter, stages)
    with torch.no_grad(), meter.counter, meter:
        model(images)
    *parts, total = stages
    return [*parts, *rest_of(parts, total), total]


def watch(name: str, module: nn.Module, meter: Meter, stages: list[Stage]) -> None:
    """Makes a module append its `Stage` to a list whenever it ran."""

    def start(*_: object) -> None:
        meter.start()

    def end(module: nn.Module, _: object, output: object) -> None:
        multiply_adds, activations, peak = meter.end()
        shapes = tuple(tuple(tensor.shape) for tensor in tensors_of(output))
        parameters = count_parameters(module)
        stages.append(Stage(parameters, multiply_adds, name, shapes, activations, peak))

    module.register_forward_pre_hook(start)
    module.register_forward_hook(end)


def rest_of(parts: Sequence[Stage], total: Stage) -> Iterator[Stage]:
    """What no part accounts for, if anything; when it held most is not known."""
    parameters, multiply_adds, activations = (
        getattr(total, name) - sum(getattr(part, name) for part in parts)
        for name in ("parameters", "multiply_adds", "activations")
    )
    if parameters or multiply_adds or activations:
        yield Stage(parameters, multiply_adds, "rest", (), activations, None)


def parts_of(model: Model) -> dict[str, nn.Module]:
    """The backbone's stages by number, and the head.

    A backbone without `stages` has its children that learn instead, or those of the one network
    that it wraps.
    """
    stages = getattr(model.backbone, "stages", None)
    if stages is not None:
        parts = {str(number): stage for number, stage in enumerate(stages, 1)}
    else:
        children = model.backbone.named_children()
        parts = {name: child for name, child in children if count_parameters(child)}
        if len(parts) == 1:
            (network,) = parts.values()
            parts = dict(network.named_children())
    return {**parts, "head": model.head}


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters, shared ones once."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def on_meta(network: nn.Module) -> Any:
    """A copy for inference, float32, that has shapes and no values."""
    network = copy.deepcopy(network).to("meta", torch.float32).eval()
    for module in network.modules():
        if isinstance(module, CircularConv):
            module.algorithm = "convolution"
    return network
