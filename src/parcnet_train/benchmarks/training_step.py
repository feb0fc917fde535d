"""Timings of a backbone's training step in several settings, and of timm's MobileViT-S."""

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
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.typed import section
from parcnet_train.models.layers.parc import CircularConv

log = logging.getLogger(__name__)

CLASSES = 1000
DTYPES = ("float32", "bfloat16")
RIVAL = "timm.mobilevit_s"


@dataclass(frozen=True)
class Variant:
    """Setting of the training step.

    Attributes:
        network: Name of the network. It ends in `_convolution` if every circular convolution is
            computed as in the paper, and in `_compiled` if torch.compile is used.
        layout: Memory layout of weights and images, a key of `LAYOUTS`.
        dtype: Either float32, or bfloat16 for autocast.
        keeps_memory: Whether the process keeps freed memory for reuse, as in training on CPUs;
            false stands for the default of the C library.
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
) -> tuple[dict[Variant, Timing], dict[Variant, int]]:
    """Time all variants, interleaved; the first one is the reference.

    For a backbone with circular convolutions on a CPU, the reference is the step as the authors'
    release would run it: convolutions as in the paper, NCHW, float32, and the default memory
    settings of the C library. It runs in a separate process, unless all variants have these memory
    settings.

    Args:
        config: Whole configuration.
        size: Height and width of the images, in pixels.
        device: Device to run on.

    Returns:
        The timings, and on GPUs the peak memory of each variant, see `peak_memory`.
    """
    settings = section(Benchmark, config)
    batch, repeats = settings.batch_size, settings.repeats
    steps: dict[Variant, Callable[[], object]] = {}
    with contextlib.ExitStack() as stack:
        keeps_memory = device.type == "cpu" and settings.keep_memory
        if keeps_memory and has_circular_convolutions(config):
            released = Variant(
                reference_name(config["choices"]["backbone"]), "nchw", "float32", keeps_memory=False
            )
            step = OtherProcess(released_step, config, released, batch, size)
            steps[released] = stack.enter_context(step)
        for variant, network in variants_of(config):
            steps[variant] = training_step(network, variant, batch, size, device)
        peaks = {}
        if device.type == "cuda":
            peaks = {variant: peak_memory(step, device) for variant, step in steps.items()}
        return take_turns(steps, repeats, device), peaks


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Return the bytes that a step on a GPU needs beyond weights, gradients and optimizer state."""
    step()  # creates them, and compiles the network if it is to be compiled
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    step()
    return torch.cuda.max_memory_allocated(device) - held


def released_step(
    config: Config, variant: Variant, batch: int, size: tuple[int, int]
) -> Callable[[], None]:
    """Return the training step with the convolution as in the paper, on a CPU."""
    network = build_model(with_convolutions(config), CLASSES)
    return training_step(network, variant, batch, size, torch.device("cpu"))


def with_convolutions(config: Config) -> Config:
    """Return the configuration with every circular convolution computed as in the paper."""
    return {**config, "backbone": {**config["backbone"], "algorithm": "convolution"}}


def reference_name(backbone: str) -> str:
    """Return the name of the network that `with_convolutions` configures."""
    return f"{backbone}_convolution"


def has_circular_convolutions(config: Config) -> bool:
    """Return whether the backbone has circular convolutions whose algorithm can be chosen."""
    if "algorithm" not in config["backbone"]:
        return False
    with meta_device():
        modules = build_model(config, CLASSES).modules()
    return any(isinstance(module, CircularConv) for module in modules)


def variants_of(config: Config) -> Iterator[tuple[Variant, nn.Module]]:
    """Yield the variants with a network for each.

    For a backbone with circular convolutions, the first variant computes them as in the paper, in
    float32 and NCHW. For any other backbone, the first variant is the backbone itself.
    """
    name, settings = config["choices"]["backbone"], section(Benchmark, config)
    variant = partial(Variant, keeps_memory=settings.keep_memory)
    everything = list(itertools.product(LAYOUTS, DTYPES))
    if has_circular_convolutions(config):
        plain = variant(reference_name(name), "nchw", "float32")
        yield plain, build_model(with_convolutions(config), CLASSES)
    for compiled in (False, True) if settings.compile else (False,):
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
            log.warning("%s is left out, because %s is not installed", RIVAL, error.name)


def maybe_compiled(network: nn.Module, compiled: bool) -> nn.Module:
    """Return the network; if `compiled` is true, it is compiled on its first run."""
    if compiled:
        network.compile()
    return network


def training_step(
    network: nn.Module, variant: Variant, batch: int, size: tuple[int, int], device: torch.device
) -> Callable[[], None]:
    """Return a function that runs forward pass, backward pass and AdamW once.

    Args:
        network: Classifier to train.
        variant: Variant that defines layout and dtype.
        batch: Number of images per step.
        size: Height and width of the images, in pixels.
        device: Device to run on.
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


def results_of(
    timings: dict[Variant, Timing], peaks: dict[Variant, int]
) -> Iterator[tuple[str, float]]:
    """Yield the entries of `results.json`."""
    reference = next(iter(timings.values()))
    for variant, timing in timings.items():
        for key, value in timing.results(reference).items():
            yield f"train_step/{variant}/{key}", value
    for variant, peak in peaks.items():
        yield f"train_step/{variant}/peak_bytes", peak
