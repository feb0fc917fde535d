"""From a checked configuration to objects: the only place that instantiates."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra.utils
import pytorch_lightning as pl
import torch
import torchvision
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from parcnet_train.callbacks.buffers import SharedBuffers
from parcnet_train.callbacks.finite import FiniteLoss, SkipStep
from parcnet_train.callbacks.progress import EveryMinute, Progress, ProgressBar
from parcnet_train.callbacks.saving import (
    BestCheckpoint,
    BestEpochs,
    CheckpointContents,
    LastCheckpoint,
    WholeFiles,
    leave_signals,
)
from parcnet_train.callbacks.steps import EpochLength, SeedStep, ValidationSchedule
from parcnet_train.callbacks.watchdog import Watchdog
from parcnet_train.checkpoints.checkpoints import PRETRAINED, NetworkSpec
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.compat.deferred import DYNAMO, stand_ins
from parcnet_train.compat.malloc import keep_freed_memory
from parcnet_train.config.bounded import Trainer
from parcnet_train.config.sections import (
    IMPLIED,
    Checkpoint,
    Epochs,
    Paths,
    Recipe,
)
from parcnet_train.config.typed import converted, run_spec, section
from parcnet_train.data.channels import RGB
from parcnet_train.distributed.cluster import cluster_environment
from parcnet_train.distributed.processes import place
from parcnet_train.errors import ConfigError, first_line
from parcnet_train.models.backbones.adapt import adapt_input
from parcnet_train.models.base import Backbone
from parcnet_train.models.model import Model
from parcnet_train.optim.finetuning import freeze, parameter_groups
from parcnet_train.runs.actions import ACTIONS
from parcnet_train.runs.directories import BEST, LAST, PROGRESS, checkpoint_of
from parcnet_train.runs.loggers import harmless, wandb_settings, working
from parcnet_train.targets import locate
from parcnet_train.tasks.base import Task

log = logging.getLogger(__name__)
# Lightning tells of devices and products; what a run needs to tell, it tells itself.
for _package in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(_package).setLevel(logging.WARNING)

Config = dict[str, Any]  # a configuration as plain dicts, lists, strings and numbers

# Hydra 1.4 asks which targets may be called: all, since those of a checkpoint are checked before.
UNCHECKED = getattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS", None)
POLICY: Config = {} if UNCHECKED is None else {"_execution_whitelist_": UNCHECKED}

# Settings of the trainer that callbacks follow, in place of Lightning.
SCHEDULED = ("max_steps", "val_check_interval", "check_val_every_n_epoch")
TIMEOUT = "timeout_minutes"  # setting of the trainer that the watchdog follows


def make(config: Config, **arguments: Any) -> Any:
    """Call the `_target_` of a config with its arguments and additional ones.

    Raises:
        ConfigError: If it refuses them.
    """
    try:
        return instantiate(config, _convert_="all", **POLICY, **arguments)
    except InstantiationException as error:
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{config['_target_']}: {reason}") from error


@contextlib.contextmanager
def meta_device() -> Iterator[None]:
    """Build modules without values inside this context; it takes no time and no memory.

    On this device torch computes shapes with Python functions that it keeps from being compiled,
    for which alone it would import its compiler.
    """
    with stand_ins(DYNAMO), torch.device("meta"):
        yield


def build_data(config: Config) -> Any:
    """Build the data module and prepare its files, so that its classes are known.

    With `task.evaluated_classes`, they are the classes of the checkpoint.

    Raises:
        CheckpointError: If that checkpoint cannot be read.
        DataError: If the data do not have the evaluated classes.
    """
    data = make(config["data"])
    data.global_batch = config["recipe"].get("global_batch")
    data.prepare()
    wanted = config["task"].get("evaluated_classes")
    if wanted is not None and config["ckpt"] is not None:
        checkpoint = read_checkpoint(checkpoint_of(run_spec(config)))
        data.evaluate_classes(wanted, checkpoint["class_names"])
    return data


def build_backbone(config: Config) -> Backbone:
    """Build the backbone with random weights; `backbone.pretrained` is read by a training.

    Raises:
        ConfigError: If `head=native` and the network has no classifier of its own.
    """
    settings = {key: value for key, value in config["backbone"].items() if key != PRETRAINED}
    channels = image_channels(config)
    own: dict[str, Any] = {"native": True} if has_native_head(config) else {}
    if own and not getattr(locate(settings), "brings_classifier", False):
        raise ConfigError(
            f"head=native: {settings['_target_']} has no classifier of its own; expected a network "
            "of a library, such as backbone=timm. Fix: head=classifier",
            "head",
        )
    if channels != RGB and "in_channels" in inspect.signature(locate(settings)).parameters:
        own["in_channels"] = channels
    backbone = make(settings, **own)
    if backbone.in_channels != channels:
        adapt_input(backbone, channels)
    return backbone


def image_channels(config: Config) -> int:
    """Return the number of channels of the images that a configuration's data module reads."""
    channels: int = (config.get("data") or {}).get("channels", RGB)
    return channels


def has_native_head(config: Config) -> bool:
    """Return whether the head is the backbone's own classifier."""
    return "head" in config and getattr(locate(config["head"]), "is_native", False)


def build_model(config: Config, num_classes: int) -> Model:
    """Build backbone and head; the head is completed with the backbone's levels."""
    backbone = build_backbone(config)
    own = {"classifier": backbone.classifier(num_classes)} if has_native_head(config) else {}
    head = make(config["head"])(levels=backbone.levels, num_classes=num_classes, **own)
    return Model(backbone, head)


def network_spec(config: Config) -> NetworkSpec:
    """Return how a configuration names its network, to compare it with that of a checkpoint."""
    return NetworkSpec(config["choices"], config["backbone"], config["head"])


def named_classes(config: Config) -> list[str]:
    """Return the dotted names of the classes of backbone and head."""
    return [str(config[part]["_target_"]) for part in ("backbone", "head")]


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and width of an image size, which may be a single number."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def benchmarked_size(config: Config) -> tuple[str, int | list[int]]:
    """Return the key and the value of the size of a benchmark's images.

    Without one it is that of the checkpoint, or else the paper's 256 pixels. A plan is about the
    images of the training.
    """
    if config["benchmark"]["target"] == "plan":
        return "recipe.image_size", config["recipe"]["image_size"]
    size = config["benchmark"]["image_size"]
    if size is None and config["ckpt"] is not None:
        return "recipe.image_size", config["recipe"]["image_size"]
    return "benchmark.image_size", 256 if size is None else size


def published_network(name: str) -> nn.Module:
    """Build a network of another package, with 1000 classes.

    Args:
        name: `torchvision.NAME` or `timm.NAME`.

    Raises:
        ModuleNotFoundError: If timm, which is optional, is not installed.
    """
    package, _, model = name.partition(".")
    if package == "timm":
        timm = importlib.import_module("timm")
        return timm.create_model(model)
    return torchvision.models.get_model(model)


def build_optimizer(config: Config, model: Model) -> Optimizer:
    """Build the optimizer of all trained parameters; its groups have `lr_scale`.

    On CPUs, AdamW's step is one kernel unless `recipe.optimizer` says otherwise: three times as
    fast as PyTorch's own choice there. Lightning cannot clip gradients with it.
    """
    recipe = section(Recipe, config)
    finetuning = recipe.finetuning
    groups = parameter_groups(
        model, finetuning.layer_decay, finetuning.head_lr, recipe.no_weight_decay
    )
    own: dict[str, bool] = {}
    is_chosen = {"fused", "foreach", "differentiable"} & recipe.optimizer.keys()
    clips = config["trainer"].get("gradient_clip_val") is not None
    on_cpu = all(each.device.type == "cpu" for each in model.parameters())
    if locate(recipe.optimizer) is torch.optim.AdamW and on_cpu and not (is_chosen or clips):
        own["fused"] = True
    return make(recipe.optimizer)(groups, **own)


def build_task(config: Config, num_classes: int) -> Task:
    """Build the Lightning module with backbone, head, optimizer and schedule."""
    model = build_model(config, num_classes)
    recipe = section(Recipe, config)
    finetuning = recipe.finetuning
    freeze(model, finetuning.freeze_stages, finetuning.freeze_batchnorm)
    if config["channels_last"]:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config["compile"]:
        model.compile()
    schedule = make(recipe.schedule)
    if isinstance(schedule, functools.partial):
        # Hydra's own partial checks its target in every call, here in every step.
        schedule = functools.partial(schedule.func, *schedule.args, **schedule.keywords)
    return make(
        config["task"],
        model=model,
        num_classes=num_classes,
        optimizer=functools.partial(build_optimizer, config),
        schedule=schedule,
    )


def build_loggers(config: Config) -> list[Logger]:
    """Build the chosen loggers that can be opened; none can stop a training."""
    settings = dict(config["logger"])
    if "wandb" in settings:
        settings["wandb"] = wandb_settings(settings["wandb"], Path(section(Paths, config).output))
    return working(harmless(make(setting)) for setting in settings.values())


def build_callbacks(config: Config, task: Task, contents: Config) -> list[Callback]:
    """Build the callbacks of a training: EMA, guards, the best and the last checkpoint.

    Args:
        config: The whole configuration.
        task: Lightning module, which names the metric to monitor.
        contents: Plain values that every checkpoint carries.
    """
    output, recipe = Path(section(Paths, config).output), section(Recipe, config)
    skips = recipe.on_nan == "skip"
    folder = output / BEST.parent
    log_every, saving = config["trainer"]["log_every_n_steps"], section(Checkpoint, config)
    max_steps, interval, every_n_epochs = (config["trainer"][name] for name in SCHEDULED)
    per_epoch = isinstance(interval, float) and (interval, every_n_epochs) == (1.0, 1)
    callbacks: list[Callback] = [
        EpochLength(max_steps),
        ValidationSchedule(interval, every_n_epochs),
        SeedStep(config["seed"]),
        CheckpointContents(contents),
        FiniteLoss(log_every, reads_steps=not skips),
        Progress(log_every, output / PROGRESS),
        SharedBuffers(),
    ]
    if skips:
        callbacks.append(SkipStep())
    if recipe.ema is not None:
        callbacks.append(make(recipe.ema))
    if saving.keep_best > 1:
        callbacks.append(BestEpochs(folder, saving.keep_best, task.monitor, task.mode, per_epoch))
    return [
        *callbacks,
        *build_own_callbacks(config),
        BestCheckpoint(
            folder,
            filename=BEST.stem,
            monitor=task.monitor,
            mode=task.mode,
            save_on_train_epoch_end=per_epoch,
            enable_version_counter=False,
        ),
        LastCheckpoint(folder / LAST.name, saving.every_n_steps, saving.every_minutes, log_every),
    ]


def build_own_callbacks(config: Config) -> list[Callback]:
    """Build the callbacks of the group `callbacks`.

    Raises:
        ConfigError: If one is no callback.
    """
    callbacks = []
    for name, node in config.get("callbacks", {}).items():
        if node is None:
            continue
        callback = make({"_target_": IMPLIED.get(f"callbacks.{name}"), **node})
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"callbacks.{name}._target_={node['_target_']}: gives {type(callback).__name__}; "
                "expected a pytorch_lightning.Callback"
            )
        callbacks.append(callback)
    return callbacks


def devices_of(config: Config) -> int:
    """Return the number of devices per machine, each with one process."""
    trainer = config["trainer"]
    if trainer["devices"] != "auto":
        return trainer["devices"]
    if not place().is_alone:
        return place().local_world_size
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda")
    return max(1, torch.cuda.device_count()) if on_gpu else 1


def nodes_of(config: Config) -> int:
    """Return the number of machines."""
    nodes = config["trainer"].get("num_nodes", 1)
    return place().nodes if nodes == "auto" else nodes


def world_size(config: Config) -> int:
    """Return the number of processes on all machines."""
    return devices_of(config) * nodes_of(config)


def processes_to_start(config: Config) -> int:
    """Return how many processes to start; 1 if this process does the work itself."""
    is_parallel = ACTIONS[config["action"]].parallel
    return world_size(config) if is_parallel and place().is_alone else 1


def accumulation(config: Config) -> int:
    """Return the batches per optimizer step.

    `auto` means as many as the global batch needs; without a global batch, as many as come closest
    to the reference batch.
    """
    recipe = section(Recipe, config)
    batches = config["trainer"].get("accumulate_grad_batches", recipe.accumulate)
    if batches != "auto":
        return batches
    batch = recipe.batch_size * world_size(config)
    if recipe.global_batch is not None:
        return math.ceil(recipe.global_batch / batch)
    return max(1, round(recipe.reference_batch / batch))


def images_of_step(config: Config) -> int:
    """Return the images of an optimizer step at the base size, over all processes."""
    recipe = section(Recipe, config)
    own = recipe.batch_size * world_size(config) * accumulation(config)
    return recipe.global_batch or own


def precision_of(config: Config) -> str:
    """Return Lightning's name of the precision of training and evaluation."""
    settings = config["trainer"]
    if settings["precision"] != "auto":
        return settings["precision"]
    may_use_gpu = settings["accelerator"] in ("auto", "gpu", "cuda")
    return "16-mixed" if may_use_gpu and torch.cuda.is_available() else "32-true"


def max_epochs(config: Config) -> int | Epochs:
    """Return the number of epochs, or how it follows the size of the set."""
    epochs: int | Epochs = converted(int | Epochs, config["trainer"]["max_epochs"])
    return epochs


def epochs_of(epochs: int | Epochs, images: int) -> int:
    """Return the number of epochs, which may follow the size of the set.

    Args:
        epochs: Number of epochs, or how it follows the size of the set.
        images: Number of training images.
    """
    if isinstance(epochs, int):
        return epochs
    return max(epochs.at_least, math.ceil(epochs.images / images))


def build_trainer(
    config: Config,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    epochs: int | None = None,
    profiler: Profiler | None = None,
) -> pl.Trainer:
    """Build the Trainer of a training or an evaluation.

    Args:
        config: Whole configuration.
        callbacks: Callbacks of the run.
        loggers: None for an evaluation.
        epochs: Number of epochs; None for an evaluation.
        profiler: Profiler, in place of `trainer.profiler`.
    """
    own_keys = (*SCHEDULED, TIMEOUT)
    settings = {name: each for name, each in config["trainer"].items() if name not in own_keys}
    settings["max_epochs"] = epochs
    may_use_gpu = settings["accelerator"] in ("auto", "gpu", "cuda")
    on_cuda = may_use_gpu and torch.cuda.is_available()
    if not on_cuda:
        keep_freed_memory()
    settings["precision"] = precision_of(config)
    settings["accumulate_grad_batches"] = accumulation(config)
    settings["devices"], processes = devices_of(config), world_size(config)
    settings["num_nodes"] = nodes_of(config)
    own: dict[str, Any] = {} if profiler is None else {"profiler": profiler}
    output = Path(section(Paths, config).output)
    minutes = config["trainer"].get(TIMEOUT, Trainer.timeout_minutes)
    if processes == 1:
        settings["strategy"] = "auto"
    else:
        own["strategy"] = DDPStrategy(timeout=timedelta(minutes=minutes + 2))  # after the watchdog
    in_terminal = sys.stdout.isatty()
    # The bar reads the loss, which waits for the device: as often as the loggers do.
    bar = ProgressBar(settings["log_every_n_steps"]) if in_terminal else EveryMinute()
    trainer = make(
        settings,
        logger=list(loggers),
        callbacks=[Watchdog(minutes, output), *callbacks, bar],
        plugins=[WholeFiles(), cluster_environment(processes)],
        default_root_dir=str(output),
        enable_progress_bar=in_terminal,
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,  # our samplers shard by themselves
        num_sanity_val_steps=0,
        **own,
    )
    leave_signals(trainer)
    return trainer
