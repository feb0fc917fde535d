"""`parcify`: ParC in place of convolutions of any network (section 4.5 of the ParC-Net paper)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from parcnet_train.errors import ConfigError, first_line
from parcnet_train.models.layers.circular import Algorithm
from parcnet_train.models.layers.parc import ParallelParC
from parcnet_train.models.profiling.counts import Counts, counts, on_meta

Size = tuple[int, int]


@dataclass(frozen=True)
class Replacement:
    """A convolution that ParC replaces.

    Attributes:
        name: Name of the layer within the model.
        channels: Number of channels of its input and its output.
        groups: Number of groups of the convolution: 1 is dense, as many as channels is depthwise.
        size: Meta height and width of ParC, in feature pixels.
        position_embedding: Whether ParC has position embeddings.
    """

    name: str
    channels: int
    groups: int
    size: Size
    position_embedding: bool

    def __str__(self) -> str:
        """Return a description of one line."""
        kinds = {1: "dense", self.channels: "depthwise"}
        kind = kinds.get(self.groups, f"{self.groups} groups")
        embedding = "" if self.position_embedding else "no "
        height, width = self.size
        return (
            f"{self.name}: {self.channels} channels, {kind}, meta size {height}x{width}, "
            f"{embedding}position embedding"
        )


@dataclass(frozen=True)
class Report:
    """The changes that `parcify` made to a model.

    Attributes:
        image_size: Height and width of the image for which meta sizes and multiply-adds hold.
        layers: Replaced convolutions, in the order of the model.
        before: Parameters and multiply-adds of the original model.
        after: Parameters and multiply-adds of the changed model.
    """

    image_size: Size
    layers: tuple[Replacement, ...]
    before: Counts
    after: Counts

    def __str__(self) -> str:
        """Return a readable description of a few lines."""
        height, width = self.image_size
        return "\n".join(
            [
                f"ParC in {len(self.layers)} layers, for images of {height}x{width} pixels",
                *(f"  {layer}" for layer in self.layers),
                f"parameters     {self.before.parameters:,} -> {self.after.parameters:,}",
                f"multiply-adds  {self.before.multiply_adds:,} -> {self.after.multiply_adds:,}",
            ]
        )


def parcify(
    model: nn.Module,
    layers: str | Sequence[str],
    image_size: int | Size = 224,
    position_embeddings: bool | str | Sequence[str] = True,
    algorithm: Algorithm = "auto",
) -> Report:
    """Replace convolutions of stride 1 by ParC, in place; all other weights stay as they are.

    ParC is depthwise if the convolution is depthwise, and dense if it is dense. ParC starts from
    random weights, so the model has to be trained further. If an argument is invalid, the model is
    unchanged.

    Args:
        model: Network that takes images `(B, 3, H, W)`, of torchvision or timm for example.
        layers: Names of its convolutions, as in `model.named_modules()`. The wildcards `*`, `?` and
            `[...]` match as in a shell, dots included.
        image_size: Image size that the model is made for, in pixels: one number, or height and
            width. Kernels and embeddings have the size of the feature maps of such an image, and
            are resized for other sizes.
        position_embeddings: Layers with position embeddings: all of these layers (true), none
            (false), or the named ones.
        algorithm: Algorithm of depthwise ParC, see
            `parcnet_train.models.layers.circular.circular_conv`.

    Returns:
        The replaced layers, and parameters and multiply-adds before and after, as a printable
        report.

    Raises:
        ConfigError: If a name matches nothing, a layer cannot be replaced, or the model does not
            run at the image size.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    planned = plan(model, layers, size, position_embeddings)
    before = counts(model, size)
    replace(model, planned, algorithm)
    return Report(size, planned, before, counts(model, size))


def plan(
    model: nn.Module,
    layers: str | Sequence[str],
    image_size: Size,
    position_embeddings: bool | str | Sequence[str] = True,
) -> tuple[Replacement, ...]:
    """Return the replacements that `parcify` would make; same arguments and errors, no changes."""
    convolutions = find_convolutions(model, patterns_of(layers))
    embedded = find_embedded(list(convolutions), position_embeddings)
    sizes = map_sizes(model, list(convolutions), image_size)
    return tuple(
        Replacement(name, layer.in_channels, layer.groups, sizes[name], name in embedded)
        for name, layer in convolutions.items()
    )


def replace(
    model: nn.Module, planned: Iterable[Replacement], algorithm: Algorithm = "auto"
) -> None:
    """Replace the planned layers by ParC, on the same device and with the same dtype."""
    for each in planned:
        old = model.get_submodule(each.name)
        parc = ParallelParC(
            each.channels, each.size, each.groups, each.position_embedding, algorithm
        )
        weight = old.weight
        assert isinstance(weight, Tensor)  # for the type checker
        parc.to(weight.device, weight.dtype).train(old.training)
        # A layer that the model uses under several names stays one layer.
        for name, module in list(model.named_modules(remove_duplicate=False)):
            if module is old:
                model.set_submodule(name, parc)


def patterns_of(names: str | Sequence[str]) -> Sequence[str]:
    """Return a single name as a list of one, and several names unchanged."""
    return [names] if isinstance(names, str) else names


def find_convolutions(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Conv2d]:
    """Return the convolutions that match names and patterns, in the order of the model.

    Raises:
        ConfigError: If a pattern matches nothing, or matches a layer that ParC cannot replace.
    """
    # A shared layer may be given by any of its names.
    modules = {name: layer for name, layer in model.named_modules(remove_duplicate=False) if name}
    every = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    if not patterns:
        raise ConfigError(
            f"ParC layers: the list is empty; expected names of convolutions, such as {every[-1:]}"
        )
    found: set[nn.Conv2d] = set()
    for pattern in patterns:
        exact = [pattern] if pattern in modules else []
        names = exact or [name for name in every if fnmatchcase(name, pattern)]
        if not names:
            near = difflib.get_close_matches(pattern, every, n=3)
            raise ConfigError(
                f"ParC layer {pattern}: {type(model).__name__} has no such convolution"
                + (f"; nearest: {', '.join(near)}" if near else "")
            )
        for name in names:
            layer = modules[name]
            if fault := fault_of(layer):
                raise ConfigError(f"ParC layer {name}: {fault}")
            assert isinstance(layer, nn.Conv2d)  # for the type checker
            found.add(layer)
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and layer in found
    }


def fault_of(layer: nn.Module) -> str | None:
    """Return the reason why ParC cannot replace a layer; None if it can."""
    if not isinstance(layer, nn.Conv2d):
        return f"this layer is a {type(layer).__name__}; expected a Conv2d"
    channels = layer.in_channels
    if layer.stride != (1, 1):
        return f"it has stride {layer.stride[0]}; expected 1, since ParC keeps the map's size"
    if layer.out_channels != channels:
        return f"it maps {channels} channels to {layer.out_channels}; expected equal numbers"
    if layer.kernel_size == (1, 1):
        return "it has 1x1 kernels; expected larger ones, since ParC mixes positions"
    if channels % 2:
        return f"it has {channels} channels; expected an even number, since ParC halves them"
    if layer.groups % 2 and layer.groups > 1:
        return f"it has {layer.groups} groups; expected 1 or an even number, since ParC halves them"
    return None


def find_embedded(names: Sequence[str], wanted: bool | str | Sequence[str]) -> set[str]:
    """Return the layers that get position embeddings.

    Raises:
        ConfigError: If a name matches none of the layers.
    """
    if isinstance(wanted, bool):
        return set(names) if wanted else set()
    found: set[str] = set()
    for pattern in patterns_of(wanted):
        matching = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not matching:
            raise ConfigError(
                f"position embedding of {pattern}: no ParC layer has this name; expected one of "
                f"{', '.join(names)}"
            )
        found |= matching
    return found


def map_sizes(model: nn.Module, names: Sequence[str], image_size: Size) -> dict[str, Size]:
    """Return the feature map size of each layer, found in one forward pass on the meta device.

    Raises:
        ConfigError: If the model does not run at that size, or a layer sees maps of several sizes.
    """
    twin = on_meta(model)
    seen: dict[str, set[Size]] = {name: set() for name in names}

    def watch(name: str) -> None:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] |= {(x.shape[2], x.shape[3]) for x in (inputs[0], output)}

        twin.get_submodule(name).register_forward_hook(note)

    for name in names:
        watch(name)
    try:
        with torch.no_grad():
            twin(torch.empty(1, 3, *image_size, device="meta"))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        height, width = image_size
        reason = first_line(error)
        raise ConfigError(
            f"ParC: {type(model).__name__} does not run on images of {height}x{width}: {reason}"
        ) from error
    for name, sizes in seen.items():
        if len(sizes) != 1:
            raise ConfigError(
                f"ParC layer {name}: its feature maps have {len(sizes)} sizes in one forward pass; "
                "expected a single size, the same before and after the layer"
            )
    return {name: next(iter(sizes)) for name, sizes in seen.items()}
