"""Checks of devices and processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from parcnet_train.build import accumulation, height_and_width, make, nodes_of, world_size
from parcnet_train.config.keys import show
from parcnet_train.distributed.processes import place
from parcnet_train.errors import Fault
from parcnet_train.runs.actions import ACTIONS

Config = dict[str, Any]


def wrong_device(config: Config) -> Iterator[Fault]:
    """Report devices and precisions that this machine does not have."""
    trainer = config["trainer"]
    accelerator, devices = trainer["accelerator"], trainer["devices"]
    count = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not count:
        yield (
            Fault(
                "trainer.accelerator",
                f"trainer.accelerator={accelerator}: torch {torch.__version__} finds no GPU. Fix: "
                "set trainer.accelerator=cpu, or install a CUDA build of torch and its driver",
            )
        )
    elif accelerator == "mps" and not torch.backends.mps.is_available():
        yield Fault(
            "trainer.accelerator",
            "trainer.accelerator=mps: torch finds no Apple GPU. Fix: set trainer.accelerator=cpu",
        )
    elif count and accelerator != "cpu" and isinstance(devices, int) and devices > count:
        yield Fault(
            "trainer.devices",
            f"trainer.devices={devices}: the number of GPUs here is {count}; expected 1 to {count}",
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not count)
    if on_cpu and trainer["precision"] == "16-mixed":
        yield Fault(
            "trainer.precision",
            "trainer.precision=16-mixed: it needs a GPU; expected 32-true or bf16-mixed on a CPU",
        )
    if on_cpu and trainer.get("sync_batchnorm"):
        yield (
            Fault(
                "trainer.sync_batchnorm",
                "trainer.sync_batchnorm=true: torch synchronizes BatchNorm only on GPUs. Fix: "
                "leave it out",
            )
        )


def wrong_strategy(config: Config) -> Iterator[Fault]:
    """Report several devices with a trainer that uses only one."""
    trainer = config["trainer"]
    if world_size(config) > 1 and trainer.get("strategy") != "ddp":
        shown = show("trainer.devices", trainer["devices"])
        yield (
            Fault(
                "trainer.devices",
                f"{shown}: trainer={config['choices']['trainer']} uses only one device. Fix: set "
                "trainer=ddp",
            )
        )


def wrong_global_batch(config: Config) -> Iterator[Fault]:
    """Report a global batch that cannot be divided among batches and processes."""
    recipe = config["recipe"]
    images, batch_size = recipe["global_batch"], recipe["batch_size"]
    if images is None or ACTIONS[config["action"]].folder:
        return
    parts = world_size(config) * accumulation(config)
    largest = math.ceil(images / parts)
    least = images
    if recipe["multi_scale"] is not None:
        scales = make(recipe["multi_scale"]).scales(height_and_width(recipe["image_size"]), images)
        least = min(scale.images for scale in scales)
    words = (
        f"recipe.global_batch={images}: {world_size(config)} devices and recipe.accumulate="
        f"{accumulation(config)} divide a step into {parts} batches, of"
    )
    if largest > batch_size:
        yield Fault(
            "recipe.global_batch",
            f"{words} up to {largest} images; expected at most recipe.batch_size={batch_size}. "
            "Fix: recipe.accumulate=auto, or raise recipe.batch_size",
        )
    elif least < 2 * parts:
        yield Fault(
            "recipe.global_batch",
            f"{words} down to {least // parts} images; expected at least 2, since BatchNorm needs "
            "more than one. Fix: raise recipe.global_batch, or use fewer devices",
        )


def wrong_validation(config: Config) -> Iterator[Fault]:
    """Report an interval between validations that is given in both steps and epochs."""
    interval, epochs = (
        config["trainer"][name] for name in ("val_check_interval", "check_val_every_n_epoch")
    )
    if isinstance(interval, int) and epochs != 1:
        yield (
            Fault(
                "trainer.check_val_every_n_epoch",
                f"trainer.check_val_every_n_epoch={epochs}: it cannot be combined with "
                f"trainer.val_check_interval={interval} (optimizer steps); expected 1. Fix: to "
                "give a share of an epoch, write a decimal point: trainer.val_check_interval=1.0",
            )
        )


def wrong_start(config: Config) -> Iterator[Fault]:
    """Report a number of started processes that does not match the configuration."""
    here, nodes = place(), nodes_of(config)
    if not ACTIONS[config["action"]].parallel:
        if here.world_size > 1:
            yield (
                Fault(
                    "action",
                    f"action={config['action']} runs in one process, but {here.started_by} has "
                    f"started {here.world_size}. Fix: run the command without {here.started_by}",
                )
            )
    elif here.is_alone and nodes > 1:
        yield (
            Fault(
                "trainer.num_nodes",
                f"trainer.num_nodes={nodes}: only one process was started. Fix: start torchrun on "
                "each machine, or the tasks of all machines with srun",
            )
        )
    elif not here.is_alone and (world_size(config), nodes) != (here.world_size, here.nodes):
        yield (
            Fault(
                "trainer.devices",
                f"{show('trainer.devices', config['trainer']['devices'])}, "
                f"trainer.num_nodes={nodes}: {here.started_by} has started {here.world_size} "
                f"processes on {here.nodes} machines. Fix: start the same number on each machine, "
                f"and set trainer=ddp trainer.devices={here.local_world_size} "
                f"trainer.num_nodes={here.nodes}",
            )
        )
