"""Any network of timm (pytorch-image-models, an optional dependency) that has feature maps."""

from __future__ import annotations

import copy
import difflib
from typing import Any

import torch
from torch import Tensor, nn

from parcnet_train.errors import ConfigError, first_line
from parcnet_train.models.backbones.adapt import Normalize
from parcnet_train.models.base import Backbone, Level, OutputStride


class Timm(Backbone):
    """A network of timm with random weights, made with `features_only`.

    Parameters are named `network.` followed by timm's name for feature extraction. Images are
    normalized with the mean and standard deviation of timm's own weights. The layers between the
    last feature map and timm's linear layer are left out: our classifier pools the unchanged map.

    Args:
        name: Name of the network, as in `timm.list_models()`, with or without the tag of pretrained
            weights.
        output_stride: Stride of the last level, for networks that can replace stride by dilation;
            32 does not change the network.

    Raises:
        ConfigError: If timm is not installed, does not know the name, has no feature maps of that
            network, or cannot make it with that output stride.
    """

    def __init__(self, name: str, output_stride: OutputStride = 32) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ConfigError(
                f"backbone.name={name}: the package timm is not installed. Fix: pip install timm"
            ) from error
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3)
            raise ConfigError(
                f"backbone.name={name}: timm {timm.__version__} has no such network; expected a "
                "name of timm.list_models()" + (f"; nearest: {', '.join(near)}" if near else "")
            )
        # Networks that cannot be dilated do not take the argument.
        dilation: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
        try:
            network: Any = timm.create_model(name, features_only=True, **dilation)
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(self.refusal(name, output_stride, error)) from error
        self.network = network
        self.channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        self.normalize = Normalize(network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
        info = network.feature_info
        self.levels = tuple(map(Level, info.reduction(), info.channels()))

    def stage_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each level: those that its map, but no earlier one, depends on.

        timm's networks are structured in many ways, so the dependencies are found by gradients on
        the meta device.
        """
        twin = copy.deepcopy(self).to("meta").requires_grad_(True).eval()
        images = torch.empty(1, *self.network.pretrained_cfg["input_size"], device="meta")
        with torch.enable_grad():
            maps = twin(images)
        owners = list(self.parameters())
        first = dict.fromkeys(owners, len(maps) - 1)  # parameters that no map needs: last level
        for number in reversed(range(len(maps))):
            gradients = torch.autograd.grad(
                maps[number].sum(), list(twin.parameters()), retain_graph=True, allow_unused=True
            )
            pairs = zip(owners, gradients, strict=True)
            first.update((owner, number) for owner, gradient in pairs if gradient is not None)
        return [[each for each in owners if first[each] == n] for n in range(len(maps))]

    @staticmethod
    def refusal(name: str, output_stride: OutputStride, error: Exception) -> str:
        """Describe an error of timm in one line."""
        reason = first_line(error)
        if output_stride != 32:
            return (
                f"backbone.output_stride={output_stride}: timm cannot build {name} with this "
                f"stride ({reason}). Fix: use 32, or a different network"
            )
        return f"backbone.name={name}: timm cannot build this network ({reason})"

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images, as `Backbone.forward`."""
        maps = self.network(self.normalize(images))
        return [each.permute(0, 3, 1, 2) for each in maps] if self.channels_last else list(maps)
