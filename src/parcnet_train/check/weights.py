"""Checks of files of weights: `ckpt` and `backbone.pretrained`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parcnet_train.build import (
    build_backbone,
    build_data,
    build_model,
    image_channels,
    meta_device,
    named_classes,
    network_spec,
)
from parcnet_train.checkpoints.checkpoints import (
    PRETRAINED,
    WEIGHTS,
    check_resumable,
    check_same_classes,
    check_same_model,
    check_same_parameters,
    pretrained_state,
)
from parcnet_train.checkpoints.published import (
    fitting_state,
    origin_of,
    published_pretrained,
    published_weights,
)
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.config.keys import value_of
from parcnet_train.config.sections import Distillation, Recipe
from parcnet_train.config.typed import run_spec, section
from parcnet_train.errors import CheckpointError, ConfigError, Fault, UserError
from parcnet_train.models.backbones.library import LibraryNetwork
from parcnet_train.models.backbones.timm import Timm
from parcnet_train.models.base import Backbone
from parcnet_train.restore import network_in, restore_for
from parcnet_train.runs.actions import ACTIONS
from parcnet_train.runs.directories import (
    NEWEST,
    checkpoint_in,
    checkpoint_of,
    evaluated_by,
    reads_checkpoint,
)
from parcnet_train.runs.evaluations import evaluation_of
from parcnet_train.targets import locate
from parcnet_train.tasks.distillation import compared_levels

Config = dict[str, Any]

TEACHER = "recipe.distillation"


def wrong_checkpoint(config: Config) -> Iterator[Fault]:
    """Report a checkpoint that is missing, not used by the action, or of a different network."""
    if not reads_checkpoint(config["action"], value_of(config, "benchmark.target")):
        if config["ckpt"] is not None:
            yield Fault(
                "ckpt",
                f"ckpt={config['ckpt']}: action={config['action']} does not read a checkpoint. "
                "Fix: leave it out",
            )
        return
    if config["ckpt"] == NEWEST:  # composing found no run, and has reported that
        return
    if config["ckpt"] is None:
        if ACTIONS[config["action"]].checkpoint == "needed":
            needed = f"action={config['action']} needs a checkpoint"
            yield Fault(
                "ckpt",
                f"ckpt has no value; {needed}: expected last, a checkpoint file or a run directory",
            )
        return
    try:
        spec = run_spec(config)
        if not ACTIONS[config["action"]].network:
            restore_for(checkpoint_of(spec), named_classes(config))
            return
        for path in evaluated_by(spec):
            checkpoint = read_checkpoint(path)
            if ACTIONS[config["action"]].trains:
                check_resumable(checkpoint, path)
                check_same_parameters(checkpoint, config["recipe"]["finetuning"], path)
            with meta_device():
                model = build_model(config, len(checkpoint["class_names"]))
            check_same_model(checkpoint, model, network_spec(config), path)
    except CheckpointError as error:
        yield Fault("ckpt", str(error))
    except ConfigError:  # `wrong_network` reports it
        return


def wrong_classes(config: Config) -> Iterator[Fault]:
    """Report a checkpoint whose classes differ from the data's; demo data are not checked."""
    if config["ckpt"] in (None, NEWEST) or ACTIONS[config["action"]].folder:
        return
    if getattr(locate(config["data"]), "writes_root", False):
        return
    try:
        path = checkpoint_of(run_spec(config))
        checkpoint, class_names = read_checkpoint(path), build_data(config).class_names
    except UserError:  # `wrong_checkpoint` or `wrong_data` reports it
        return
    try:
        check_same_classes(checkpoint, class_names, path)
    except CheckpointError as error:
        yield Fault("ckpt", str(error))


def wrong_results(config: Config) -> Iterator[Fault]:
    """Report results that are not those of the released checkpoint."""
    run, ckpt = config["release"]["results"], config["ckpt"]
    if config["action"] != "release" or run is None or ckpt in (None, NEWEST):
        return
    try:
        path = checkpoint_of(run_spec(config))
        epoch = read_checkpoint(path)["epoch"] + 1
    except CheckpointError:  # `wrong_checkpoint` reports it
        return
    try:
        evaluation_of(run, path, epoch)
    except CheckpointError as error:
        yield Fault("release.results", str(error))


def wrong_pretrained(config: Config) -> Iterator[Fault]:
    """Report pretrained weights that are missing or belong to a different backbone."""
    path, weights = (config["backbone"].get(key) for key in (PRETRAINED, WEIGHTS))
    is_named = path is not None or weights is not None
    # A checkpoint contains its own weights, and only training starts from others.
    if not is_named or config["ckpt"] is not None or ACTIONS[config["action"]].folder:
        return
    if path is not None and weights is not None:
        yield Fault(
            "backbone.weights",
            f"backbone.weights={weights}: backbone.pretrained names weights as well. "
            "Fix: backbone.weights=null",
        )
        return
    try:
        with meta_device():
            backbone = build_backbone(config)
        if weights is not None:
            yield from no_library_weights(backbone)
        elif isinstance(backbone, LibraryNetwork) and (
            published := published_pretrained(path, backbone)
        ):
            fitting_state(published.state, backbone, origin_of(config["backbone"]))
        else:
            pretrained_state(path, backbone, config["choices"], config["backbone"])
    except CheckpointError as error:
        yield from (Fault("backbone.pretrained", line) for line in str(error).splitlines())
    except ConfigError:  # `wrong_network` reports it
        return


def no_library_weights(backbone: Backbone) -> Iterator[Fault]:
    """Report a network whose library has no weights of it."""
    if isinstance(backbone, LibraryNetwork) and not backbone.has_library_weights():
        yield Fault(
            "backbone.weights",
            f"backbone.weights=library: there are no weights of {backbone.described()}. "
            "Fix: backbone.weights=null, or another backbone.name",
        )


def wrong_teacher(config: Config) -> Iterator[Fault]:
    """Find a teacher that cannot be read, or whose kind of loss the task does not have."""
    given = section(Recipe, config).distillation
    if given is None or not ACTIONS[config["action"]].trains:
        return
    task = config["choices"]["task"]
    if given.kind != "feature":
        if task != "classification":
            yield Fault(
                f"{TEACHER}.kind",
                f"{TEACHER}.kind={given.kind}: task={task} has no such loss; expected feature. "
                f"Fix: {TEACHER}.kind=feature",
            )
        if given.levels is not None:
            yield Fault(
                f"{TEACHER}.levels",
                f"{TEACHER}.levels: kind={given.kind} compares no feature maps; expected "
                f"kind=feature. Fix: {TEACHER}.levels=null",
            )
    try:
        teacher = backbone_of_teacher(given, image_channels(config))
        if given.kind == "feature":
            with meta_device():
                student = build_backbone(config)
            compared_levels(student.levels, teacher.levels, given.levels)
    except (CheckpointError, ConfigError) as error:
        yield from (Fault(f"{TEACHER}.teacher", line) for line in str(error).splitlines())


def backbone_of_teacher(given: Distillation, channels: int) -> Backbone:
    """Return the backbone of a teacher, without values.

    Args:
        given: Settings of the teacher.
        channels: Number of channels of the student's images.

    Raises:
        CheckpointError: If its checkpoint or its weights cannot be read, it names classes of other
            packages, or it was trained with images of other channels.
        ConfigError: If timm has no network of that name.
    """
    if given.weights is None:
        key = f"{TEACHER}.teacher"
        checkpoint = read_checkpoint(checkpoint_in(given.teacher, key=key), key)
        with meta_device():
            backbone = network_in(checkpoint, f"{key}={given.teacher}").backbone
        if backbone.in_channels != channels:
            raise CheckpointError(
                f"{TEACHER}.teacher={given.teacher}: it was trained with "
                f"data.channels={backbone.in_channels}; expected {channels}, as in this run"
            )
        return backbone
    with meta_device():
        backbone = Timm(given.teacher, native=given.kind != "feature", in_channels=channels)
    published = published_weights(given.weights, backbone, f"{TEACHER}.weights")
    fitting_state(published.state, backbone, f"{TEACHER}.weights={given.weights}")
    return backbone
