"""Any network of timm (pytorch-image-models, an optional dependency)."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parcnet_train.data.channels import RGB
from parcnet_train.errors import CheckpointError, ConfigError, first_line
from parcnet_train.models.backbones.adapt import Normalize
from parcnet_train.models.backbones.library import (
    LibraryNetwork,
    joined,
    options_in_words,
    refuse_options,
    remove_classifiers,
)
from parcnet_train.models.base import Level, OutputStride
from parcnet_train.sizes import Size

# Options of timm that this package sets, each with what to do instead.
RESERVED = {
    "in_chans": "data.channels",
    "features_only": "choose head=classifier or head=native",
    "num_classes": "leave it out; the data have the number of classes",
    "output_stride": "backbone.output_stride",
    "pretrained": "backbone.weights=library",
    **dict.fromkeys(
        ("cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"),
        "backbone.pretrained=FILE",
    ),
}
CACHE = "attention_bias_cache"  # attribute of timm's layers
OTHER = 32  # pixels by which an image is larger that a network of a fixed size refuses


class Timm(LibraryNetwork):
    """A network of timm with random weights.

    Parameters are named `network.` followed by timm's name, which for feature maps is its name for
    feature extraction. Images are normalized with the mean and standard deviation of timm's own
    weights. Unless the network is `native`, the layers between the last feature map and timm's
    classifier are left out: our classifier pools the unchanged map.

    Args:
        name: Name of the network, as in `timm.list_models()`, with or without the tag of pretrained
            weights.
        output_stride: Stride of the last level, for networks that can replace stride by dilation;
            32 does not change the network.
        options: Further arguments of `timm.create_model`, such as `{drop_path_rate: 0.1}`; null for
            none.
        weights: Weights of timm that a training starts from: `library` for those of the tag in
            `name`, or else of timm's default tag; null for none.
        native: Whether the backbone is timm's whole network up to its classifier, for
            `head=native`.
        in_channels: Number of channels of the images.

    Raises:
        ConfigError: If timm is not installed, does not know the name, refuses the options or the
            output stride, or has no feature maps of that network.
    """

    def __init__(
        self,
        name: str,
        output_stride: OutputStride = 32,
        options: dict[str, Any] | None = None,
        weights: Literal["library"] | None = None,
        native: bool = False,
        in_channels: int = RGB,
    ) -> None:
        super().__init__()
        timm = library(name)
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3)
            raise ConfigError(
                f"backbone.name={name}: timm {timm.__version__} has no such network; expected a "
                "name of timm.list_models()" + (f"; nearest: {', '.join(near)}" if near else "")
            )
        self.name, self.output_stride = name, output_stride
        self.options = dict(options or {})
        self.native = native
        self.in_channels = in_channels
        refuse_options(self.options, RESERVED)
        network = self.whole_network(1000) if native else self.network_of_maps()
        self.network = network
        settings = network.pretrained_cfg
        self.normalize = Normalize(settings["mean"], settings["std"])
        self.normalize.adapt(in_channels)
        self.published_size = size_in(self.options, settings)
        # How the network returns its maps: a vector, a list of maps, or one map.
        self.channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        self.has_map_list = not native and hasattr(network.feature_info, "reduction")
        if native:
            self.classifier_names = names_of_classifiers(network, name)
            remove_classifiers(network, self.classifier_names)
            channels = getattr(network, "head_hidden_size", None) or network.num_features
            self.levels = (Level(32, channels * len(self.classifier_names)),)
        elif self.has_map_list:
            info = network.feature_info
            self.levels = tuple(map(Level, info.reduction(), info.channels()))
        else:
            self.levels = (self.level_of_last_map(),)
        if settings.get("fixed_input_size") and not self.takes_other_sizes():
            self.fixed_size = self.published_size
            self.fill_buffers()

    def classifier(self, num_classes: int) -> nn.Module:
        """Make timm's own classifier, with timm's initial weights."""
        network = self.whole_network(num_classes)
        names = self.classifier_names
        return joined({name: network.get_submodule(name) for name in names})

    def whole_network(self, num_classes: int) -> Any:
        """Build timm's network with its classifier."""
        return self.create(num_classes=num_classes)

    def network_of_maps(self) -> Any:
        """Build a network that returns feature maps, or one whose last features are a map."""
        try:
            return self.create(features_only=True)
        except ConfigError as error:
            if "features_only" not in str(error.__cause__):
                raise
        return self.create(num_classes=0)

    def create(self, **arguments: Any) -> Any:
        """Call `timm.create_model`.

        Raises:
            ConfigError: If timm refuses any argument; its own error is the cause.
        """
        # Networks that cannot be dilated do not take the argument.
        own: dict[str, int] = {}
        if self.output_stride != 32:
            own["output_stride"] = self.output_stride
        # timm adapts all convolutions of a stem that read the image, which may be several.
        if self.in_channels != RGB:
            own["in_chans"] = self.in_channels
        try:
            return library(self.name).create_model(self.name, **own, **self.options, **arguments)
        except Exception as error:  # whatever timm raises here is about the arguments
            raise ConfigError(self.refusal(error)) from error

    def refusal(self, error: Exception) -> str:
        """Describe an error of timm in one line."""
        reason = first_line(error)
        if self.output_stride != 32:
            return (
                f"backbone.output_stride={self.output_stride}: timm cannot build {self.name} with "
                f"this stride ({reason}). Fix: use 32, or a different network"
            )
        if self.options:
            words = options_in_words(self.options)
            return f"backbone.options={words}: timm cannot build {self.name} ({reason})"
        return f"backbone.name={self.name}: timm cannot build this network ({reason})"

    def described(self) -> str:
        """Return the library and the name of the network."""
        return f"timm's {self.name}"

    def has_library_weights(self) -> bool:
        """Return whether timm has weights of this tag, or of a default one."""
        network: Any = self.network
        sources = ("url", "hf_hub_id", "file")
        return any(network.pretrained_cfg.get(source) for source in sources)

    def library_state(self) -> dict[str, Tensor]:
        """Return timm's state dict, from its cache or the network.

        Raises:
            CheckpointError: If timm cannot load it.
        """
        try:
            with torch.device("cpu"):
                return self.create(pretrained=True).state_dict()
        except Exception as error:  # timm reads files, caches and the network
            reason = first_line(error.__cause__ or error)
            raise CheckpointError(
                f"backbone.weights=library: timm cannot load weights of {self.name} ({reason}). "
                "Fix: download them elsewhere, and use backbone.pretrained=FILE"
            ) from error

    def preprocessing(self) -> str:
        """Describe the images that timm's weights expect."""
        network: Any = self.network
        settings = library(self.name).data.resolve_data_config(
            pretrained_cfg=network.pretrained_cfg
        )
        _, height, width = settings["input_size"]
        return (
            f"{height}x{width} pixels, resized with {settings['interpolation']} interpolation to "
            f"1/{settings['crop_pct']:g} of that, mean {list(settings['mean'])}, "
            f"std {list(settings['std'])}"
        )

    def level_of_last_map(self) -> Level:
        """Return the level of the map that the features of the network are.

        Raises:
            ConfigError: If they are no map.
        """
        network: Any = self.network
        with torch.device("meta"):
            twin = self.create(num_classes=0).eval()
            found = twin.forward_features(torch.empty(1, self.in_channels, *self.published_size))
        if not isinstance(found, Tensor) or found.ndim != 4:
            raise ConfigError(
                f"backbone.name={self.name}: timm has no feature maps of this network. "
                "Fix: head=native"
            )
        channels = network.num_features
        self.channels_last = found.shape[1] != channels
        height = found.shape[1 if self.channels_last else 2]
        return Level(self.published_size[0] // height, channels)

    def takes_other_sizes(self) -> bool:
        """Return whether the network runs on other images than those that it was published for."""
        twin = copy.deepcopy(self).to("meta").eval()
        with torch.no_grad():
            try:
                twin(
                    torch.empty(
                        1,
                        self.in_channels,
                        *(each + OTHER for each in self.published_size),
                        device="meta",
                    )
                )
            except Exception:  # whatever a network raises here is about shapes
                return False
        return True

    def caches(self) -> list[dict[str, Tensor]]:
        """Return the values that attention keeps between evaluations, as LeViT's.

        timm forgets them only when `train()` is called, not when weights are loaded or averaged.
        """
        modules = self.network.modules()
        return [getattr(each, CACHE) for each in modules if hasattr(each, CACHE)]

    def fill_buffers(self) -> None:
        """Run the network once if that changes the shape of a buffer, as ConViT's positions.

        A copy of the network, such as EMA's, would otherwise have other shapes than a trained one.
        """
        before = shapes_of_buffers(self)
        twin = copy.deepcopy(self).to("meta").eval()
        for network in (twin, self):
            was_training = network.training
            with torch.no_grad():
                device = next(network.parameters()).device
                network.eval()(
                    torch.zeros(1, self.in_channels, *self.published_size, device=device)
                )
            network.train(was_training)
            if shapes_of_buffers(network) == before:
                return

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images, as `Backbone.forward`."""
        network: Any = self.network
        for cache in self.caches():
            cache.clear()
        normalized = self.normalize(images)
        if self.native:
            return [network(normalized)]
        maps = network(normalized) if self.has_map_list else [network.forward_features(normalized)]
        return [each.permute(0, 3, 1, 2) for each in maps] if self.channels_last else list(maps)


def library(name: str) -> Any:
    """Import timm.

    Args:
        name: Name of the network that is wanted, for the message.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"backbone.name={name}: the package timm is not installed. Fix: pip install timm"
        ) from error
    return timm


def shapes_of_buffers(network: nn.Module) -> list[torch.Size]:
    """Return the shapes of all buffers, in order."""
    return [buffer.shape for buffer in network.buffers()]


def size_in(options: Mapping[str, Any], settings: Mapping[str, Any]) -> Size:
    """Return the height and width that a network is built for."""
    size = options.get("img_size") or settings["input_size"][1:]
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def names_of_classifiers(network: Any, name: str) -> tuple[str, ...]:
    """Return the names of the modules in a network that return logits.

    Raises:
        ConfigError: If timm does not say which they are, or they are not applied one by one.
    """
    found = network.get_classifier() if hasattr(network, "get_classifier") else ()
    parts = found if isinstance(found, tuple) else (found,)
    names = tuple(path for part in parts for path, each in network.named_modules() if each is part)
    if not names or any(isinstance(part, nn.ModuleList) for part in parts):
        raise ConfigError(
            f"head=native: the classifier of timm's {name} cannot be separated from the network. "
            "Fix: head=classifier"
        )
    return names
