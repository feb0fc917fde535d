"""`action=benchmark benchmark.target=latency`: the time per image in the runtimes of devices."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from parcnet_train.benchmarks.exported import INT8, INT8_RUNTIMES, Candidate
from parcnet_train.benchmarks.latency import time_networks
from parcnet_train.build import Config, benchmarked_size, build_model, height_and_width
from parcnet_train.check.config import check
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.compose import compose_plain
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.deploy.standalone.timing import machine
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import ConfigError, Fault
from parcnet_train.report.console.latency import (
    PICTURE,
    draw_latencies,
    print_latencies,
    print_table3,
    table3_results,
)

log = logging.getLogger(__name__)

CLASSES = 1000
# Backbones of the paper's Table 3.
TABLE_3 = (
    *("mobilevit_s", "parcnet_s", "resnet50", "parc_resnet50", "mobilenetv2", "parc_mobilenetv2"),
    *("convnext_xt", "parc_convnext_xt"),
)
FOLDER = "models"  # of a run: all files, and a script that times them elsewhere


def latencies(config: Config) -> Iterator[tuple[str, Any]]:
    """Time all networks in all runtimes.

    Raises:
        ConfigError: If there is no such backbone, a runtime is not installed or lacks a wanted
            form, or there are fewer cores than threads.
    """
    settings, output = section(Benchmark, config), Path(section(Paths, config).output)
    size, threads = height_and_width(benchmarked_size(config)[1]), settings.threads
    refuse_threads(threads)
    is_own = settings.backbones is None and config["ckpt"] is not None
    own = config["choices"]["backbone"]
    names = [own] if is_own else list(dict.fromkeys(settings.backbones or TABLE_3))
    candidates = candidates_of(names, settings.forms, settings.runtimes)
    configs = {own: config} if is_own else composed(names, size)
    found = time_networks(
        {name: build_model(each, CLASSES) for name, each in configs.items()},
        size,
        candidates,
        output / FOLDER,
        threads,
        settings.iterations,
    )
    about = machine(threads, found.cores)
    title = f"1 x 3 x {size[0]} x {size[1]}, {about['hardware/cpu']}, {threads} threads"
    print_latencies(title, found)
    print_table3(found)
    draw_latencies(title, found, output / PICTURE)
    print(f"files, and a script that times them elsewhere: {output / FOLDER}")
    yield from about.items()
    yield "protocol", settings.protocol
    yield "iterations", settings.iterations
    yield "image_size", list(size)
    yield from found.results()
    yield from table3_results(found)


def refuse_threads(threads: int) -> None:
    """Refuse more threads than this process has cores.

    Raises:
        ConfigError: If there are more.
    """
    if threads > own_cores():
        raise ConfigError(
            f"benchmark.threads={threads}: expected 1 to {own_cores()}, the cores of this process"
        )


def candidates_of(
    names: Sequence[str], forms: Sequence[str], runtimes: Sequence[str]
) -> list[Candidate]:
    """Return what is timed: every combination, but int8 only in runtimes that have it.

    The runtimes without int8 are logged.

    Raises:
        ConfigError: If int8 is wanted and no runtime has it.
    """
    if INT8 in forms and not set(INT8_RUNTIMES).intersection(runtimes):
        raise ConfigError(
            f"benchmark.forms: int8 is timed in {', '.join(INT8_RUNTIMES)}. Fix: add one to "
            "benchmark.runtimes"
        )
    others = [each for each in runtimes if each not in INT8_RUNTIMES]
    if INT8 in forms and others:
        log.info("benchmark.forms: int8 is not timed in %s", ", ".join(others))
    return [
        Candidate(*each)
        for each in product(names, forms, runtimes)
        if each[1] != INT8 or each[2] in INT8_RUNTIMES
    ]


def composed(
    names: Sequence[str], size: tuple[int, int], key: str = "benchmark.backbones"
) -> dict[str, Config]:
    """Return the configurations of the named backbones, by their names.

    Args:
        names: Names of backbones.
        size: Height and width of the images, in pixels.
        key: Key that has the names, for messages.

    Raises:
        ConfigError: If one has a fault; the message lists the faults of all.
    """
    names = list(dict.fromkeys(names))
    wanted = ["action=profile", f"profile.image_size=[{size[0]},{size[1]}]"]
    plains = [compose_plain([*wanted, f"backbone={name}"]) for name in names]
    faults = [
        Fault(key, f"{key}={name}: {fault}")
        for name, plain in zip(names, plains, strict=True)
        for fault in plain.faults or check(plain.values, plain.borrowed)
    ]
    if faults:
        raise ConfigError(faults)
    return {name: plain.values for name, plain in zip(names, plains, strict=True)}
