"""Quality of a segmentation on a page: IoU and confusion of classes, boundaries, examples."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from parcnet_train.classification.quality import most_confused, scores_of
from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.data.channels import to_rgb
from parcnet_train.distributed.collectives import total
from parcnet_train.errors import DataError
from parcnet_train.pages.confusion import confusion_drawings, most_wrong
from parcnet_train.pages.data import name_of
from parcnet_train.pages.figures import MOST_CLASSES, bars
from parcnet_train.pages.parts import MOST_IMAGES, Block, Drawing, Table, lowest, percent
from parcnet_train.segmentation.boundary import LIMITS, boundary_distance, errors_by_distance
from parcnet_train.segmentation.iou import intersection_over_union
from parcnet_train.visualize.class_maps import draw_classes
from parcnet_train.visualize.pictures import MARGIN, WHITE, Picture, encode, resize

MEASURED = 64  # images of every process whose boundaries are measured, which takes time
NEAR = 4  # pixels from a boundary within which an error is drawn as one of the boundary
AT_BOUNDARY, ELSEWHERE = (255, 190, 0), (224, 32, 32)  # colors of errors

Mask = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


class Example(NamedTuple):
    """A predicted class map."""

    wrong: float  # share of wrong pixels
    sample: int
    found: Mask  # (h, w)


class Found(NamedTuple):
    """What an evaluation found."""

    confusion: Integers  # (K, K) pixels by true and by predicted class
    by_distance: Integers  # (ranges, 2) pixels and wrong pixels
    measured: int  # images whose boundaries were measured
    best: list[Example]  # of the first process
    worst: list[Example]


class Evaluated(NamedTuple):
    """What was found, and the names of the classes."""

    found: Found
    names: list[str]


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

    def compute(self, task: Any) -> Found:
        """Return what all processes counted, and the examples of this one."""
        counts = total(torch.from_numpy(self.by_distance).to(task.device))
        measured = total(torch.tensor(self.measured, device=task.device))
        confusion = task.confusion.compute().cpu().numpy()
        worst = [each._replace(wrong=-each.wrong) for each in self.worst]
        return Found(confusion, counts.cpu().numpy(), int(measured), self.best, worst)


def array(mask: Tensor) -> Mask:
    """Return a class map as an array."""
    return mask.cpu().numpy().astype(np.uint8)


def wrong_share(found: Tensor, truth: Tensor) -> Tensor:
    """Return the share of the labeled pixels with a wrong class, a scalar; NaN without any."""
    labeled = truth != IGNORED
    return ((found != truth) & labeled).sum() / labeled.sum()


def evaluated(found: Found, task: Any, data: Any) -> Evaluated:
    """Add the names of the classes to what was found."""
    return Evaluated(found, list(data.class_names))


def quality(each: Evaluated) -> list[Block]:
    """Return how good the class maps are, per class and at boundaries."""
    found, names = each
    return [
        iou_block(found.confusion, names),
        confusion_block(found.confusion, names),
        boundary_block(found),
    ]


def iou_block(confusion: Integers, names: Sequence[str]) -> Block:
    """Return the IoU of every class, the worst first."""
    shares = intersection_over_union(torch.from_numpy(confusion)).numpy()
    order = np.argsort(np.nan_to_num(shares, nan=2), kind="stable").tolist()
    shown = order[:MOST_CLASSES]
    title = "IoU of the worst classes, %" if len(order) > len(shown) else "IoU per class, %"
    figure = bars(title, [names[n] for n in shown], {"IoU": 100 * shares[shown]}, "%", "{:.1f}")
    precision, recall, _ = scores_of(confusion)
    rows = [
        [
            names[n],
            f"{confusion[n].sum():,}",
            *(percent(float(each[n])) for each in (shares, precision, recall)),
        ]
        for n in order
    ]
    text = lowest("IoU", names[order[0]], shares[order[0]])
    drawing = Drawing("iou", figure, f"Bars: IoU per class, the worst first. {text}")
    table = Table(("class", "pixels", "IoU", "precision", "recall"), rows)
    return Block("Per class", text, [drawing], table)


def confusion_block(confusion: Integers, names: Sequence[str]) -> Block:
    """Return the confusion matrix as shares of the true classes."""
    shown = most_wrong(confusion)
    which = "all classes" if len(shown) == len(names) else f"{len(shown)} classes"
    text = f"Shares of the pixels of a class, {which}."
    for true, predicted, count in most_confused(confusion, 1):  # none if all are right
        share = percent(count / confusion[true].sum())
        text += f" Most wrong pixels are of {names[true]}, predicted as {names[predicted]}: "
        text += f"{share} of it."
    labels = [names[each] for each in shown]
    return Block("Confusion", text, confusion_drawings(confusion, shown, labels, None, text))


def boundary_block(found: Found) -> Block:
    """Return how the errors depend on the distance from the true boundaries."""
    pixels, wrong = found.by_distance.T
    with np.errstate(invalid="ignore"):
        shares = wrong / pixels
    edges = [0, *LIMITS]
    ranges = [f"{a} to {b}" for a, b in zip(edges, LIMITS, strict=False)] + [f"from {LIMITS[-1]}"]
    figure = bars("Wrong pixels, %", ranges, {"": 100 * shares}, "%", "{:.1f}")
    of_errors = 100 * wrong[:2].sum() / max(1, wrong.sum())
    of_pixels = 100 * pixels[:2].sum() / max(1, pixels.sum())
    text = (
        "Distance from the nearest boundary between true classes, in pixels, in "
        f"{found.measured} images."
    )
    if wrong.sum():
        text += f" {of_errors:.0f} % of the errors are closer than {LIMITS[1]} pixels, where "
        text += f"{of_pixels:.0f} % of the pixels are."
    rows = [
        [name, f"{a:,}", f"{b:,}", percent(share)]
        for name, a, b, share in zip(ranges, pixels, wrong, shares, strict=True)
    ]
    drawing = Drawing("boundary", figure, f"Bars: wrong pixels by distance. {text}")
    table = Table(("distance", "pixels", "wrong", "share"), rows)
    return Block("Boundaries", text, [drawing], table)


def examples(each: Evaluated, most: int, data: Any) -> list[Block]:
    """Return the images with the fewest and with the most wrong pixels."""
    text = (
        f"Wrong pixels are yellow up to {NEAR} pixels from a boundary between true classes, and "
        "red elsewhere."
    )
    found, names = each
    best = found.best[:most]
    known = {example.sample for example in best}
    worst = [one for one in found.worst if one.wrong > 0 and one.sample not in known][:most]
    return [
        Block(title, text, list(drawn(chosen, key, names, data)), kind="stack")
        for key, title, chosen in (("best", "Best", best), ("worst", "Worst", worst))
        if chosen
    ]


def drawn(
    chosen: Sequence[Example], key: str, names: Sequence[str], data: Any
) -> Iterator[Drawing]:
    """Yield pictures of images: true classes, predicted classes, and errors."""
    for number, each in enumerate(chosen, 1):
        try:
            view = data.val_set.read(each.sample)
        except DataError:
            continue
        image = to_rgb(view.image)
        panels = [
            draw_classes(image, view.mask, names),
            draw_classes(image, each.found, names),
            draw_errors(image, view.mask, each.found),
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
