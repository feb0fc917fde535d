"""Fine-tuning: frozen parts of the backbone, and learning rates that differ between layers.

Stages are counted from the input, one per level of the backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from parcnet_train.models.base import Backbone
from parcnet_train.models.model import Model

# Behavior of earlier versions, which had no or fewer keys in `recipe.finetuning`.
DEFAULTS = {"freeze_stages": 0, "layer_decay": 1.0, "head_lr": 1.0, "freeze_batchnorm": False}


def freeze(model: Model, stages: int | Literal["all"], batchnorm: bool) -> None:
    """Freeze a part of the backbone, in place.

    Frozen parameters get no gradient, and modules with only frozen parameters stay in evaluation
    mode (`Model.train`): their BatchNorms keep their running statistics, their dropout is inactive.

    Args:
        model: Model whose backbone is frozen in part; its head is not changed.
        stages: Number of stages to freeze, counted from the input; `all` is the whole backbone.
        batchnorm: Whether to freeze every BatchNorm of the backbone: running statistics, scale and
            shift.
    """
    for parameter in frozen_parameters(model.backbone, stages, batchnorm):
        parameter.requires_grad_(False)
    model.train(model.training)


def frozen_parameters(
    backbone: Backbone, stages: int | Literal["all"], batchnorm: bool
) -> Iterator[nn.Parameter]:
    """Yield the parameters that `freeze` freezes; those of a BatchNorm may occur twice."""
    if stages == "all":
        yield from backbone.parameters()
    elif stages > 0:
        for stage in backbone.stage_parameters()[:stages]:
            yield from stage
    if batchnorm:
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                yield from module.parameters()


def parameter_groups(
    model: Model, layer_decay: float, head_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Group the trainable parameters by their share of the learning rate.

    The learning rate decays layer by layer, as in ELECTRA (arXiv 2003.10555) and BEiT (2106.08254):
    the last stage gets `layer_decay` of it, the one before its square, and so on.

    Args:
        model: Model whose parameters are grouped; they keep their order within a group.
        layer_decay: Factor per stage, above 0; 1: the same learning rate for all stages.
        head_lr: Factor of the head, at least 1.

    Returns:
        Groups for an optimizer, the head's last, with `params` and `lr_scale`.
    """
    scales = dict.fromkeys(model.parameters(), 1.0)
    if layer_decay != 1:
        for depth, stage in enumerate(reversed(model.backbone.stage_parameters()), 1):
            scales.update(dict.fromkeys(stage, layer_decay**depth))
    scales.update(dict.fromkeys(model.head.parameters(), head_lr))
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, scale in scales.items():
        if parameter.requires_grad:
            groups.setdefault(scale, []).append(parameter)
    return [{"params": groups[scale], "lr_scale": scale} for scale in sorted(groups)]
