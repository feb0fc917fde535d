"""Time and memory of COCO's metrics in every installed evaluator, interleaved."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from parcnet_train.benchmarks.timing import Timing, take_turns
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.deploy.standalone.memory import in_status, memory_now
from parcnet_train.detection.evaluation import FoundObjects, coco_metrics
from parcnet_train.detection.evaluators import Evaluator, installed, version_of
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import TrainingError

REFERENCE: Evaluator = "pycocotools"
CLASSES = 80  # COCO's
OBJECTS = 7  # mean number of objects per image, about that of COCO
SIDE = 600  # of the images, in pixels
SIDES = (8, 400)  # range of an object's sides, in pixels; all of COCO's sizes occur
TOLERANCE = 1e-12  # faster_coco_eval omits a summand of 2e-16


@dataclass(frozen=True)
class Comparison:
    """Results of the benchmark.

    Attributes:
        timings: Timings by evaluator.
        differences: Largest difference between a metric and that of pycocotools, by evaluator.
        memory: Peak memory of one evaluation in bytes, without that of annotations and detections,
            by evaluator; None if the system does not report it.
        threads: Threads that hotcoco may use; the other evaluators use one.
    """

    timings: dict[Evaluator, Timing]
    differences: dict[Evaluator, float]
    memory: dict[Evaluator, int | None]
    threads: int

    def results(self) -> Iterator[tuple[str, Any]]:
        """Yield the entries of `results.json`."""
        yield "evaluation/threads", self.threads
        for evaluator, timing in self.timings.items():
            yield f"evaluation/{evaluator}/version", version_of(evaluator).split()[-1]
            for name, value in timing.results(self.timings[REFERENCE]).items():
                yield f"evaluation/{evaluator}/{name}", value
            yield f"evaluation/{evaluator}/difference", self.differences[evaluator]
            yield f"evaluation/{evaluator}/peak_memory_bytes", self.memory[evaluator]


def time_evaluators(images: int, detections: int, repeats: int) -> Comparison:
    """Time all installed evaluators on the same made-up detections, and compare their metrics.

    Args:
        images: Number of images.
        detections: Number of detections per image.
        repeats: Number of timed rounds.

    Raises:
        TrainingError: If the metrics of an evaluator differ from those of pycocotools, or if there
            is too little memory.
    """
    annotations, found = make_detections(images, detections)
    metrics: dict[Evaluator, dict[str, float]] = {}

    def evaluate(evaluator: Evaluator) -> None:
        metrics[evaluator] = coco_metrics(annotations, found, evaluator)

    variants = {each: partial(evaluate, each) for each in installed()}
    timings = take_turns(variants, repeats, torch.device("cpu"))
    differences = compare(metrics)
    memory = {each: peak_memory(each, images, detections) for each in variants}
    threads = int(os.environ.get("RAYON_NUM_THREADS") or own_cores())
    return Comparison(timings, differences, memory, threads)


def compare(metrics: Mapping[Evaluator, Mapping[str, float]]) -> dict[Evaluator, float]:
    """Return the largest difference between the metrics of each evaluator and the reference.

    Raises:
        TrainingError: If one is larger than rounding explains.
    """
    expected = np.array(list(metrics[REFERENCE].values()))
    differences = {}
    for evaluator, values in metrics.items():
        errors = np.abs(np.array(list(values.values())) - expected)
        # Both are NaN if a class has no object.
        missing = np.isnan(expected) & np.isnan(list(values.values()))
        differences[evaluator] = float(np.where(missing, 0, errors).max())
        if not differences[evaluator] <= TOLERANCE:
            raise TrainingError(
                f"the metrics of {version_of(evaluator)} differ from those of "
                f"{version_of(REFERENCE)} by up to {differences[evaluator]:.2g} (limit "
                f"{TOLERANCE:g}). Fix: install another version of {evaluator}"
            )
    return differences


def make_detections(images: int, detections: int) -> tuple[CocoAnnotations, FoundObjects]:
    """Make annotations, and detections of which about a third are near an object.

    Args:
        images: Number of images.
        detections: Number of detections per image.
    """
    random = np.random.default_rng(0)
    counts = random.poisson(OBJECTS, images)
    starts = np.append(0, np.cumsum(counts))

    def boxes(count: int) -> Any:
        least, most = SIDES
        sides = least * (most / least) ** random.random((count, 2))
        return np.hstack([random.uniform(0, SIDE, (count, 2)), sides])

    truth, labels = boxes(starts[-1]), random.integers(1, CLASSES + 1, starts[-1])
    total = images * detections
    found, found_labels = boxes(total), random.integers(1, CLASSES + 1, total)
    owners = np.repeat(np.arange(images), detections)
    near = np.flatnonzero((random.random(total) < 1 / 3) & (counts[owners] > 0))
    objects = starts[owners[near]] + random.integers(0, counts[owners[near]])
    found[near] = truth[objects] * random.normal(1, 0.05, (len(near), 4))
    found_labels[near] = labels[objects]
    annotations = CocoAnnotations(
        class_names=["background", *map(str, range(1, CLASSES + 1))],
        category_ids=np.arange(-1, CLASSES),
        is_parent=np.zeros(CLASSES + 1, dtype=bool),
        files=np.array([f"{image}.jpg".encode() for image in range(images)]),
        image_ids=np.arange(images),
        sizes=np.full((images, 2), SIDE),
        starts=starts,
        boxes=truth,
        labels=labels,
        areas=truth[:, 2] * truth[:, 3],
        is_crowd=random.random(len(truth)) < 0.01,
        entries=np.arange(len(truth)),
    )
    return annotations, FoundObjects(
        images=np.arange(images),
        starts=np.arange(images + 1) * detections,
        boxes=found,
        scores=random.random(total, dtype=np.float32).astype(np.float64),
        labels=found_labels,
    )


def peak_memory(evaluator: Evaluator, images: int, detections: int) -> int | None:
    """Return the peak memory of an evaluation in a process of its own, in bytes.

    Args:
        evaluator: Installed evaluator.
        images: Number of images.
        detections: Number of detections per image.

    Raises:
        TrainingError: If the process ends, in most cases for lack of memory.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_peak_memory, evaluator, images, detections).result()
        except BrokenProcessPool as error:
            raise TrainingError(
                f"the process that measured the memory of {evaluator} was ended. Fix: lower "
                "benchmark.images or benchmark.detections"
            ) from error


def _peak_memory(evaluator: Evaluator, images: int, detections: int) -> int | None:
    coco_metrics(*make_detections(2, 2), evaluator)  # imports the library
    annotations, found = make_detections(images, detections)
    before = memory_now()
    coco_metrics(annotations, found, evaluator)
    return None if before is None else in_status("VmHWM") - before
