"""Times the training step of a backbone against other settings and against timm's MobileViT-S."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from parcnet_train.benchmarks.other_process import OtherProcess
from parcnet_train.benchmarks.timing import LAYOUTS, Timing, take_turns
from parcnet_train.build import Config, build_model, meta_device, published_network
from parcnet_train.models.layers.parc import CircularConv

log = logging.getLogger(__name__)

CLASSES = 1000
DTYPES = ("float32", "bfloat16")
RIVAL = "timm.mobilevit_s"


@dataclass(frozen=True)
class Variant:
    """A setting of the training step.

    Attributes:
        network: a name, which ends in `_convolution` where every circular convolution is computed
            as the paper writes it, and in `_compiled` where torch.compile was used.
        layout: of weights and images, key of `LAYOUTS`.
        dtype: float32, or bfloat16 for autocast.
        keeps_memory: whether freed memory is used again, as in training on CPUs; false leaves it to
            the C library.
    """

    network: str
    layout: str
    dtype: str
    keeps_memory: bool = True

    def __str__(self) -> str:
        name = f"{self.network}/{self.layout}/{self.dtype}"
        return name if self.keeps_memory else f"{name}/system_memory"


def time_steps(
    config: Config, size: tuple[int, int], device: torch.device
) -> dict[Variant, Timing]:
    """Times all variants in turn; the first one is the reference.

    With circular convolutions on a CPU, that is the step as the release would run it: convolutions
    as the paper writes them, NCHW, float32, and memory as the C library has it; in a process of its
    own, unless all have memory so.

    Args:
        config: the whole configuration.
        size: height and width of the images, in pixels.
        device: where to.
    """
    batch, repeats = config["benchmark"]["batch_size"], config["benchmark"]["repeats"]
    steps: dict[Variant, Callable[[], object]] = {}
    with contextlib.ExitStack() as stack:
        keeps_memory = device.type == "cpu" and config["benchmark"]["keep_memory"]
        if keeps_memory and has_circular_convolutions(config):
            released = Variant(reference_name(config), "nchw", "float32", keeps_memory=False)
            step = OtherProcess(released_step, config, released, batch, size)
            steps[released] = stack.enter_context(step)
        for variant, network in variants_of(config):
            steps[variant] = training_step(network, variant, batch, size, device)
        return take_turns(steps, repeats, device)


def released_step(
    config: Config, variant: Variant, batch: int, size: tuple[int, int]
) -> Callable[[], None]:
    """The step with the convolution as the paper writes it, on a CPU."""
    network = build_model(with_convolutions(config), CLASSES)
    return training_step(network, variant, batch, size, torch.device("cpu"))


def with_convolutions(config: Config) -> Config:
    """The configuration with every circular convolution as the paper writes it."""
    return {**config, "backbone": {**config["backbone"], "algorithm": "convolution"}}


def reference_name(config: Config) -> str:
    """Of the network of `with_convolutions`."""
    return f"{config['choices']['backbone']}_convolution"


def has_circular_convolutions(config: Config) -> bool:
    """Whether the backbone has any whose algorithm can be chosen."""
    if "algorithm" not in config["backbone"]:
        return False
    with meta_device():
        modules = build_model(config, CLASSES).modules()
    return any(isinstance(module, CircularConv) for module in modules)


def variants_of(config: Config) -> Iterator[tuple[Variant, nn.Module]]:
    """The variants with a network for each.

    A backbone with circular convolutions starts with them as the paper writes them, in float32 and
    NCHW; any other one with itself.
    """
    name = config["choices"]["backbone"]
    variant = partial(Variant, keeps_memory=config["benchmark"]["keep_memory"])
    everything = list(itertools.product(LAYOUTS, DTYPES))
    if has_circular_convolutions(config):
        plain = variant(reference_name(config), "nchw", "float32")
        yield plain, build_model(with_convolutions(config), CLASSES)
    for compiled in (False, True) if config["benchmark"]["compile"] else (False,):
        suffix = "_compiled" if compiled else ""
        for layout, dtype in everything:
            yield (
                variant(name + suffix, layout, dtype),
                maybe_compiled(build_model(config, CLASSES), compiled),
            )
        try:
            for layout, dtype in everything:
                rival = maybe_compiled(published_network(RIVAL), compiled)
                yield variant(RIVAL + suffix, layout, dtype), rival
        except ModuleNotFoundError as error:
            log.warning("%s is left out: %s is not installed", RIVAL, error.name)


def maybe_compiled(network: nn.Module, compiled: bool) -> nn.Module:
    """The network, to be compiled when it first runs where that is wanted."""
    if compiled:
        network.compile()
    return network


def training_step(
    network: nn.Module, variant: Variant, batch: int, size: tuple[int, int], device: torch.device
) -> Callable[[], None]:
    """A function that runs forward, backward and AdamW once.

    Args:
        network: a classifier.
        variant: its layout and dtype.
        batch: images per step.
        size: their height and width in pixels.
        device: where to.
    """
    layout: Any = LAYOUTS[variant.layout]
    network.train().to(device).to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.rand(batch, 3, *size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(CLASSES, (batch,), device=device)
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.dtype == "bfloat16"):
            loss = functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def results_of(timings: dict[Variant, Timing]) -> Iterator[tuple[str, float]]:
    """Keys and values for `results.json`."""
    reference = next(iter(timings.values()))
    for variant, timing in timings.items():
        for key, value in timing.results(reference).items():
            yield f"train_step/{variant}/{key}", value
