"""Quality of a classifier on a page: confusion, scores per class, calibration, examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from parcnet_train.classification.predictions import GatherPredictions, Predictions
from parcnet_train.classification.quality import (
    calibrate,
    confusion_matrix,
    most_confused,
    scores_of,
)
from parcnet_train.data.batches import ClassificationBatch
from parcnet_train.errors import DataError
from parcnet_train.pages.batches import LARGEST_FACTOR, SIDE
from parcnet_train.pages.confusion import confusion_drawings, most_wrong
from parcnet_train.pages.data import kept_classes, name_of
from parcnet_train.pages.figures import MOST_CLASSES, bars, lines
from parcnet_train.pages.parts import Block, Drawing, Table, lowest, percent
from parcnet_train.visualize.pictures import encode, fitted

PAIRS = 15  # most confused pairs of classes in the table

Integers = npt.NDArray[np.int64]


class Collector:
    """The predictions of an evaluation."""

    def __init__(self) -> None:
        self.found = GatherPredictions()

    def update(self, batch: ClassificationBatch, outputs: dict[str, Tensor]) -> None:
        """Add a batch and the result of `validation_step` for it."""
        self.found.update(batch.samples, batch.labels, outputs["logits"])

    def compute(self, task: Any) -> Predictions:
        """Return the predictions of all processes."""
        return self.found.compute()


class Evaluated(NamedTuple):
    """Predictions of an evaluation, and their confusion matrix.

    Classes that were not evaluated are left out, so that the class indices are positions in
    `names`.
    """

    found: Predictions
    confusion: Integers  # (K, K)
    names: list[str]  # of the K evaluated classes


def evaluated(found: Predictions, task: Any, data: Any) -> Evaluated:
    """Return the predictions with the indices of the evaluated classes."""
    kept = kept_classes(data)
    found = found._replace(
        labels=np.searchsorted(kept, found.labels), classes=np.searchsorted(kept, found.classes)
    )
    names = [data.class_names[each] for each in kept]
    return Evaluated(found, confusion_matrix(found.labels, found.classes, len(names)), names)


def quality(each: Evaluated) -> list[Block]:
    """Return how good the predictions are, in all and per class."""
    confusion, names = each.confusion, each.names
    return [
        confusion_block(confusion, names),
        scores_block(confusion, names),
        calibration_block(each.found),
    ]


def confusion_block(confusion: Integers, names: Sequence[str]) -> Block:
    """Return the confusion matrix, of the most confused classes if there are many."""
    shown = most_wrong(confusion)
    rows = [
        [names[true], names[predicted], f"{count:,}", percent(count / confusion[true].sum())]
        for true, predicted, count in most_confused(confusion, PAIRS)
    ]
    which = (
        f"the {len(shown)} most confused of {len(names):,} classes"
        if len(shown) < len(names)
        else "all classes"
    )
    worst = "; ".join(f"{r[2]} of {r[0]} as {r[1]}" for r in rows[:3]) or "no image"
    alt = f"It shows {which}. Most often wrong: {worst}."
    labels = [names[each] for each in shown]
    drawings = confusion_drawings(confusion, shown, labels, "Images", alt)
    hits, total = int(confusion.trace()), int(confusion.sum())
    text = f"{hits:,} of {total:,} images are right; the matrix shows {which}."
    table = Table(("true class", "predicted", "images", "share of the class"), rows, 2)
    return Block("Confusion", text, drawings, table if rows else None)


def scores_block(confusion: Integers, names: Sequence[str]) -> Block:
    """Return precision, recall and F1 of every class, the worst first."""
    scores = scores_of(confusion)
    order = np.argsort(np.nan_to_num(scores.f1, nan=2), kind="stable").tolist()
    rows = [
        [names[n], f"{confusion[n].sum():,}", *(percent(each[n]) for each in scores)] for n in order
    ]
    shown = order[:MOST_CLASSES]
    figure = bars(
        "F1 of the worst classes, %" if len(order) > len(shown) else "F1 per class, %",
        [names[n] for n in shown],
        {"F1": 100 * scores.f1[shown]},
        "F1, %",
        "{:.1f}",
    )
    text = lowest("F1", names[order[0]], scores.f1[order[0]])
    drawing = Drawing("scores", figure, f"Bars: F1 per class, the worst first. {text}")
    headings = ("class", "images", "precision", "recall", "F1")
    return Block("Per class", text, [drawing], Table(headings, rows))


def calibration_block(found: Predictions) -> Block:
    """Return how well the probabilities fit the share of right predictions."""
    if not len(found.labels):
        return Block("Calibration", "No image was evaluated.")
    hits = found.classes == found.labels
    bins = calibrate(found.confidences, hits)
    filled = bins.counts > 0
    points = bins.confidences[filled].tolist(), bins.accuracies[filled].tolist()
    mean, accuracy = float(found.confidences.mean()), float(hits.mean())
    reliability = lines(
        "Calibration",
        {"network": points, "ideal": ([0.0, 1.0], [0.0, 1.0])},
        "confidence",
        "share of right predictions",
        markers=["network"],
        unit=True,
    )
    edges = [f"{n / len(filled):.2f}" for n in range(1, len(filled) + 1)]
    counts = bars("Images by confidence", edges, {"images": bins.counts}, "images")
    text = (
        f"The expected calibration error (ECE) is {100 * bins.error:.2f} %: the mean confidence is "
        f"{100 * mean:.1f} %, and {100 * accuracy:.1f} % are right"
    )
    if mean != accuracy:
        text += f", so the network is {'over' if mean > accuracy else 'under'}confident"
    text += "."
    drawings = [
        Drawing("calibration", reliability, f"Share of right predictions by confidence. {text}"),
        Drawing("confidences", counts, "Bars: number of images by confidence, upper end of a bin."),
    ]
    return Block("Calibration", text, drawings)


def examples(each: Evaluated, most: int, data: Any) -> list[Block]:
    """Return the surest right and wrong predictions, and images of the most confused classes."""
    found, confusion, _ = each
    right = found.classes == found.labels
    order = np.argsort(-found.confidences, kind="stable")
    best, worst = order[right[order]], np.argsort(found.of_truth, kind="stable")
    confused = [
        int(rows[np.argmax(found.confidences[rows])])
        for true, predicted, _ in most_confused(confusion, most)
        for rows in [np.flatnonzero((found.labels == true) & (found.classes == predicted))]
    ]
    groups = [
        ("best", "Best", "Right, with the highest probability.", best[:most]),
        (
            "worst",
            "Worst",
            "The true class has the lowest probability.",
            worst[~right[worst]][:most],
        ),
        ("confused", "Most confused", "One image of each of the most confused pairs.", confused),
    ]
    return [
        Block(title, text, list(drawn(each, rows, key, data)), kind="pictures")
        for key, title, text, rows in groups
        if len(rows)
    ]


def drawn(
    each: Evaluated, rows: Sequence[int] | Integers, key: str, data: Any
) -> Iterator[Drawing]:
    """Yield pictures of images with their file, true class and predicted class."""
    found, names = each.found, each.names
    for number, row in enumerate(rows, 1):
        sample, true, predicted = (int(column[row]) for column in found[:3])
        try:
            image = data.val_set.original(sample)
        except DataError:
            continue
        prediction = f"{names[predicted]} at {percent(found.confidences[row])}"
        file = name_of(data.val_set, sample)
        caption = f"{file}: {names[true]}"
        if true != predicted:
            caption = f"{caption}, predicted {prediction}"
        alt = f"Image {file} of the class {names[true]}, predicted {prediction}"
        yield Drawing(f"{key}_{number}", encode(fitted(image, SIDE, LARGEST_FACTOR)), alt, caption)
