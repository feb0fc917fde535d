"""Parameters, multiply-adds and memory of a network, found without computing anything.

`counts` accepts any network, `profile` splits a model into its stages.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from parcnet_train.models.base import channels_of
from parcnet_train.models.layers.parc import CircularConv
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.meter import Meter, tensors_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Counts:
    """The size of a network and the cost of one inference.

    Attributes:
        parameters: Number of trainable parameters; shared ones count once.
        multiply_adds: Number of multiply-adds of convolutions, linear layers and other matrix
            products, attention included. Norms, activations, pooling and resizing do not count, as
            usual in papers.
    """

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Stage(Counts):
    """The cost of a part of a network, during an inference of the whole network in float32.

    Attributes:
        name: Name of the part.
        output_shapes: Shapes of the tensors that the part returns in all its runs, batch first.
        activations: Number of elements of all outputs of convolutions and linear layers (arXiv
            2003.13678).
        peak_memory_bytes: Largest memory of all tensors at one moment while the part runs: images,
            maps that earlier stages left for the head, results and intermediate tensors. Weights,
            buffers and the workspace of kernels do not count. A circular convolution holds its
            wrapped input, attention its matrix of weights.
    """

    name: str
    output_shapes: tuple[Shape, ...]
    activations: int
    peak_memory_bytes: int | None


def counts(network: nn.Module, size: tuple[int, int]) -> Counts:
    """Count the parameters of a network, and the multiply-adds of one image.

    A circular convolution counts by its definition, whatever algorithm computes it.

    Args:
        network: Module that takes float images `(B, C, H, W)`; it is not changed.
        size: Height and width of the image, in pixels.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        on_meta(network)(torch.empty(1, channels_of(network), *size, device="meta"))
    # torch counts a multiply-add as two operations.
    return Counts(count_parameters(network), counter.get_total_flops() // 2)


def profile(model: Model, size: tuple[int, int], batch_size: int = 1) -> list[Stage]:
    """Run a network on the meta device, and record the cost of each part.

    Args:
        model: Model to measure; it is not changed.
        size: Height and width of the images, in pixels.
        batch_size: Number of images, on which everything except the parameters depends.

    Returns:
        The parts in the order in which they end; `rest`, if any operation or parameter belongs to
        none of them; and the whole, `total`.
    """
    model = on_meta(model)
    images = torch.empty(batch_size, channels_of(model), *size, device="meta")
    parts = parts_of(model, images)
    meter = Meter([*model.parameters(), *model.buffers()], images)
    stages: dict[str, Stage] = {}
    watch("total", model, meter, stages, set())
    counted: set[Tensor] = set()
    for name, part in parts.items():
        watch(name, part, meter, stages, counted)
    with torch.no_grad(), meter.counter, meter:
        model(images)
    *noted, total = stages.values()
    return [*noted, *rest_of(noted, total), total]


def watch(
    name: str, module: nn.Module, meter: Meter, stages: dict[str, Stage], counted: set[Tensor]
) -> None:
    """Register hooks that record the cost of a module; a run within another part counts there.

    Args:
        name: Name of the part.
        module: Module of the part.
        meter: Meter that counts.
        stages: Results by name, to which the part is added; several runs of it are summed.
        counted: Parameters that earlier parts account for; those of this part are added when it
            runs.
    """

    def start(*_: object) -> None:
        meter.start()

    def end(module: nn.Module, _: object, output: object) -> None:
        multiply_adds, activations, peak = meter.end()
        if len(meter.started) > 1:
            return
        shapes = tuple(tuple(tensor.shape) for tensor in tensors_of(output))
        own = {p for p in module.parameters() if p.requires_grad} - counted
        counted.update(own)
        stage = Stage(sum(p.numel() for p in own), multiply_adds, name, shapes, activations, peak)
        stages[name] = joined(stages[name], stage) if name in stages else stage

    module.register_forward_pre_hook(start)
    module.register_forward_hook(end)


def joined(first: Stage, second: Stage) -> Stage:
    """Combine two runs of a part."""
    peaks = (run.peak_memory_bytes for run in (first, second))
    return Stage(
        first.parameters + second.parameters,
        first.multiply_adds + second.multiply_adds,
        first.name,
        first.output_shapes + second.output_shapes,
        first.activations + second.activations,
        max(peak for peak in peaks if peak is not None),
    )


def rest_of(parts: Sequence[Stage], total: Stage) -> Iterator[Stage]:
    """Yield the cost that no part accounts for, if any; its peak memory is unknown."""
    parameters, multiply_adds, activations = (
        getattr(total, name) - sum(getattr(part, name) for part in parts)
        for name in ("parameters", "multiply_adds", "activations")
    )
    if parameters or multiply_adds or activations:
        yield Stage(parameters, multiply_adds, "rest", (), activations, None)


def parts_of(model: Model, images: Tensor) -> dict[str, nn.Module]:
    """Return the head and the backbone's numbered stages, or its children if it has no stages."""
    stages = getattr(model.backbone, "stages", None)
    if stages is None:
        parts = dict(children_of(model.backbone, modules_that_run(model, images)))
    else:
        parts = {str(number): stage for number, stage in enumerate(stages, 1)}
    return {**parts, "head": model.head}


def modules_that_run(model: Model, images: Tensor) -> set[nn.Module]:
    """Return the modules that are called; containers whose children are called are left out."""
    ran: set[nn.Module] = set()
    handles = [
        module.register_forward_hook(lambda module, _, __: ran.add(module))
        for module in model.modules()
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return ran


def children_of(module: nn.Module, ran: Container[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the child modules with their names.

    A child that is not called itself is replaced by its own children, such as `blocks.0`. So is a
    child that wraps the whole network, with all its parameters, but its name is left out.
    """
    for name, child in module.named_children():
        if list(child.children()) and count_parameters(child) == count_parameters(module):
            yield from children_of(child, ran)
        elif child in ran:
            yield name, child
        else:
            yield from ((f"{name}.{inner}", part) for inner, part in children_of(child, ran))


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters; shared ones count once."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def on_meta(network: nn.Module) -> Any:
    """Return a copy for inference in float32, which has shapes but no values."""
    network = copy.deepcopy(network).to("meta", torch.float32).eval()
    for module in network.modules():
        if isinstance(module, CircularConv):
            module.algorithm = "convolution"
    return network
