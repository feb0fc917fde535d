"""What networks of other libraries have in common: images, stages and their own classifiers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.adapt import Normalize
from parcnet_train.models.base import Backbone

NETWORK = "network."  # prefix of the library's names in our state dicts
WRAPPED = "model."  # prefix that timm adds for the feature maps of some networks


class LibraryNetwork(Backbone):
    """A network of another library, with the levels and output strides that it has there.

    Attributes:
        network: Network of the library; its parameters keep their names.
        normalize: Normalization of the images, as the library does it.
        published_size: Height and width of the images that the network was published for.
        native: Whether the network is whole, except for its classifier, and returns the vector that
            the classifier takes.
        classifier_names: Names of the classifiers in the library's network, if it is native.
    """

    brings_classifier: ClassVar[bool] = True
    network: nn.Module
    normalize: Normalize
    published_size: tuple[int, int]
    native: bool
    classifier_names: tuple[str, ...]

    def adopt(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Rename the entries of a state dict of the library's whole network.

        Args:
            state: State dict, with or without the classifier.

        Returns:
            The entries by the names of this backbone, and those of the classifier by the names of
            `classifier`. Layers that this backbone lacks are left out unless it is `native`.
        """
        if not self.native:
            # Networks that return feature maps have the same modules under flat or longer names.
            ours = {flat(name): name for name in self.network.state_dict()}
            found = {ours[flat(name)]: name for name in state if flat(name) in ours}
            return {f"{NETWORK}{name}": state[theirs] for name, theirs in found.items()}, {}
        own, classifier = {}, {}
        for name, value in state.items():
            part = next((each for each in self.classifier_names if name.startswith(f"{each}.")), "")
            if not part:
                own[f"{NETWORK}{name}"] = value
                continue
            rest = name.removeprefix(f"{part}.")
            is_only = len(self.classifier_names) == 1
            classifier[rest if is_only else f"{registered(part)}.{rest}"] = value
        return own, classifier

    def library_state(self) -> dict[str, Tensor]:
        """Return the state dict that the library publishes for this network, from its cache.

        Raises:
            CheckpointError: If it has none, or cannot load it.
        """
        raise NotImplementedError

    def has_library_weights(self) -> bool:
        """Return whether the library publishes weights of this network."""
        raise NotImplementedError

    def preprocessing(self) -> str:
        """Describe the images that the library's weights expect."""
        raise NotImplementedError

    def described(self) -> str:
        """Return the library and the name of the network."""
        raise NotImplementedError

    def stage_parameters(self) -> list[list[nn.Parameter]]:
        """Return, per level, the parameters that its map is the first to depend on.

        Networks of libraries are structured in many ways, so the dependencies are found by
        gradients without values.
        """
        if len(self.levels) == 1:
            return [list(self.parameters())]
        twin = copy.deepcopy(self).to("meta").requires_grad_(True).eval()
        with torch.enable_grad():
            maps = twin(torch.empty(1, self.in_channels, *self.published_size, device="meta"))
        owners = list(self.parameters())
        first = dict.fromkeys(owners, len(maps) - 1)  # parameters without a map join the last one
        for number in reversed(range(len(maps))):
            gradients = torch.autograd.grad(
                maps[number].sum(), list(twin.parameters()), retain_graph=True, allow_unused=True
            )
            pairs = zip(owners, gradients, strict=True)
            first.update((owner, number) for owner, gradient in pairs if gradient is not None)
        return [[each for each in owners if first[each] == n] for n in range(len(maps))]


class Collect(nn.Module):
    """Stands in for one of several classifiers whose logits the network averages.

    It passes the input on, so that the average is the concatenation of the inputs of all of them.

    Args:
        index: Number of the classifier, from 0.
        count: Number of classifiers.
    """

    def __init__(self, index: int, count: int) -> None:
        super().__init__()
        self.index, self.count = index, count

    def forward(self, vector: Tensor) -> Tensor:
        """Map `(B, C)` to `(B, count * C)`."""
        channels = vector.shape[-1]
        before, after = self.index * channels, (self.count - 1 - self.index) * channels
        return functional.pad(vector * self.count, (before, after))


class Averaged(nn.Module):
    """Several classifiers, each on its share of a vector, whose logits are averaged.

    Args:
        classifiers: Classifiers by the names that they have in their network.
    """

    def __init__(self, classifiers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, classifier in classifiers.items():
            self.add_module(registered(name), classifier)

    def forward(self, vector: Tensor) -> Tensor:
        """Map `(B, count * C)` to logits `(B, num_classes)`."""
        classifiers = list(self.children())
        parts = vector.chunk(len(classifiers), dim=-1)
        logits = [each(part) for each, part in zip(classifiers, parts, strict=True)]
        return torch.stack(logits).mean(dim=0)


def flat(name: str) -> str:
    """Return what the names of one entry have in common, with feature maps and without."""
    return name.removeprefix(WRAPPED).replace(".", "_")


def registered(name: str) -> str:
    """Return the name of a classifier among several."""
    return name.replace(".", "_")


def remove_classifiers(network: nn.Module, names: Sequence[str]) -> None:
    """Replace the classifiers of a network, in place, so that it returns their inputs."""
    for index, name in enumerate(names):
        stand_in = nn.Identity() if len(names) == 1 else Collect(index, len(names))
        network.set_submodule(name, stand_in)


def joined(classifiers: Mapping[str, nn.Module]) -> nn.Module:
    """Return one classifier: the only one, or several averaged."""
    return next(iter(classifiers.values())) if len(classifiers) == 1 else Averaged(classifiers)


def options_in_words(options: Mapping[str, Any]) -> str:
    """Return options as they are typed."""
    return "{" + ", ".join(f"{name}: {value}" for name, value in options.items()) + "}"


def refuse_options(options: Mapping[str, Any], reserved: Mapping[str, str]) -> None:
    """Refuse options that this package sets.

    Args:
        options: Value of `backbone.options`.
        reserved: Names of such options, each with what to do instead.

    Raises:
        ConfigError: If there are any.
    """
    for name, way_out in reserved.items():
        if name in options:
            raise ConfigError(
                f"backbone.options.{name}={options[name]}: this package sets it. Fix: {way_out}",
                f"backbone.options.{name}",
            )
