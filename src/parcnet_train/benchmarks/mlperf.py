"""Latency of a trained network by MLPerf Mobile's rules for a single stream.

The rules are those of MLPerf Mobile Inference 4.0 (8 May 2025), sections "Performance run" and
"Accuracy run" (github.com/mlcommons/mobile_open, rules/mobile_inference_rules.adoc): the next image
follows when the previous one is done, there are at least 1,024 of them in at least 60 seconds,
drawn with replacement, and the 90th percentile counts. The accuracy of the same file on the whole
validation set must reach a share of that in float32. Unlike there, the networks and data are your
own, several files are interleaved, and an image is prepared before its time begins; the figures are
therefore not MLPerf results.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from parcnet_train.benchmarks.exported import (
    Candidate,
    Footprint,
    worker_faults,
)
from parcnet_train.benchmarks.latency import fastest, leave_out
from parcnet_train.deploy.standalone.timing import opened, pinned, single_stream, summary
from parcnet_train.deploy.standalone.write import write_timer
from parcnet_train.detection.types import DetectionOutputs
from parcnet_train.files import scratch_folder
from parcnet_train.models.model import Model

log = logging.getLogger(__name__)

LEAST_IMAGES, LEAST_SECONDS = 1024, 60.0
PERCENTILE = 90
# Smallest accuracy, as a share of that in float32.
SHARES = {"classification": 0.98, "detection": 0.95, "segmentation": 0.96}
# Images that are drawn from, "performance sample count".
IMAGES = {"classification": 1024, "detection": 256, "segmentation": 256}


class Keeping(nn.Module):
    """Wrapper of a model that keeps the first images that it is called with.

    Args:
        model: Model to wrap.
        count: Number of images to keep; fewer if it is called with fewer.

    Attributes:
        anchors: Anchors of a detector, otherwise None.
    """

    def __init__(self, model: Model, count: int) -> None:
        super().__init__()
        self.model, self.count = model, count
        self.images: list[npt.NDArray[np.uint8]] = []
        self.anchors: Tensor | None = None

    def forward(self, images: Tensor) -> Any:
        """Return the model's outputs for `(B, C, H, W)` images, uint8 or float in [0, 1]."""
        wanted = images[: self.count - len(self.images)]
        if wanted.is_floating_point():  # made from pixels of 8 bits
            wanted = (255 * wanted).round().byte()
        self.images += list(np.ascontiguousarray(wanted.numpy()))
        outputs = self.model(images)
        if isinstance(outputs, DetectionOutputs):
            self.anchors = outputs.anchors
        return outputs

    def kept(self) -> npt.NDArray[np.uint8]:
        """Return the images that were kept, `(N, C, H, W)`."""
        return np.stack(self.images)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a file.

    Attributes:
        value: Metric of the file.
        expected: Metric of the network in float32, in PyTorch.
        least: Smallest share that passes.
    """

    value: float
    expected: float
    least: float

    @property
    def share(self) -> float | None:
        """Metric as a share of that in float32; None if the latter is 0."""
        return self.value / self.expected if self.expected else None

    @property
    def passed(self) -> bool:
        """Whether the share is large enough."""
        return self.share is not None and self.share >= self.least


@dataclass(frozen=True)
class Streams:
    """Results of the benchmark.

    Attributes:
        milliseconds: Duration of every inference, in milliseconds.
        accuracy: Accuracy of the files.
        footprints: Size, load time and memory of the files.
        images: Number of different images.
        cores: Indices of the cores that the processes were pinned to; None if they were not.
    """

    milliseconds: dict[Candidate, list[float]]
    accuracy: Mapping[Candidate, Accuracy]
    footprints: dict[Candidate, Footprint]
    images: int
    cores: list[int] | None

    def fastest(self) -> dict[tuple[str, str], Candidate]:
        """Return the fastest file by backbone and precision, of those that are accurate enough."""
        passed = {k: v for k, v in self.milliseconds.items() if self.accuracy[k].passed}
        return fastest(passed, PERCENTILE)

    def results(self) -> Iterator[tuple[str, Any]]:
        """Yield the entries of `results.json`."""
        yield "images", self.images
        for candidate, times in self.milliseconds.items():
            accuracy = self.accuracy[candidate]
            values = {
                **summary(times),
                "inferences": len(times),
                "seconds": sum(times) / 1e3,
                "accuracy": accuracy.value,
                "accuracy_share": accuracy.share,
                "accuracy_passed": accuracy.passed,
                **asdict(self.footprints[candidate]),
            }
            for name, value in values.items():
                yield f"latency/{candidate}/{name}", value
        for (backbone, precision), best in self.fastest().items():
            yield f"best/{backbone}/{precision}", f"{best.form}/{best.runtime}"


def time_files(
    paths: Mapping[Candidate, Path],
    images: npt.NDArray[np.uint8],
    folder: Path,
    threads: int,
    accuracy: Mapping[Candidate, Accuracy],
) -> Streams:
    """Time files in a single stream, interleaved in blocks; each runtime has its own process.

    Args:
        paths: Path that a runtime opens, by candidate.
        images: Images `(N, C, H, W)`.
        folder: Folder for the script that times the files on other devices.
        threads: Number of threads per inference, on as many cores.
        accuracy: Accuracy of the files.

    Raises:
        TrainingError: If no file can be run; one that cannot is logged.
    """
    script = write_timer(folder)
    with worker_faults(), scratch_folder() as scratch, pinned(threads) as cores:
        library = scratch / "images.npy"
        np.save(library, images)
        files = {each: (each.runtime, path, str(library)) for each, path in paths.items()}
        with opened(script, files, threads, leave_out) as working:
            log.info(
                "timing %d files, interleaved, at least %g s each", len(working), LEAST_SECONDS
            )
            runs = {each: file.time for each, file in working.items()}
            times = single_stream(runs, leave_out, len(images), LEAST_IMAGES, LEAST_SECONDS)
    kept = {each: Footprint(**working[each].footprint) for each in times}
    return Streams(times, accuracy, kept, len(images), cores)
