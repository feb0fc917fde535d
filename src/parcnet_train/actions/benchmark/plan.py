"""`action=benchmark benchmark.target=plan`: how long a training will take, before it is started."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from parcnet_train.actions.fit import fit
from parcnet_train.benchmarks.plan.estimate import (
    Cost,
    Estimate,
    efficiency,
    estimate,
    largest_useful,
    ring_all_reduce,
    workers_needed,
)
from parcnet_train.benchmarks.plan.timeline import Timeline
from parcnet_train.benchmarks.plan.work import Training
from parcnet_train.build import Config, world_size
from parcnet_train.check.config import check
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.sections import Paths, Recipe
from parcnet_train.config.typed import section
from parcnet_train.deploy.standalone.memory import in_status, memory_now
from parcnet_train.errors import ConfigError
from parcnet_train.report.console.plan import Limits, Memory, Reading, print_limits, print_plan
from parcnet_train.runs.environment import memory

log = logging.getLogger(__name__)

EPOCHS = 2  # of the short training; the first one warms up
AHEAD = 2  # batches that a loader process reads ahead, PyTorch's default
OTHERS = (8, 64)  # numbers of devices that the time is computed for
GIGABYTE = 1e9


def plans(config: Config, device: torch.device) -> Iterator[tuple[str, Any]]:
    """Measure a short training of a configuration, and estimate the whole one from it.

    Raises:
        ConfigError: If a training with this configuration would be refused.
    """
    started = time.process_time()  # of imports: about the time since the process was started
    settings = section(Benchmark, config)
    config = {**config, "action": "fit", "ckpt": None}
    if faults := check(config):
        raise ConfigError(faults)
    training = Training(config)
    ahead = AHEAD * training.data.workers()
    short = training.shortened(EPOCHS, ahead + settings.repeats + 1)
    log.info(
        "measuring a training of %d epochs of %d batches; its files are removed afterwards",
        EPOCHS,
        short.trainer["limit_train_batches"],
    )
    timeline, seconds, used = measure(short.config, device)
    cost = costs(short, timeline, ahead, started + seconds)
    reading = read(training.data, settings.repeats, cost.pace(training.work(1).steps))
    size, bandwidth = training.gradient_bytes(), settings.bandwidth * GIGABYTE

    def of(devices: int) -> Estimate:
        exchange = ring_all_reduce(devices, size, bandwidth)
        return estimate(training.work(devices), cost, exchange)

    counts = sorted({1, world_size(config), *OTHERS})
    works = {devices: training.work(devices) for devices in counts}
    estimates = {devices: of(devices) for devices in counts}
    useful, limited_by = largest_useful(of)
    choices = config["choices"]
    print_plan(
        f"{choices['backbone']} on {choices['data']}, {device.type}",
        estimates,
        works,
        cost,
        section(Recipe, config).reference_batch,
    )
    print_limits(Limits(useful, limited_by, size, bandwidth), used, reading)
    yield "backbone", choices["backbone"]
    yield "data", choices["data"]
    yield "epochs", works[1].epochs
    yield "batch_size", training.data.batch_size
    yield "gradient_bytes", size
    yield "bandwidth", bandwidth
    yield "memory/peak_bytes", used.peak
    yield "memory/total_bytes", used.total
    yield "loader/workers", reading.workers
    yield "loader/workers_needed", reading.needed
    yield "loader/images_per_second", reading.images_per_second
    yield "device/images_per_second", reading.device
    yield "plan/useful_devices", useful
    yield "plan/limited_by", limited_by
    for devices, found in estimates.items():
        for name, part in found.parts().items():
            yield f"plan/{devices}/seconds/{name}", part
        yield f"plan/{devices}/seconds/total", found.total
        yield f"plan/{devices}/bottleneck", found.bottleneck
        yield f"plan/{devices}/efficiency", efficiency(estimates[1], found, devices)
        yield f"plan/{devices}/global_batch", works[devices].global_batch


def measure(config: Config, device: torch.device) -> tuple[Timeline, float, Memory]:
    """Run a training in a folder that is removed afterwards.

    Returns:
        The times of its parts, and of the whole in seconds, and its memory.

    Raises:
        SystemExit: If a signal stops the training.
    """
    timeline, began = Timeline(device), time.perf_counter()
    is_known = forget_peak(device)
    try:
        with tempfile.TemporaryDirectory(dir=section(Paths, config).output) as folder, quiet():
            fit({**config, "paths": {**config["paths"], "output": folder}}, timeline)
    except SystemExit:
        log.warning("stopped while measuring; there is no plan. Fix: repeat the command")
        raise
    return timeline, time.perf_counter() - began, peak_memory(device, is_known)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Print and log only errors: the results of two epochs, and hints about them, would mislead."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def costs(short: Training, timeline: Timeline, ahead: int, seconds: float) -> Cost:
    """Return the costs of a short training.

    Args:
        short: The training.
        timeline: Times of its parts.
        ahead: Number of batches that the loader reads ahead.
        seconds: Time of the whole process so far; what the parts do not explain is fixed.
    """
    epochs = list(short.epochs_of(1))
    cost = Cost.measured(timeline, epochs, short.evaluated(1), ahead)
    saved = sum(len(timeline.saved(epoch)) for epoch in range(EPOCHS))
    explained = estimate(replace(short.work(1), checkpoints=saved), cost).total
    return replace(cost, fixed=max(0.0, seconds - explained))


def read(data: Any, repeats: int, device: float) -> Reading:
    """Measure how fast the loader reads training images if nothing else runs.

    Args:
        data: Data module.
        repeats: Number of batches per loader process to time.
        device: Images per second of the device.
    """
    workers, loader = data.workers(), data.train_dataloader()
    first = min(AHEAD * workers, len(loader) - 1)  # the clock starts when this batch begins
    batches = itertools.islice(loader, first + repeats * max(1, workers))
    images, began = 0, time.perf_counter()
    try:
        for number, batch in enumerate(batches):
            images += len(batch.images)
            if number + 1 == first:
                images, began = 0, time.perf_counter()
        rate = images / (time.perf_counter() - began)
    finally:
        data.end_workers()
    needed = workers_needed(device, rate / max(1, workers))
    return Reading(rate, workers, needed, device)


def forget_peak(device: torch.device) -> bool:
    """Forget the largest memory so far; return whether the system reports it at all."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    return memory_now() is not None


def peak_memory(device: torch.device, is_known: bool) -> Memory:
    """Return the largest memory since `forget_peak`, and all memory of the device.

    Args:
        device: Device of the training.
        is_known: Whether the system reports the largest memory.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(device)
        return Memory(peak, torch.cuda.get_device_properties(device).total_memory)
    total = memory()
    return Memory(
        in_status("VmHWM") if is_known else None, None if total is None else int(total * 2**30)
    )
