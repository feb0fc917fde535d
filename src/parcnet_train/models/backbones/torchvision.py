"""Any classification network of torchvision."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.vision_transformer import ConvStemConfig

from parcnet_train.bounds import Positive
from parcnet_train.errors import CheckpointError, ConfigError, first_line
from parcnet_train.models.backbones.adapt import IMAGENET_MEAN, IMAGENET_STD, Normalize, Triple
from parcnet_train.models.backbones.library import (
    LibraryNetwork,
    joined,
    options_in_words,
    refuse_options,
    remove_classifiers,
)
from parcnet_train.models.base import Level, OutputStride
from parcnet_train.sizes import Size

# Options of torchvision that this package sets, each with what to do instead.
RESERVED = {
    "num_classes": "leave it out; the data have the number of classes",
    "progress": "leave it out",
    "replace_stride_with_dilation": "backbone.output_stride",
    "weights": "backbone.weights=library",
}
CLASSES = {"VisionTransformer": torchvision.models.VisionTransformer}  # beside `get_model`'s names
# Their auxiliary classifiers would change what they return in training.
DEFAULTS = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
SIZE = 224  # pixels of the images that networks are built for, unless an option says otherwise
SIZES = ("image_size", "input_size")  # options that do
STRIDES = (1, 2, 4, 8, 16, 32)


class Map(NamedTuple):
    """A feature map within a network.

    Attributes:
        name: Name of the module that returns it.
        level: Stride and channels.
        channels_last: Whether it is `(B, H, W, C)`.
    """

    name: str
    level: Level
    channels_last: bool


class Torchvision(LibraryNetwork):
    """A network of torchvision with random weights.

    Parameters are named `network.` followed by torchvision's name. Unless the network is `native`,
    its levels are the last maps of each stride that modules on the first two levels of its
    hierarchy return.

    Args:
        name: Name of the network, as in `torchvision.models.list_models(torchvision.models)`, or
            `VisionTransformer`, the class, whose arguments are all in `options`.
        output_stride: Stride of the last level, for the ResNets, which can replace stride by
            dilation; 32 does not change the network.
        options: Further arguments of `torchvision.models.get_model`; null for none. The
            `conv_stem_configs` of `VisionTransformer` are mappings of `out_channels`, `kernel_size`
            and `stride`.
        weights: Weights of torchvision that a training starts from: `library` for those that
            torchvision calls `DEFAULT`; null for none.
        native: Whether the backbone is torchvision's whole network up to its last linear layer, for
            `head=native`.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.

    Raises:
        ConfigError: If torchvision does not know the name, or refuses the options or the output
            stride, or if the network has no feature maps.
    """

    def __init__(
        self,
        name: str,
        output_stride: OutputStride = 32,
        options: dict[str, Any] | None = None,
        weights: Literal["library"] | None = None,
        native: bool = False,
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        known = [*torchvision.models.list_models(torchvision.models), *CLASSES]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ConfigError(
                f"backbone.name={name}: torchvision {torchvision.__version__} has no such network; "
                "expected a name of torchvision.models.list_models(torchvision.models)"
                + (f"; nearest: {', '.join(near)}" if near else "")
            )
        self.name, self.output_stride = name, output_stride
        self.options = dict(options or {})
        self.native = native
        refuse_options(self.options, RESERVED)
        self.normalize = Normalize(mean, std)
        self.published_size = size_in(self.options)
        network: Any = self.create(1000)
        if not runs(network, [each + 32 for each in self.published_size]):
            self.fixed_size = self.published_size
        if native:
            self.classifier_names = (name_of_classifier(network, name),)
            channels = network.get_submodule(self.classifier_names[0]).in_features
            remove_classifiers(network, self.classifier_names)
            self.network = network
            self.levels = (Level(32, channels),)
            return
        maps = list(maps_of(network, self.fixed_size or (7 * 32, 5 * 32)))
        if not maps:
            raise ConfigError(
                f"backbone.name={name}: this network of torchvision has no feature maps. "
                "Fix: head=native"
            )
        names = {each.name: str(number) for number, each in enumerate(maps)}
        self.network = create_feature_extractor(network, names)
        self.levels = tuple(each.level for each in maps)
        self.channels_last = [each.channels_last for each in maps]

    def classifier(self, num_classes: int) -> nn.Module:
        """Make torchvision's own last layer, with torchvision's initial weights."""
        network = self.create(num_classes)
        names = self.classifier_names
        return joined({name: network.get_submodule(name) for name in names})

    def create(self, num_classes: int) -> Any:
        """Build torchvision's network with its classifier.

        Raises:
            ConfigError: If torchvision refuses any argument.
        """
        arguments = {**DEFAULTS.get(self.name, {}), **self.options, "num_classes": num_classes}
        if self.output_stride != 32:  # the ResNets take the argument
            replaced = [False, self.output_stride < 16, True]
            arguments["replace_stride_with_dilation"] = replaced
        try:
            if "conv_stem_configs" in arguments:
                stem = arguments["conv_stem_configs"]
                arguments["conv_stem_configs"] = [ConvStemConfig(**layer) for layer in stem]
            if self.name in CLASSES:
                return CLASSES[self.name](**arguments)
            try:
                return torchvision.models.get_model(self.name, **arguments)
            except NotImplementedError:
                # RegNet computes its widths with tensors, which have no values on the meta device.
                with torch.device("cpu"):
                    network = torchvision.models.get_model(self.name, **arguments)
                return network.to(torch.get_default_device())
        except Exception as error:  # whatever torchvision raises here is about the arguments
            raise ConfigError(self.refusal(error)) from error

    def described(self) -> str:
        """Return the library and the name of the network."""
        return f"torchvision's {self.name}"

    def has_library_weights(self) -> bool:
        """Return whether torchvision has weights of this network."""
        return self.name not in CLASSES and self.published() is not None

    def published(self) -> Any:
        """Return torchvision's description of its weights; None if there are none."""
        found = list(torchvision.models.get_model_weights(self.name))
        return torchvision.models.get_model_weights(self.name).DEFAULT if found else None

    def library_state(self) -> dict[str, Tensor]:
        """Return torchvision's state dict, from its cache or the network.

        Raises:
            CheckpointError: If torchvision cannot load it.
        """
        try:
            with torch.device("cpu"):
                network = torchvision.models.get_model(
                    self.name, weights=self.published(), progress=False, **self.options
                )
            return network.state_dict()
        except Exception as error:  # torchvision reads files, caches and the network
            raise CheckpointError(
                f"backbone.weights=library: torchvision cannot load weights of {self.name} "
                f"({first_line(error)}). Fix: download them elsewhere, and use "
                "backbone.pretrained=FILE"
            ) from error

    def preprocessing(self) -> str:
        """Describe the images that torchvision's weights expect."""
        published = None if self.name in CLASSES else self.published()
        if published is None:
            return f"trained by someone else than torchvision, which has no {self.name}"
        images = published.transforms()
        size, resized = images.crop_size[0], images.resize_size[0]
        return (
            f"{size}x{size} pixels, resized with {images.interpolation.value} interpolation to "
            f"{resized}, mean {list(images.mean)}, std {list(images.std)}"
        )

    def refusal(self, error: Exception) -> str:
        """Describe an error of torchvision in one line."""
        reason = first_line(error)
        if self.output_stride != 32:
            return (
                f"backbone.output_stride={self.output_stride}: torchvision cannot build "
                f"{self.name} with this stride ({reason}). Fix: use 32, or backbone=timm"
            )
        if self.options:
            words = options_in_words(self.options)
            return f"backbone.options={words}: torchvision cannot build {self.name} ({reason})"
        return f"backbone.name={self.name}: torchvision cannot build this network ({reason})"

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images, as `Backbone.forward`."""
        found = self.network(self.normalize(images))
        if self.native:
            return [found]
        maps = zip(found.values(), self.channels_last, strict=True)
        return [each.permute(0, 3, 1, 2) if is_last else each for each, is_last in maps]


def size_in(options: dict[str, Any]) -> Size:
    """Return the height and width that a network is built for."""
    size = next((options[name] for name in SIZES if name in options), SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def runs(network: nn.Module, size: list[int]) -> bool:
    """Return whether a network accepts images of that height and width."""
    try:
        with torch.no_grad():
            on_meta(network)(torch.empty(1, 3, *size, device="meta"))
    except Exception:  # whatever a network raises here is about shapes
        return False
    return True


def on_meta(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that has shapes but no values."""
    return copy.deepcopy(network).to("meta").eval()


def name_of_classifier(network: nn.Module, name: str) -> str:
    """Return the name of the last linear layer.

    Raises:
        ConfigError: If there is none.
    """
    linear = [path for path, each in network.named_modules() if isinstance(each, nn.Linear)]
    if not linear:
        raise ConfigError(
            f"head=native: the classifier of torchvision's {name} is not a linear layer. "
            "Fix: head=classifier"
        )
    return linear[-1]


def maps_of(network: nn.Module, size: Size) -> Iterator[Map]:
    """Yield the last map of each stride, finest first; none for a network of tokens.

    Args:
        network: Network of torchvision.
        size: Height and width of images that it takes.
    """
    twin = on_meta(network)
    found: dict[int, Map] = {}
    has_tokens = False

    def note(name: str, output: object) -> None:
        nonlocal has_tokens
        if not isinstance(output, Tensor):
            return
        has_tokens |= output.ndim == 3
        for stride in STRIDES if output.ndim == 4 else ():
            expected = (size[0] // stride, size[1] // stride)
            channels_last = output.shape[1:3] == expected
            if channels_last or output.shape[2:] == expected:
                channels = output.shape[3 if channels_last else 1]
                found[stride] = Map(name, Level(stride, channels), channels_last)

    for name, module in inner_modules(twin):
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    with torch.no_grad():
        twin(torch.empty(1, 3, *size, device="meta"))
    if not has_tokens:
        yield from (found[stride] for stride in sorted(found))


def inner_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children of a network; in place of a plain list of modules, its members."""
    for name, child in network.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from ((f"{name}.{inner}", each) for inner, each in child.named_children())
        else:
            yield name, child
