"""Fine-tuning: what stays as it is, and what learns more slowly than the head.

Stages are counted from the images on, one per level of the backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from parcnet_train.models.base import Backbone
from parcnet_train.models.model import Model

# Of `recipe.finetuning`: what versions did that had not all of its keys.
DEFAULTS = {"freeze_stages": 0, "layer_decay": 1.0, "head_lr": 1.0, "freeze_batchnorm": False}


def freeze(model: Model, stages: int | Literal["all"], batchnorm: bool) -> None:
    """Takes a part of the backbone out of training, in place.

    Frozen parameters get no gradient, and what holds nothing but frozen ones stays in evaluation
    mode (`Model.train`): its BatchNorms keep their running statistics, its dropout does nothing.

    Args:
        model: whose head is left as it is.
        stages: how many, from the images on; `all` is the whole backbone.
        batchnorm: freeze every BatchNorm of the backbone: running statistics, scale and shift.
    """
    for parameter in frozen_parameters(model.backbone, stages, batchnorm):
        parameter.requires_grad_(False)
    model.train(model.training)


def frozen_parameters(
    backbone: Backbone, stages: int | Literal["all"], batchnorm: bool
) -> Iterator[nn.Parameter]:
    """The parameters that `freeze` freezes; those of a BatchNorm may come twice."""
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
    """The trainable parameters, by the share of the learning rate that they get.

    Layer-wise decay of the learning rate, as in ELECTRA (arXiv 2003.10555) and BEiT (2106.08254):
    the last stage gets `layer_decay` of it, the one before its square, and so on.

    Args:
        model: its parameters keep their order within a group.
        layer_decay: above 0; 1: all stages get the same.
        head_lr: what the head gets, at least 1.

    Returns:
        Groups of an optimizer, the head's last, with `params` and `lr_scale`.
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
