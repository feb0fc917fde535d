"""Fine-tuning: frozen parts of the backbone, and learning rates that differ between layers.

Stages are counted from the input, one per level of the backbone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from parcnet_train.models.base import Backbone
from parcnet_train.models.layers.parc import PositionEmbedding
from parcnet_train.models.model import Model

Kind = Literal["norms", "biases", "embeddings"]
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
EMBEDDINGS = (nn.Embedding, PositionEmbedding)
# Parameters that transformers have in a module of another kind: those of timm and torchvision, and
# `position`, `class_position` and `tokens` of ours.
EMBEDDING_NAMES = (
    *("position", "tokens"),
    *("pos_embed", "pos_embedding", "position_embedding", "position_embeddings"),
    *("cls_token", "class_token", "dist_token", "relative_position_bias_table"),
)

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
    model: Model,
    layer_decay: float,
    head_lr: float = 1.0,
    no_weight_decay: Collection[Kind] = (),
) -> list[dict[str, Any]]:
    """Group the trainable parameters by their share of the learning rate, and by weight decay.

    The learning rate decays layer by layer, as in ELECTRA (arXiv 2003.10555) and BEiT (2106.08254):
    the last stage gets `layer_decay` of it, the one before its square, and so on.

    Args:
        model: Model whose parameters are grouped; they keep their order within a group.
        layer_decay: Factor per stage, above 0; 1: the same learning rate for all stages.
        head_lr: Factor of the head, at least 1.
        no_weight_decay: Kinds of parameters without weight decay.

    Returns:
        Groups for an optimizer, the head's last, with `params` and `lr_scale`; those without weight
        decay have `weight_decay` 0.
    """
    scales = dict.fromkeys(model.parameters(), 1.0)
    if layer_decay != 1:
        for depth, stage in enumerate(reversed(model.backbone.stage_parameters()), 1):
            scales.update(dict.fromkeys(stage, layer_decay**depth))
    scales.update(dict.fromkeys(model.head.parameters(), head_lr))
    kinds = kinds_of(model) if no_weight_decay else {}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter, scale in scales.items():
        if parameter.requires_grad:
            decays = kinds.get(parameter) not in no_weight_decay
            groups.setdefault((scale, decays), []).append(parameter)
    return [
        {"params": groups[key], "lr_scale": key[0], **({} if key[1] else {"weight_decay": 0.0})}
        for key in sorted(groups)
    ]


def kinds_of(model: nn.Module) -> dict[nn.Parameter, Kind]:
    """Return the kind of every parameter that is a norm's, a bias or an embedding."""
    kinds: dict[nn.Parameter, Kind] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, NORMS):
                kinds[parameter] = "norms"
            elif isinstance(module, EMBEDDINGS) or name.endswith(EMBEDDING_NAMES):
                kinds[parameter] = "embeddings"
            elif name.endswith("bias"):
                kinds[parameter] = "biases"
    return kinds
