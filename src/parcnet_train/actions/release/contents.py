"""`config.json` of a release: the part that timm and the hub read, and our own section."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from parcnet_train.build import height_and_width
from parcnet_train.checkpoints.checkpoints import PRETRAINED
from parcnet_train.checkpoints.releases import FORMAT
from parcnet_train.config.compose import CONF, compose_choice
from parcnet_train.config.stored import OF_THE_COMMAND
from parcnet_train.data.channels import RGB
from parcnet_train.deploy.exportable import about_input
from parcnet_train.models.backbones.registered import NETWORKS, cfg_of
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import count_parameters
from parcnet_train.runs.directories import PROVENANCE, read_values
from parcnet_train.runs.environment import packages, python_version
from parcnet_train.runs.git import find_revision
from parcnet_train.runs.releases import OURS
from parcnet_train.tasks.detection import TRAINING_IMAGES

# Entries of a checkpoint that its evaluation needs, beside the weights and the configuration.
KEPT = (
    *("class_names", "category_ids", "names_classes", TRAINING_IMAGES),
    *("epoch", "global_step", "converted", "averaged", "parcnet_train_version"),
)
# Data modules for any set, which say nothing about it; the name of its folder does.
GENERIC = ("imagefolder", "huggingface", "coco_format", "voc_format")
# Keys of the configuration that name files of the training only.
OF_FILES = {"backbone": (PRETRAINED,), "recipe": ("distillation",), "data": ("root",)}


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
    """
    checkpoint = source.checkpoint
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
        "ema": checkpoint.get("ema", "current_model_state" in checkpoint),
        "choices": dict(choices),
        "config": published_config(config),
        **{name: checkpoint[name] for name in KEPT if name in checkpoint},
        "dataset": checkpoint.get("dataset", dataset_of(config, choices)),
        "distillation": checkpoint.get("distillation", teacher_of(config)),
        "preprocessing": about_input(size, model.in_channels, preparation),
        "metrics": source.evaluation or checkpoint.get("metrics"),
        "provenance": provenance_of(source),
    }
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


def published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a checkpoint without the machine and the files of its training.

    Args:
        config: Configuration of the checkpoint.
    """
    found = {name: value for name, value in config.items() if name not in OF_THE_COMMAND}
    for part, keys in OF_FILES.items():
        if isinstance(found.get(part), Mapping):
            found[part] = {name: value for name, value in found[part].items() if name not in keys}
    return {name: without_files(value) for name, value in found.items() if not is_local(value)}


def without_files(value: Any) -> Any:
    """Return a value without the keys whose values name files of this machine."""
    if isinstance(value, Mapping):
        return {k: without_files(v) for k, v in value.items() if not is_local(v)}
    if isinstance(value, list | tuple):
        return [without_files(each) for each in value]
    return value


def is_local(value: Any) -> bool:
    """Return whether a value is a path on this machine, or a list with one."""
    if isinstance(value, list | tuple):
        return any(map(is_local, value))
    if not isinstance(value, str):
        return False
    return value.startswith(("/", "~", "file:")) or ".." in PurePath(value).parts


def dataset_of(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str | None:
    """Return the name of the data of a training: of its folder, if `data=` is for any set."""
    data = choices.get("data")
    if data not in GENERIC:
        return data
    return PurePath(str(config["data"].get("root"))).name or data


def teacher_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the teacher of a training, without the folder of its file."""
    given = config["recipe"].get("distillation")
    if given is None:
        return None
    return {"kind": given.get("kind"), "teacher": PurePath(str(given.get("teacher"))).name}


def provenance_of(source: Source) -> dict[str, Any]:
    """Return the code and the versions of a training and of this release.

    `provenance.json` beside the checkpoint also has the host and the hardware, which are left out.

    Args:
        source: Checkpoint.
    """
    known = read_values(source.path.parent.parent / PROVENANCE)
    git, sessions = known.get("git") or {}, known.get("sessions") or [{}]
    trained = {
        "ended": sessions[-1].get("ended"),
        "revision": git.get("revision"),
        "uncommitted_changes": git.get("dirty"),
        "python": known.get("python"),
        "packages": known.get("packages"),
        "data": known.get("data"),
    }
    earlier = (source.checkpoint.get("provenance") or {}).get("trained")
    revision = find_revision()
    return {
        "trained": trained if known else earlier,
        "released": {
            "revision": revision and revision.name,
            "uncommitted_changes": revision and revision.described()["dirty"],
            "python": python_version(),
            "packages": packages(),
        },
    }
