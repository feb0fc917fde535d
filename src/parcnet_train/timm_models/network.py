"""A backbone and a classifier behind the interface of timm's models.

There is no `from __future__ import annotations` here, since torch.fx copies the annotation of
`forward` into code that TorchScript compiles, where a string would be no type.
"""

import contextlib
import copy
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.models import checkpoint, checkpoint_seq, register_notrace_module
from timm.models._features import FeatureGetterNet, feature_take_indices
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from parcnet_train.models.backbones.adapt import adapt_input
from parcnet_train.models.base import Backbone
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.layers.blocks import initialize
from parcnet_train.models.layers.parc import CircularConv, OversizedConv, PositionEmbedding

BACKBONE = "backbone."  # prefix of the backbone's names, also in checkpoints of parcnet_train
OF_CHECKPOINTS = "model."  # prefix of a network's names in checkpoints of parcnet_train

for _layer in (
    CircularConv,
    OversizedConv,
    PositionEmbedding,
):  # torch.fx cannot trace decisions about sizes
    register_notrace_module(_layer)


class TimmNetwork(nn.Module):
    """A network of parcnet_train as timm's users expect it.

    The names in its state dict are those of `parcnet_train.load(...)`. Images are RGB in [0, 1],
    without mean and standard deviation: backbones that need them have their own.

    Args:
        architecture: Class of the backbone.
        settings: Arguments of the backbone, from its file in `conf/backbone/`.
        num_classes: Number of logits; 0: no linear layer, the output is what it would have taken.
        in_chans: Number of channels of the images. For a number other than 3, the first convolution
            and the normalization are adapted, see `adapt_input`.
        global_pool: Pooling before the linear layer: `avg`, `max`, `avgmax`, `catavgmax`, or an
            empty string for none, whose output is a map.
        drop_rate: Dropout probability before the linear layer; 0.2 in the recipes of parcnet_train.
        drop_path_rate: Stochastic depth, for networks that have it; 0: the value in `settings`.
        device: Device to create the weights on.
        dtype: Type of the weights.
        overrides: Arguments of the backbone that replace those of `settings`, such as
            `output_stride`.

    Raises:
        TypeError: If the backbone has no such argument.
        AssertionError: If the network cannot have that pooling; timm's models raise it too.
    """

    def __init__(
        self,
        architecture: type[Backbone],
        settings: Mapping[str, Any],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if drop_path_rate:
            if "stochastic_depth" not in inspect.signature(architecture).parameters:
                raise TypeError(
                    f"drop_path_rate={drop_path_rate}: {architecture.__name__} has no stochastic "
                    "depth; expected 0"
                )
            overrides["stochastic_depth"] = drop_path_rate
        with contextlib.nullcontext() if device is None else torch.device(device):
            backbone = architecture(**{**settings, **overrides})
            adapt_input(backbone, in_chans)
            head = Classifier(backbone.levels, max(num_classes, 1), drop_rate)
        self.backbone = backbone
        self.head = head
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = backbone.levels[-1].channels
        self.pooled_channels = head.linear.in_features  # per statistic that is pooled
        self.stage_layers = names_of_stages(backbone)
        self.feature_info = [
            {
                "num_chs": level.channels,
                "reduction": level.stride,
                "module": BACKBONE + names[-1],
            }
            for level, names in zip(backbone.levels, self.stage_layers, strict=True)
        ]
        self.reset_classifier(num_classes, global_pool)
        self.to(dtype)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer, or an identity if there is none."""
        return self.head.linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer by one with new weights.

        Args:
            num_classes: Number of logits; 0: no linear layer.
            global_pool: Pooling, see the class; None: unchanged.
        """
        if global_pool is not None:
            pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
            multiple = pool.feat_mult()  # type: ignore[no-untyped-call]
            assert multiple == 1 or isinstance(self.head.norm, nn.Identity), (
                f"global_pool={global_pool}: the norm of this network takes "
                f"{self.pooled_channels} channels; expected avg, max, avgmax or an empty string"
            )
            self.global_pool = pool.train(self.training)
            self.head_hidden_size = self.pooled_channels * multiple
        reference = next(self.parameters())
        self.num_classes = num_classes
        linear: nn.Module = nn.Identity()
        if num_classes > 0:
            linear = nn.Linear(
                self.head_hidden_size, num_classes, device=reference.device, dtype=reference.dtype
            )
            initialize(linear)
        self.head.linear = linear.train(self.training)  # type: ignore[assignment]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's description of the layers, for layer-wise learning rates.

        Args:
            coarse: Whether a group is a stage, rather than a block of a stage.
        """
        groups: dict[str, Any] = {}
        for index, names in enumerate(self.stage_layers):
            blocks = names if coarse else [each for name in names for each in self.blocks_of(name)]
            groups[f"stage_{index}"] = [
                (rf"^{re.escape(BACKBONE + name)}\.", None if coarse else (number,))
                for number, name in enumerate(blocks)
            ]
        return groups

    def blocks_of(self, name: str) -> list[str]:
        """Return the names of the blocks in a layer of the backbone; its own if it is one block."""
        layer = self.backbone.get_submodule(name)
        if type(layer) is not nn.Sequential:
            return [name]
        return [f"{name}.{child}" for child, _ in layer.named_children()]

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay: none, as in the recipes of parcnet_train."""
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn gradient checkpointing on or off: less memory, one more forward pass."""
        self.grad_checkpointing = enable

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        """Run a stage of the backbone."""
        stage = self.backbone.stages[index]
        if self.grad_checkpointing:
            return (
                checkpoint_seq(stage, x) if type(stage) is nn.Sequential else checkpoint(stage, x)
            )
        # A stage that is only listed, and no submodule, has no name that torch.fx could record.
        return stage(x) if len(self.stage_layers[index]) == 1 else stage.forward(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last map and the maps of some levels.

        Args:
            x: Images `(B, in_chans, H, W)` in [0, 1].
            indices: Levels to return: a list, the last so many, or all (None).
            norm: Ignored; these networks have no norm after their last map.
            stop_early: Whether the stages after the last of these levels do not run.
            output_fmt: Format of the maps; `NCHW` is the only one.
            intermediates_only: Whether to return only the maps of these levels.
        """
        assert output_fmt in ("NCHW",), "output_fmt: expected NCHW"
        wanted, last = feature_take_indices(len(self.backbone.stages), indices)
        maps: list[Tensor] = []
        for index, stage in enumerate(self.backbone.stages):
            if not stop_early or index <= last:
                x = stage(x) if is_scripting() else self.run_stage(index, x)
                if index in wanted:
                    maps.append(x)
        if intermediates_only:
            return maps
        return x, maps

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove the layers that some levels do not need, in place.

        Args:
            indices: Levels to keep, as in `forward_intermediates`.
            prune_norm: Ignored, as `norm` there.
            prune_head: Whether to remove the head even if the last level is kept.

        Returns:
            The kept levels, counted from the first one.
        """
        kept, last = feature_take_indices(len(self.stage_layers), indices)
        removed = self.stage_layers[last + 1 :]
        for name in (name for names in reversed(removed) for name in reversed(names)):
            parent, _, child = name.rpartition(".")
            delattr(self.backbone.get_submodule(parent), child)
        self.stage_layers = self.stage_layers[: last + 1]
        self.backbone.levels = self.backbone.levels[: last + 1]
        self.backbone.stages = self.backbone.stages[: last + 1]
        if removed or prune_head:
            self.num_features = self.pooled_channels = self.backbone.levels[-1].channels
            self.head.expand = nn.Identity().train(self.training)
            self.head.norm = nn.Identity().train(self.training)
            self.reset_classifier(0, "")
        return kept

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map `(B, num_features, H / stride, W / stride)` of images."""
        for index, stage in enumerate(self.backbone.stages):
            x = stage(x) if is_scripting() else self.run_stage(index, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the last map.

        Args:
            x: Map `(B, num_features, H, W)`.
            pre_logits: Whether to return the input of the linear layer instead of its output.

        Returns:
            Logits `(B, num_classes)`, or features `(B, head_hidden_size)`; without pooling
            `(B, ..., H, W)`.
        """
        x = self.global_pool(self.head.expand(x))
        is_map = self.global_pool.pool_type == ""
        if is_map:
            x = x.permute(0, 2, 3, 1)
        x = self.head.dropout(self.head.norm(x))
        if not pre_logits:
            x = self.head.linear(x)
        return x.permute(0, 3, 1, 2) if is_map else x

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of images `(B, in_chans, H, W)` in [0, 1]."""
        return self.forward_head(self.forward_features(x))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights; those in a checkpoint of parcnet_train have a prefix, which is removed."""
        return super().load_state_dict(own_names(state_dict), strict, assign)

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what `torch.jit.script` compiles: the same layers in containers that it knows."""
        twin = copy.copy(self)
        twin._modules = {
            **self._modules,
            "backbone": container(
                stages=nn.ModuleList(
                    nn.Sequential(*map(self.backbone.get_submodule, names))
                    for names in self.stage_layers
                )
            ),
            "head": container(**dict(self.head.named_children())),
        }
        return twin


class Features(FeatureGetterNet):
    """timm's `features_only` of a `TimmNetwork`: a list of maps."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn gradient checkpointing on or off."""
        network: Any = self.model
        network.set_grad_checkpointing(enable)


def container(**children: nn.Module) -> nn.Module:
    """Return a module with children and without a forward pass."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def names_of_stages(backbone: Backbone) -> list[list[str]]:
    """Return, for each stage, the names of the submodules that it runs one after another.

    There is one name if the stage itself is a submodule. Otherwise it is a sequence of them.
    """
    names = {module: name for name, module in backbone.named_modules()}
    return [
        [names[stage]] if stage in names else [names[layer] for layer in stage.children()]
        for stage in backbone.stages
    ]


def own_names(state: Mapping[str, Any], network: nn.Module | None = None) -> dict[str, Any]:
    """Return a state dict without what a checkpoint of parcnet_train adds to it.

    Args:
        state: State dict of a network, or of a Lightning module of parcnet_train.
        network: Ignored; timm passes it.
    """
    if not any(name.startswith(OF_CHECKPOINTS) for name in state):
        return dict(state)
    return {
        name.removeprefix(OF_CHECKPOINTS): value
        for name, value in state.items()
        if name.startswith(OF_CHECKPOINTS)
    }
