"""`config.json` of a release: the part that timm and the hub read, and our own section."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parcnet_train.actions.release.carried import carried
from parcnet_train.actions.release.private import (
    published_choices,
    published_config,
    teacher_of,
)
from parcnet_train.build import height_and_width
from parcnet_train.checkpoints.checkpoints import PRETRAINED
from parcnet_train.checkpoints.releases import FORMAT
from parcnet_train.config.compose import CONF, compose_choice
from parcnet_train.data.channels import RGB
from parcnet_train.deploy.exportable import about_input
from parcnet_train.models.backbones.registered import NETWORKS, cfg_of
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import count_parameters
from parcnet_train.runs.directories import PROVENANCE, read_values
from parcnet_train.runs.environment import packages, python_version
from parcnet_train.runs.evaluations import dataset_of
from parcnet_train.runs.git import find_revision
from parcnet_train.runs.releases import OURS
from parcnet_train.tasks.detection import TRAINING_IMAGES

# Entries of a checkpoint that its evaluation needs, beside the weights and the configuration.
KEPT = (
    *("class_names", "category_ids", "names_classes", TRAINING_IMAGES),
    *("epoch", "global_step"),
)


@dataclass(frozen=True)
class Source:
    """What is released.

    Attributes:
        path: File of the checkpoint.
        checkpoint: Its content.
        evaluation: Metrics, see `evaluation_of`; None if there are none.
    """

    path: Path
    checkpoint: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None


def config_of(source: Source, model: Model, preparation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `config.json`, without the checksum of the weights.

    Args:
        source: Checkpoint and its metrics.
        model: Its network.
        preparation: How an image becomes the network's input; see `Predictor.about`.

    Raises:
        CheckpointError: If the checkpoint is described in another form than this package writes.
    """
    checkpoint = source.checkpoint
    earlier = carried(checkpoint, source.path)
    config, names = checkpoint["config"], list(checkpoint["class_names"])
    size = size_of(config)
    choices = checkpoint["choices"]
    described: dict[str, Any] = {
        "architecture": f"{choices['backbone']}_{choices['head']}",  # unknown to timm
        "num_classes": len(names),
        "num_features": model.backbone.levels[-1].channels,
        "label_names": names,
    }
    if is_known_to_timm(checkpoint, model):
        described |= timm_part(checkpoint, size, model.in_channels)
    described[OURS] = {
        "format": FORMAT,
        "task": choices["task"],
        "parameters": count_parameters(model),
        "choices": published_choices(choices),
        "config": published_config(config),
        **{name: checkpoint[name] for name in KEPT if name in checkpoint},
        "ema": "current_model_state" in checkpoint,
        "parcnet_train_version": None,
        "dataset": dataset_of(choices.get("data"), config.get("data") or {}),
        "distillation": teacher_of(config),
        "metrics": None,
        **earlier,
        "preprocessing": about_input(size, model.in_channels, preparation),
        "provenance": provenance_of(source, earlier.get("provenance")),
    }
    if source.evaluation is not None:
        described[OURS]["metrics"] = source.evaluation
    described[OURS] |= carried(described[OURS], source.path)
    return described


def size_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the height and width of a checkpoint's images; a converted one has no data."""
    return height_and_width((config.get("data") or config["recipe"])["image_size"])


def is_known_to_timm(checkpoint: Mapping[str, Any], model: Model) -> bool:
    """Return whether `parcnet_train.timm_models` registers this network."""
    name = checkpoint["choices"]["backbone"]
    return (
        name in NETWORKS
        and type(model.head) is Classifier
        and checkpoint["config"]["backbone"]["_target_"] == composed(name)["_target_"]
    )


def timm_part(
    checkpoint: Mapping[str, Any], size: tuple[int, int], channels: int
) -> dict[str, Any]:
    """Return what timm needs to build the network and to prepare images.

    Args:
        checkpoint: Checkpoint of a network that timm knows.
        size: Height and width of the images, in pixels.
        channels: Number of channels of the images.
    """
    name = checkpoint["choices"]["backbone"]
    own = {} if channels == RGB else {"in_chans": channels}
    settings = cfg_of(name, len(checkpoint["class_names"]), size, channels)
    del settings["url"]
    return {
        "architecture": name,
        "global_pool": "avg",
        "pretrained_cfg": settings,
        "model_args": {**own, **other_arguments(checkpoint)},
    }


def other_arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a backbone that are not those of its file in `conf/backbone/`."""
    expected = composed(checkpoint["choices"]["backbone"])
    return {
        name: value
        for name, value in checkpoint["config"]["backbone"].items()
        if name not in ("_target_", PRETRAINED) and value != expected.get(name)
    }


@functools.cache
def composed(backbone: str) -> dict[str, Any]:
    """Return the values of a file in `conf/backbone/`; empty for a backbone of your own."""
    is_ours = (CONF / "backbone" / f"{backbone}.yaml").is_file()
    return compose_choice("backbone", backbone) if is_ours else {}


def provenance_of(source: Source, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the code and the versions of a training and of this release.

    `provenance.json` beside the checkpoint also has the host and the hardware, which are left out.

    Args:
        source: Checkpoint.
        earlier: Provenance in the checkpoint, if it is that of a release.
    """
    known = read_values(source.path.parent.parent / PROVENANCE)
    git, sessions = known.get("git") or {}, known.get("sessions") or [{}]
    trained = {
        "ended": in_utc(sessions[-1].get("ended")),
        "revision": git.get("revision"),
        "uncommitted_changes": git.get("dirty"),
        "python": known.get("python"),
        "packages": known.get("packages"),
        "data": known.get("data"),
    }
    revision = find_revision()
    return {
        "trained": trained if known else (earlier or {}).get("trained"),
        "released": {
            "revision": revision and revision.name,
            "uncommitted_changes": revision and revision.described()["dirty"],
            "python": python_version(),
            "packages": packages(),
        },
    }


def in_utc(moment: str | None) -> str | None:
    """Return a moment in UTC, since its time zone tells where the machine is."""
    return moment and datetime.fromisoformat(moment).astimezone(UTC).isoformat()
