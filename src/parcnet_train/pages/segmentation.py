"""Quality of a segmentation on a page: IoU and confusion of classes, boundaries, examples."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.distributed.collectives import total
from parcnet_train.errors import DataError
from parcnet_train.pages.classification import most_wrong, percent
from parcnet_train.pages.data import name_of
from parcnet_train.pages.figures import MOST_CLASSES, bars, matrix
from parcnet_train.pages.parts import MOST_IMAGES, Block, Drawing, Table
from parcnet_train.segmentation.boundary import LIMITS, boundary_distance, errors_by_distance
from parcnet_train.segmentation.iou import intersection_over_union
from parcnet_train.visualize.class_maps import draw_classes
from parcnet_train.visualize.pictures import MARGIN, WHITE, Picture, encode, resize

MEASURED = 64  # images of every process whose boundaries are measured, which takes time
NEAR = 4  # pixels from a boundary within which an error is drawn as one of the boundary
AT_BOUNDARY, ELSEWHERE = (255, 190, 0), (224, 32, 32)  # colors of errors

Mask = npt.NDArray[np.uint8]


class Example(NamedTuple):
    """A predicted class map."""

    wrong: float  # share of wrong pixels
    sample: int
    found: Mask  # (h, w)


class Evaluated(NamedTuple):
    """What an evaluation found."""

    confusion: npt.NDArray[np.int64]  # (K, K) pixels by true and by predicted class
    by_distance: npt.NDArray[np.int64]  # (ranges, 2) pixels and wrong pixels
    measured: int  # images whose boundaries were measured
    best: list[Example]  # of the first process
    worst: list[Example]


class Collector:
    """The best and the worst images of an evaluation, and errors at boundaries.

    Class maps are large, so only those of the examples are kept, and only of the first process.
    """

    def __init__(self) -> None:
        self.by_distance = np.zeros((len(LIMITS) + 1, 2), np.int64)
        self.measured = 0
        self.best: list[Example] = []
        self.worst: list[Example] = []

    def update(self, batch: SegmentationBatch, outputs: dict[str, list[Tensor]]) -> None:
        """Add a batch and the result of `validation_step` for it."""
        found, samples = outputs["classes"], batch.samples.tolist()
        pairs = zip(found, batch.originals, strict=True)
        shares = torch.stack([wrong_share(each, truth) for each, truth in pairs]).tolist()
        for wrong, sample, classes, truth in zip(
            shares, samples, found, batch.originals, strict=True
        ):
            if sample == PADDING or wrong != wrong:
                continue
            if self.measured < MEASURED:
                self.by_distance += errors_by_distance(array(classes), array(truth))
                self.measured += 1
            self.keep(self.best, wrong, sample, classes)
            self.keep(self.worst, -wrong, sample, classes)

    @staticmethod
    def keep(kept: list[Example], rank: float, sample: int, classes: Tensor) -> None:
        """Insert an image into a list sorted by rank, and drop the last one beyond the limit."""
        if len(kept) == MOST_IMAGES and (rank, sample) > kept[-1][:2]:
            return
        place = bisect.bisect([each[:2] for each in kept], (rank, sample))
        kept.insert(place, Example(rank, sample, array(classes)))
        del kept[MOST_IMAGES:]

    def compute(self, task: Any) -> Evaluated:
        """Return what all processes counted, and the examples of this one."""
        counts = total(torch.from_numpy(self.by_distance).to(task.device))
        measured = total(torch.tensor(self.measured, device=task.device))
        confusion = task.confusion.compute().cpu().numpy()
        worst = [each._replace(wrong=-each.wrong) for each in self.worst]
        return Evaluated(confusion, counts.cpu().numpy(), int(measured), self.best, worst)


def array(mask: Tensor) -> Mask:
    """Return a class map as an array."""
    return mask.cpu().numpy().astype(np.uint8)


def wrong_share(found: Tensor, truth: Tensor) -> Tensor:
    """Return the share of the labeled pixels with a wrong class, a scalar; NaN without any."""
    labeled = truth != IGNORED
    return ((found != truth) & labeled).sum() / labeled.sum()


def blocks(found: Evaluated, task: Any, data: Any) -> tuple[list[Block], list[Block]]:
    """Return how good the class maps are, per class and at boundaries, and examples."""
    names = list(data.class_names)
    quality = [iou_block(found, names), confusion_block(found, names), boundary_block(found)]
    return quality, example_blocks(found, task.pictures, data)


def iou_block(found: Evaluated, names: Sequence[str]) -> Block:
    """Return the IoU of every class, the worst first."""
    confusion = found.confusion
    shares = intersection_over_union(torch.from_numpy(confusion)).numpy()
    order = np.argsort(np.nan_to_num(shares, nan=2), kind="stable").tolist()
    shown = order[:MOST_CLASSES]
    title = "IoU of the worst classes, %" if len(order) > len(shown) else "IoU per class, %"
    figure = bars(title, [names[n] for n in shown], {"IoU": 100 * shares[shown]}, "%", "{:.1f}")
    with np.errstate(invalid="ignore"):
        recall = confusion.diagonal() / confusion.sum(axis=1)
        precision = confusion.diagonal() / confusion.sum(axis=0)
    rows = [
        [
            names[n],
            f"{confusion[n].sum():,}",
            *(percent(float(each[n])) for each in (shares, precision, recall)),
        ]
        for n in order
    ]
    text = f"The class with the lowest IoU is {names[order[0]]} at {percent(shares[order[0]])}."
    drawing = Drawing("iou", figure, f"Bars: IoU per class, the worst first. {text}")
    table = Table(("class", "pixels", "IoU", "precision", "recall"), rows)
    return Block("Per class", text, [drawing], table)


def confusion_block(found: Evaluated, names: Sequence[str]) -> Block:
    """Return the confusion matrix as shares of the true classes."""
    shown = most_wrong(found.confusion)
    part = found.confusion[np.ix_(shown, shown)]
    pixels = found.confusion.sum(axis=1)
    shares = 100 * part / np.maximum(pixels[shown][:, None], 1)
    which = "all classes" if len(shown) == len(names) else f"{len(shown)} classes"
    wrong = found.confusion - np.diag(found.confusion.diagonal())
    true, seen = divmod(int(wrong.argmax()), len(wrong))
    text = (
        f"Shares of the pixels of a class, {which}. Most wrong pixels are of {names[true]}, "
        f"predicted as {names[seen]}: {percent(wrong[true, seen] / max(1, pixels[true]))} of it."
    )
    title = "Share of the true class, %"
    figure = matrix(title, shares, [names[n] for n in shown], "predicted", "true")
    return Block("Confusion", text, [Drawing("confusion_normalized", figure, text)])


def boundary_block(found: Evaluated) -> Block:
    """Return how the errors depend on the distance from the true boundaries."""
    pixels, wrong = found.by_distance.T
    with np.errstate(invalid="ignore"):
        shares = 100 * wrong / pixels
    edges = [0, *LIMITS]
    ranges = [f"{a} to {b}" for a, b in zip(edges, LIMITS, strict=False)] + [f"from {LIMITS[-1]}"]
    figure = bars("Wrong pixels, %", ranges, {"": shares}, "%", "{:.1f}")
    of_errors = 100 * wrong[:2].sum() / max(1, wrong.sum())
    of_pixels = 100 * pixels[:2].sum() / max(1, pixels.sum())
    text = (
        f"Distance from the nearest boundary between true classes, in pixels, in "
        f"{found.measured} images. {of_errors:.0f} % of the errors are closer than {LIMITS[1]} "
        f"pixels, where {of_pixels:.0f} % of the pixels are."
    )
    rows = [
        [name, f"{a:,}", f"{b:,}", "-" if np.isnan(share) else f"{share:.1f} %"]
        for name, a, b, share in zip(ranges, pixels, wrong, shares, strict=True)
    ]
    drawing = Drawing("boundary", figure, f"Bars: wrong pixels by distance. {text}")
    table = Table(("distance", "pixels", "wrong", "share"), rows)
    return Block("Boundaries", text, [drawing], table)


def example_blocks(found: Evaluated, most: int, data: Any) -> list[Block]:
    """Return the images with the fewest and with the most wrong pixels."""
    text = (
        f"Wrong pixels are yellow up to {NEAR} pixels from a boundary between true classes, and "
        "red elsewhere."
    )
    worst = [each for each in found.worst if each.wrong > 0]
    return [
        Block(title, text, list(drawn(each[:most], key, data)), kind="stack")
        for key, title, each in (("best", "Best", found.best), ("worst", "Worst", worst))
        if each
    ]


def drawn(examples: Sequence[Example], key: str, data: Any) -> Iterator[Drawing]:
    """Yield pictures of images: true classes, predicted classes, and errors."""
    for number, each in enumerate(examples, 1):
        try:
            view = data.val_set.read(each.sample)
        except DataError:
            continue
        panels = [
            draw_classes(view.image, view.mask, data.class_names),
            draw_classes(view.image, each.found, data.class_names),
            draw_errors(view.image, view.mask, each.found),
        ]
        file, share = name_of(data.val_set, each.sample), percent(each.wrong)
        caption = f"{file}: {share} of the pixels wrong. Left to right: true, predicted, errors"
        yield Drawing(f"{key}_{number}", encode(beside(panels)), f"Image {caption}", caption)


def draw_errors(image: Picture, truth: Mask, found: Mask) -> Picture:
    """Draw the wrong pixels of a class map over a faint image.

    Args:
        image: Image `(h, w, 3)`.
        truth: True class indices `(h, w)`, or `IGNORED`.
        found: Predicted class indices `(h, w)`.
    """
    picture = (image // 3 + 150).astype(np.uint8)
    wrong = (found != truth) & (truth != IGNORED)
    near = boundary_distance(truth) < NEAR
    picture[wrong & near] = AT_BOUNDARY
    picture[wrong & ~near] = ELSEWHERE
    return resize(picture)


def beside(panels: Sequence[Picture]) -> Picture:
    """Return pictures beside each other, aligned at the top."""
    height = max(len(each) for each in panels)
    width = sum(each.shape[1] for each in panels) + MARGIN * (len(panels) - 1)
    canvas: Picture = np.full((height, width, 3), WHITE, np.uint8)
    left = 0
    for each in panels:
        canvas[: len(each), left : left + each.shape[1]] = each
        left += each.shape[1] + MARGIN
    return canvas
