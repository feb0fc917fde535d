"""Verification of exported files: their outputs are compared with torch's, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from parcnet_train.deploy.exportable import Exportable, as_input
from parcnet_train.deploy.formats.formats import File
from parcnet_train.detection.postprocess import detect
from parcnet_train.detection.types import DetectionOutputs, Detections
from parcnet_train.models.model import Model, scaled

Array = npt.NDArray[Any]

# Classes and objects either match or not. If two scores are nearly equal, rounding decides which
# one is larger, so small shares of the pixels and of the objects may differ.
OTHERS = 1e-3
OTHER_OBJECTS = 1e-2
DIFFER = {"classes": "pixels get a different class", "objects": "objects differ"}
HALF = 1e-2  # mean difference in float16, as a share of the standard deviation
NEAR = 1e-3  # two objects match if scores and relative coordinates differ by less than this


@dataclass
class Difference:
    """Difference between an output of a file and that of torch, over all images so far.

    Attributes:
        maximum: Largest absolute difference.
        total: Sum of the absolute differences.
        count: Number of values.
        sums: Sum of torch's values, and sum of their squares.
    """

    maximum: float = 0.0
    total: float = 0.0
    count: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, expected: Array, found: Array) -> None:
        """Add the outputs for more images."""
        if expected.shape != found.shape:
            self.maximum = self.total = math.inf
            return
        wide = expected.astype(np.float64)
        differences = np.abs(found - wide)
        # Unlike Python's max, np.maximum propagates NaN.
        self.maximum = float(np.maximum(self.maximum, differences.max(initial=0)))
        self.total += float(differences.sum())
        self.count += wide.size
        self.sums = [self.sums[0] + float(wide.sum()), self.sums[1] + float((wide**2).sum())]

    @property
    def mean(self) -> float:
        """Mean absolute difference."""
        return self.total / max(self.count, 1)

    @property
    def spread(self) -> float:
        """Standard deviation of torch's values."""
        first, second = (each / max(self.count, 1) for each in self.sums)
        return math.sqrt(max(second - first**2, 0))

    def is_within(self, tolerance: float) -> bool:
        """Return whether the largest difference is at most a share of the spread."""
        return self.maximum <= tolerance * self.spread


@dataclass
class Others:
    """Count of the classes or objects that differ from those of torch, over all images so far."""

    allowed: float
    others: int = 0
    count: int = 0

    @property
    def share(self) -> float:
        """Share of the classes or objects that differ."""
        return self.others / max(self.count, 1)


class Comparing(nn.Module):
    """Wrapper of a model that compares it with an exported file on every image it is called with.

    Args:
        model: Model as it was trained, not baked.
        network: Network that was exported.
        file: Exported file to compare.
        batch: Whether the file takes more than one image.
    """

    def __init__(self, model: Model, network: Exportable, file: File, batch: bool) -> None:
        super().__init__()
        self.model = model
        self.task, self.decoding, self.argmax = network.task, network.decoding, network.argmax
        self.file, self.batch = file, batch
        self.differences: dict[str, Difference] = {}
        self.others: dict[str, Others] = {}
        self.images = 0

    def forward(self, images: Tensor) -> Any:
        """Return the model's outputs for `(B, 3, H, W)` images, uint8 or float in [0, 1]."""
        images = scaled(images)
        outputs = self.model(images)
        self.images += len(images)
        expected = outputs[:2] if self.task == "detection" else (outputs,)
        if self.decoding is not None:
            self.compare_objects(outputs, images)
        elif self.argmax:
            classes = run(self.file, images, self.batch)[0]
            others = self.others.setdefault("classes", Others(OTHERS))
            others.others += int((classes != outputs.argmax(dim=1).numpy()).sum())
            others.count += classes.size
        else:
            found = run(self.file, images, self.batch)
            for name, theirs, ours in zip(self.file.names, expected, found, strict=True):
                self.differences.setdefault(name, Difference()).add(theirs.numpy(), ours)
        return outputs

    def compare_objects(self, outputs: DetectionOutputs, images: Tensor) -> None:
        """Compare the objects of torch with those of the file, image by image."""
        decoding = self.decoding
        assert decoding is not None  # for the type checker
        others = self.others.setdefault("objects", Others(OTHER_OBJECTS))
        found = detect(
            outputs,
            decoding.score_threshold,
            decoding.nms_iou,
            decoding.candidates,
            decoding.per_image,
        )
        for image, objects in zip(images, found, strict=True):
            theirs = self.file.run(as_input(image[None].numpy(), self.file.metadata))
            others.others += missing(objects, theirs) + abs(
                len(theirs["scores"]) - len(objects.scores)
            )
            others.count += len(objects.scores)

    def faults(self, tolerance: float, precision: str = "float32") -> list[str]:
        """Return one line for everything that exceeds its tolerance.

        Rounded to fewer bits, other numbers are right too. Then only the metric tells whether they
        are good; here, values that are not finite, and large mean differences of float16, are
        faults.

        Args:
            tolerance: Largest difference in float32, as a share of the output's standard deviation.
            precision: Value of `export.precision`.
        """
        if precision != "float32":
            return [
                f"{name} differs by {each.mean:.3g} on average"
                for name, each in self.differences.items()
                if not math.isfinite(each.maximum)
                or (precision == "float16" and each.mean > HALF * each.spread)
            ]
        lines = [
            f"{name} differs by {each.maximum:.3g} (limit {tolerance * each.spread:.3g}, which is "
            f"{tolerance:g} of the output's standard deviation)"
            for name, each in self.differences.items()
            if not each.is_within(tolerance)
        ]
        return lines + [
            f"{each.share:.3%} of the {DIFFER[name]} (limit {each.allowed:.1%})"
            for name, each in self.others.items()
            if each.share > each.allowed
        ]

    def results(self) -> dict[str, float]:
        """Return the entries of `results.json`."""
        results: dict[str, float] = {"export/images": self.images}
        for name, each in self.differences.items():
            results[f"export/max_difference/{name}"] = each.maximum
            results[f"export/mean_difference/{name}"] = each.mean
            results[f"export/spread/{name}"] = each.spread
        for name, of_name in self.others.items():
            results[f"export/others/{name}"] = of_name.share
        return results


class FileModel(nn.Module):
    """Exported file in the form of a model, to compute the metric of its task.

    Args:
        file: Exported file that outputs logits.
        anchors: Anchors of a detector, otherwise None.
        batch: Whether the file takes more than one image.
    """

    def __init__(self, file: File, anchors: Tensor | None, batch: bool) -> None:
        super().__init__()
        self.file, self.anchors, self.batch = file, anchors, batch

    def forward(self, images: Tensor) -> Any:
        """Return the file's outputs for `(B, 3, H, W)` images, uint8 or float in [0, 1]."""
        first, *others = map(torch.from_numpy, run(self.file, scaled(images), self.batch))
        return first if self.anchors is None else DetectionOutputs(first, others[0], self.anchors)


def run(file: File, images: Tensor, batch: bool) -> Sequence[Array]:
    """Return the outputs of a file, in the order of `file.names`."""
    array = as_input(np.ascontiguousarray(images.numpy()), file.metadata)
    parts = [array] if batch else np.split(array, len(array))
    results = [file.run(each) for each in parts]
    return [np.concatenate([each[name] for each in results]) for name in file.names]


def missing(expected: Detections, found: dict[str, Array]) -> int:
    """Count the objects without a counterpart of the same class and nearly the same values."""
    scores = np.abs(expected.scores.numpy()[:, None] - found["scores"]) < NEAR
    boxes = np.abs(expected.boxes.numpy()[:, None] - found["boxes"]).max(axis=-1, initial=0) < NEAR
    labels = expected.labels.numpy()[:, None] == found["labels"]
    return int((~(scores & boxes & labels).any(axis=1)).sum())
