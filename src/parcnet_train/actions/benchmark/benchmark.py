"""`action=benchmark`: timings of parts of the training and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from parcnet_train.actions.benchmark.latency import composed, latencies
from parcnet_train.actions.benchmark.mlperf import streams
from parcnet_train.actions.benchmark.plan import plans
from parcnet_train.actions.results import Results, about
from parcnet_train.benchmarks import (
    detection,
    distillation,
    evaluation,
    loader,
    operator,
    overhead,
    training_step,
)
from parcnet_train.benchmarks.timing import device_of, hardware
from parcnet_train.build import Config, benchmarked_size, build_data, height_and_width
from parcnet_train.compat.malloc import keep_freed_memory
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.sections import Paths, Recipe
from parcnet_train.config.typed import section
from parcnet_train.deploy.standalone.timing import version_of
from parcnet_train.report.console.timings import (
    print_detection,
    print_distillation,
    print_evaluators,
    print_loaders,
    print_operators,
    print_overheads,
    print_steps,
)
from parcnet_train.runs.directories import write_results


def benchmark(config: Config) -> Results:
    """Print times and their ratios, and write `results.json`.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs. It may
            be that of a checkpoint, whose weights are read only for MLPerf's protocol: no other
            time depends on them. Data are read to time the loader and the overhead, and for that
            protocol.

    Returns:
        What `results.json` holds.
    """
    pl.seed_everything(config["seed"], verbose=False)
    settings = section(Benchmark, config)
    is_stream = settings.protocol == "mlperf_mobile"
    # Latencies are those of devices without a GPU, and no evaluator uses one.
    on_cpu = settings.target in ("latency", "evaluation")
    device = device_of("cpu" if on_cpu else config["trainer"]["accelerator"])
    # The ordinary loader has the memory of an ordinary process, and so have files on a device.
    computes = device.type == "cpu" and settings.target not in ("loader", "latency")
    keeps_memory = computes and settings.keep_memory and keep_freed_memory()
    targets: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
        "operator": partial(operators, settings.repeats, device),
        "train_step": partial(steps, config, device),
        "loader": partial(loaders, config),
        "overhead": partial(overheads, config, device),
        "detection": partial(detectors, config, device),
        "evaluation": partial(evaluators, settings),
        "distillation": partial(teachers, config, device),
        "plan": partial(plans, config, device),
        "latency": partial(streams if is_stream else latencies, config),
    }
    results = {
        **about(config),
        "target": settings.target,
        "repeats": settings.repeats,
        "keeps_memory": keeps_memory,
        **hardware(device),
        "timm_version": version_of("timm"),
        **dict(targets[settings.target]()),
    }
    write_results(Path(section(Paths, config).output), results)
    return results


def operators(repeats: int, device: torch.device) -> Iterator[tuple[str, Any]]:
    """Time the circular convolution at every shape."""
    for shape in operator.SHAPES:
        timings = operator.time_operators(shape, repeats, device)
        print_operators(shape, timings)
        yield from operator.results_of(shape, timings)


def steps(config: Config, device: torch.device) -> Iterator[tuple[str, Any]]:
    """Time the training step of the composed network."""
    settings = section(Benchmark, config)
    size = height_and_width(benchmarked_size(config)[1])
    timings, peaks = training_step.time_steps(config, size, device)
    title = f"training step, {settings.batch_size} x 3 x {size[0]} x {size[1]}, {device.type}"
    print_steps(title, timings)
    yield "backbone", config["choices"]["backbone"]
    yield "batch_size", settings.batch_size
    yield "image_size", list(size)
    yield from training_step.results_of(timings, peaks)


def loaders(config: Config) -> Iterator[tuple[str, Any]]:
    """Time the loading of the training images."""
    data = build_data(config)
    speeds = loader.time_loaders(data, section(Benchmark, config).repeats)
    height, width = data.image_size
    print_loaders(
        f"loading, {data.batch_size} x 3 x {height} x {width}, {speeds.workers} workers", speeds
    )
    yield "data", config["choices"]["data"]
    yield "num_workers", speeds.workers
    yield "batch_size", data.batch_size
    yield "image_size", [height, width]
    yield "images_per_turn", speeds.images
    yield from loader.results_of(speeds)


def overheads(config: Config, device: torch.device) -> Iterator[tuple[str, Any]]:
    """Time training steps in the framework, and in a bare loop."""
    timings = overhead.time_overhead(config, device)
    recipe = section(Recipe, config)
    print_overheads(
        f"training step, batch {recipe.batch_size}, {config['choices']['backbone']} on "
        f"{config['choices']['data']}, {device.type}",
        timings,
    )
    yield "backbone", config["choices"]["backbone"]
    yield "data", config["choices"]["data"]
    yield "batch_size", recipe.batch_size
    yield "image_size", recipe.image_size
    yield from overhead.results_of(timings)


def detectors(config: Config, device: torch.device) -> Iterator[tuple[str, Any]]:
    """Time matching, loss and post-processing of the composed detector."""
    settings = section(Benchmark, config)
    size = height_and_width(benchmarked_size(config)[1])
    parts = detection.time_detection(config, size, device)
    images = f"{settings.batch_size} x 3 x {size[0]} x {size[1]}"
    print_detection(f"{config['choices']['backbone']}, {images}, {device.type}", parts)
    yield "backbone", config["choices"]["backbone"]
    yield "batch_size", settings.batch_size
    yield "image_size", list(size)
    yield from detection.results_of(parts)


def evaluators(settings: Benchmark) -> Iterator[tuple[str, Any]]:
    """Time COCO's metrics in every installed evaluator."""
    found = evaluation.time_evaluators(settings.images, settings.detections, settings.repeats)
    print_evaluators(
        f"COCO's metrics, {settings.images} x {settings.detections} detections, "
        f"{evaluation.CLASSES} classes, threads of hotcoco: {found.threads}",
        found,
    )
    yield "images", settings.images
    yield "detections", settings.detections
    yield "classes", evaluation.CLASSES
    yield from found.results()


def teachers(config: Config, device: torch.device) -> Iterator[tuple[str, Any]]:
    """Time the training step of the composed network with and without a teacher.

    Raises:
        ConfigError: If there is no such backbone.
    """
    settings = section(Benchmark, config)
    size = height_and_width(benchmarked_size(config)[1])
    of_teacher = composed([settings.teacher], size, "benchmark.teacher")[settings.teacher]
    cost = distillation.time_teacher(config, of_teacher, size, device)
    images = f"{settings.batch_size} x 3 x {size[0]} x {size[1]}"
    student = config["choices"]["backbone"]
    print_distillation(f"{student} learns from {settings.teacher}, {images}, {device.type}", cost)
    yield "backbone", student
    yield "teacher", settings.teacher
    yield "batch_size", settings.batch_size
    yield "image_size", list(size)
    yield from cost.results()
