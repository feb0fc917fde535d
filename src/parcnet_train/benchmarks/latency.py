"""Inference time per image of several networks in several runtimes, interleaved."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from parcnet_train.benchmarks.exported import (
    Candidate,
    Footprint,
    refuse_missing,
    worker_faults,
    write_files,
)
from parcnet_train.deploy.exportable import OUTPUTS
from parcnet_train.deploy.standalone.timing import (
    ITERATIONS,
    WARMUP,
    in_rounds,
    of_working,
    opened,
    pinned,
    summary,
)
from parcnet_train.deploy.standalone.workers import WorkerError
from parcnet_train.deploy.standalone.write import write_timer
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import counts
from parcnet_train.sizes import Size

log = logging.getLogger(__name__)

(LOGITS,) = OUTPUTS["classification"]
# Rows and columns of the matrices whose product gives the processor's rate, and how often it is
# computed. A matrix has 17 MB, as the weights of ParC-Net-S have.
MATRIX, PRODUCTS = 2048, 5


@dataclass(frozen=True)
class Latencies:
    """Results of the benchmark.

    Attributes:
        size: Height and width of the images, in pixels.
        milliseconds: Duration of every inference of one image, in milliseconds.
        differences: Largest difference between the logits and those of the network as it was
            trained, relative to the standard deviation of the latter.
        footprints: Size, load time and memory of the files.
        multiply_adds: Multiply-adds of one image, by backbone.
        multiply_adds_per_second: Rate of this processor in a float32 matrix product.
        cores: Indices of the cores that the processes were pinned to; None if they were not.
    """

    size: Size
    milliseconds: dict[Candidate, list[float]]
    differences: dict[Candidate, float]
    footprints: dict[Candidate, Footprint]
    multiply_adds: Mapping[str, int]
    multiply_adds_per_second: float
    cores: list[int] | None

    def results(self) -> Iterator[tuple[str, Any]]:
        """Yield the entries of `results.json`."""
        for candidate, times in self.milliseconds.items():
            values = {**summary(times), "difference": self.differences[candidate]}
            values |= asdict(self.footprints[candidate])
            for name, value in values.items():
                yield f"latency/{candidate}/{name}", value
        for (backbone, precision), best in fastest(self.milliseconds).items():
            yield f"best/{backbone}/{precision}", f"{best.form}/{best.runtime}"
        for backbone, count in self.multiply_adds.items():
            yield f"multiply_adds/{backbone}", count
        yield "hardware/multiply_adds_per_second", self.multiply_adds_per_second


def fastest(
    milliseconds: Mapping[Candidate, Sequence[float]], percentile: float = 50
) -> dict[tuple[str, str], Candidate]:
    """Return the fastest form and runtime by backbone and precision, float32 or int8.

    Args:
        milliseconds: Duration of every inference.
        percentile: Percentile of the durations that is compared.
    """
    times = {each: float(np.percentile(t, percentile)) for each, t in milliseconds.items()}
    best: dict[tuple[str, str], Candidate] = {}
    for each, time in times.items():
        key = (each.backbone, each.precision)
        if key not in best or time < times[best[key]]:
            best[key] = each
    return best


def time_networks(
    networks: Mapping[str, Model],
    size: Size,
    candidates: Sequence[Candidate],
    folder: Path,
    threads: int = 1,
    iterations: int = ITERATIONS,
    warmup: int = WARMUP,
) -> Latencies:
    """Write all files, open them, and time them interleaved, one image at a time.

    Each runtime has a process of its own.

    Args:
        networks: Classifiers by name of their backbone.
        size: Height and width of the images, in pixels.
        candidates: Networks, forms and runtimes to time.
        folder: Folder for the files, and for the script that times them on other devices.
        threads: Number of threads per inference, on as many cores.
        iterations: Number of timed rounds.
        warmup: Number of untimed rounds before them.

    Raises:
        ConfigError: If a runtime is not installed.
        TrainingError: If no file can be written, or none can be run; one that cannot is logged.
    """
    refuse_missing(candidates)
    images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    expected = {name: run_network(each.eval(), images) for name, each in networks.items()}
    # For the speed of int8, one calibration image suffices.
    paths = write_files(networks, size, candidates, folder, [images])
    script = write_timer(folder)
    files = {each: (each.runtime, path, images) for each, path in paths.items()}
    with (
        worker_faults(),
        pinned(threads) as cores,
        opened(script, files, threads, leave_out) as working,
    ):
        differences = of_working(
            working,
            lambda each: difference(working[each].outputs()[LOGITS], expected[each.backbone]),
            leave_out,
        )
        runs = {each: working[each].time_once for each in differences}
        times = in_rounds(runs, leave_out, iterations, warmup)
        rate = product_rate(threads)
    return Latencies(
        size,
        times,
        {each: differences[each] for each in times},
        {each: Footprint(**working[each].footprint) for each in times},
        {name: counts(each, size).multiply_adds for name, each in networks.items()},
        rate,
        cores,
    )


def product_rate(threads: int) -> float:
    """Return the multiply-adds per second of a float32 matrix product, the best of several.

    A well-written kernel reaches this rate on this processor; that of a whole network is lower.

    Args:
        threads: Number of threads of the product.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    matrix = torch.ones(MATRIX, MATRIX)
    seconds = []
    for _ in range(PRODUCTS):
        start = perf_counter()
        matrix @ matrix
        seconds.append(perf_counter() - start)
    torch.set_num_threads(before)
    return MATRIX**3 / min(seconds)


def leave_out(candidate: Candidate, error: WorkerError) -> None:
    """Log that a file is left out, since it cannot be run."""
    log.warning("%s is left out: %s", candidate, error)


def run_network(network: Model, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the logits of a torch network."""
    with torch.inference_mode():
        logits: npt.NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return logits


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference, relative to the standard deviation of `expected`."""
    return float(np.abs(found - expected).max() / expected.std())
