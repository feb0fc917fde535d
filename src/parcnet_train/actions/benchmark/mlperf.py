"""`benchmark.protocol=mlperf_mobile`: latency and accuracy of a trained network in each runtime."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parcnet_train.actions.benchmark.latency import FOLDER, candidates_of, refuse_threads
from parcnet_train.actions.export.export import on_cpu, read
from parcnet_train.actions.export.int8 import ranges_from
from parcnet_train.actions.export.verify import evaluate
from parcnet_train.benchmarks.exported import (
    INT8,
    Candidate,
    refuse_missing,
    write_files,
)
from parcnet_train.benchmarks.mlperf import IMAGES, SHARES, Accuracy, Keeping, time_files
from parcnet_train.build import Config, height_and_width
from parcnet_train.config.action_sections import Benchmark, Export
from parcnet_train.config.sections import Paths, Recipe
from parcnet_train.config.typed import run_spec, section
from parcnet_train.deploy.exportable import Scheme
from parcnet_train.deploy.formats.verify import FileModel
from parcnet_train.deploy.standalone.timing import machine
from parcnet_train.predict.tasks import predictor_of
from parcnet_train.report.console.mlperf import print_streams
from parcnet_train.runs.directories import checkpoint_of
from parcnet_train.tasks.base import Task

log = logging.getLogger(__name__)


def streams(config: Config) -> Iterator[tuple[str, Any]]:
    """Time a trained network in all runtimes by the rules of MLPerf Mobile.

    Detectors are timed without their decoding.

    Raises:
        ConfigError: If a runtime is not installed or lacks a wanted form, or there are fewer cores
            than threads.
        DataError: If an image cannot be read.
        TrainingError: If no file can be written, or one cannot be run.
    """
    settings, output = section(Benchmark, config), Path(section(Paths, config).output)
    refuse_threads(settings.threads)
    task_name, backbone = config["choices"]["task"], config["choices"]["backbone"]
    candidates = candidates_of([backbone], settings.forms, settings.runtimes)
    refuse_missing(candidates)
    config = of_export(config)
    size = height_and_width(section(Recipe, config).image_size)
    model, class_names, evaluation = read(config, may_lack_data=False)
    assert evaluation is not None  # this protocol reads data
    data, task = evaluation
    predictor = predictor_of(task_name, class_names, size, config["task"], config["data"])
    assert predictor is not None  # `check` refuses other tasks
    export, may_skip = section(Export, config), config["data"].get("on_error") == "skip"
    paths = write_files(
        {backbone: model},
        size,
        candidates,
        output / FOLDER,
        ranges_from(export, model, predictor, data, may_skip) if INT8 in settings.forms else [],
        Scheme(export.symmetric, export.percentile),
        class_names,
        predictor.about(),
    )
    keeping = Keeping(model, IMAGES[task_name])
    expected = evaluate(config, keeping, data, task, None)[task.monitor]
    found = accuracies(config, paths, keeping, data, task, expected)
    accuracy = {each: Accuracy(value, expected, SHARES[task_name]) for each, value in found.items()}
    timed = time_files(paths, keeping.kept(), output / FOLDER, settings.threads, accuracy)
    about = machine(settings.threads, timed.cores)
    title = f"{backbone}, {task_name}, {size[0]}x{size[1]}, {about['hardware/cpu']}"
    print_streams(f"{title}, {settings.threads} threads", task.monitor, timed)
    print(f"files, and a script that times them elsewhere: {output / FOLDER}")
    yield from about.items()
    yield "protocol", settings.protocol
    yield "task", task_name
    yield "backbone", backbone
    yield "checkpoint", str(checkpoint_of(run_spec(config)))
    yield "image_size", list(size)
    yield "metric", task.monitor
    yield "accuracy_pytorch", expected
    yield from timed.results()


def of_export(config: Config) -> Config:
    """Return the configuration of an export at the benchmark's image size.

    An evaluation reads the whole validation set: the rules count no part of it.
    """
    config = copy.deepcopy(config)
    config["trainer"]["limit_val_batches"] = 1.0
    config["export"].update(size=config["benchmark"]["image_size"], decode=False, argmax=False)
    return on_cpu(config)


def accuracies(
    config: Config,
    paths: Mapping[Candidate, Path],
    keeping: Keeping,
    data: Any,
    task: Task,
    expected: float,
) -> dict[Candidate, float]:
    """Return the metric of each file on the whole validation set, run by its own runtime.

    Args:
        config: Whole configuration, for the trainers of the evaluations.
        paths: Path that a runtime opens, by candidate.
        keeping: Network in float32 after its evaluation.
        data: Data module.
        task: Task of the network.
        expected: Metric of the network in float32, for the log.
    """
    found = {}
    for each, path in paths.items():
        file = each.format.open(path, section(Benchmark, config).threads)
        metrics = evaluate(config, FileModel(file, keeping.anchors, False), data, task, None)
        found[each] = metrics[task.monitor]
        log.info("%s: %s is %.4f, PyTorch has %.4f", each, task.monitor, found[each], expected)
    return found
