"""Quality of a classifier on a page: confusion, scores per class, calibration, examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from parcnet_train.classification.predictions import GatherPredictions, Predictions
from parcnet_train.classification.quality import (
    Scores,
    calibrate,
    confusion_matrix,
    most_confused,
    scores_of,
)
from parcnet_train.data.batches import ClassificationBatch
from parcnet_train.errors import DataError
from parcnet_train.pages.batches import MOST, SIDE
from parcnet_train.pages.data import name_of
from parcnet_train.pages.figures import MOST_CLASSES, bars, lines, matrix
from parcnet_train.pages.parts import MOST_IMAGES, Block, Drawing, Table
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


def blocks(found: Predictions, task: Any, data: Any) -> tuple[list[Block], list[Block]]:
    """Return how good the predictions are, in all and per class, and examples."""
    names = list(data.class_names)
    confusion = confusion_matrix(found.labels, found.classes, len(names))
    quality = [
        confusion_block(confusion, names),
        scores_block(confusion, scores_of(confusion), names),
        calibration_block(found),
    ]
    return quality, example_blocks(found, confusion, min(task.pictures, MOST_IMAGES), data)


def confusion_block(confusion: Integers, names: Sequence[str]) -> Block:
    """Return the confusion matrix, of the most confused classes if there are many."""
    shown = most_wrong(confusion)
    part, labels = confusion[np.ix_(shown, shown)], [names[each] for each in shown]
    shares = 100 * part / np.maximum(confusion[shown].sum(axis=1, keepdims=True), 1)
    pairs = most_confused(confusion, PAIRS)
    rows = [
        [names[true], names[wrong], f"{count:,}", f"{100 * count / confusion[true].sum():.1f} %"]
        for true, wrong, count in pairs
    ]
    which = (
        f"the {len(shown)} most confused of {len(names):,} classes"
        if len(shown) < len(names)
        else "all classes"
    )
    worst = "; ".join(f"{r[2]} of {r[0]} as {r[1]}" for r in rows[:3]) or "no image"
    drawings = [
        Drawing(
            f"confusion_{key}",
            matrix(title, values, labels, "predicted", "true", form),
            f"Confusion matrix, {key}, {which}. Most often wrong: {worst}.",
        )
        for key, title, values, form in (
            ("counts", "Images", part, "{:.0f}"),
            ("normalized", "Share of the true class, %", shares, "{:.0f}"),
        )
    ]
    hits, total = int(confusion.trace()), int(confusion.sum())
    text = f"{hits:,} of {total:,} images are right; the matrix shows {which}."
    table = Table(("true class", "predicted", "images", "share of the class"), rows, 2)
    return Block("Confusion", text, drawings, table if rows else None)


def most_wrong(confusion: Integers) -> list[int]:
    """Return the classes with the most errors, at most `MOST_CLASSES`, in their order."""
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    return sorted(np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist())


def scores_block(confusion: Integers, scores: Scores, names: Sequence[str]) -> Block:
    """Return precision, recall and F1 of every class, the worst first."""
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
    worst = f"{names[order[0]]} at {percent(scores.f1[order[0]])}"
    text = f"The class with the lowest F1 is {worst}."
    drawing = Drawing("scores", figure, f"Bars: F1 per class, the worst first; {worst}.")
    headings = ("class", "images", "precision", "recall", "F1")
    return Block("Per class", text, [drawing], Table(headings, rows))


def percent(share: float) -> str:
    """Return a share in percent; `-` if it is not defined."""
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def calibration_block(found: Predictions) -> Block:
    """Return how well the probabilities fit the share of right predictions."""
    bins = calibrate(found.confidences, found.classes == found.labels)
    filled = bins.counts > 0
    points = bins.confidences[filled].tolist(), bins.accuracies[filled].tolist()
    mean = float(found.confidences.mean()) if len(found.labels) else float("nan")
    accuracy = float((found.classes == found.labels).mean()) if len(found.labels) else mean
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
    word = "over" if mean > accuracy else "under"
    text = (
        f"The expected calibration error (ECE) is {100 * bins.error:.2f} %: the mean confidence is "
        f"{100 * mean:.1f} %, and {100 * accuracy:.1f} % are right, so the network is "
        f"{word}confident."
    )
    drawings = [
        Drawing("calibration", reliability, f"Share of right predictions by confidence. {text}"),
        Drawing("confidences", counts, "Bars: number of images by confidence, upper end of a bin."),
    ]
    return Block("Calibration", text, drawings)


def example_blocks(found: Predictions, confusion: Integers, most: int, data: Any) -> list[Block]:
    """Return the surest right and wrong predictions, and images of the most confused classes."""
    right = found.classes == found.labels
    order = np.argsort(-found.confidences, kind="stable")
    best, worst = order[right[order]], np.argsort(found.of_truth, kind="stable")
    confused = [
        int(rows[np.argmax(found.confidences[rows])])
        for true, wrong, _ in most_confused(confusion, most)
        for rows in [np.flatnonzero((found.labels == true) & (found.classes == wrong))]
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
        Block(title, text, list(drawn(found, rows, key, data)), kind="pictures")
        for key, title, text, rows in groups
        if len(rows)
    ]


def drawn(
    found: Predictions, rows: Sequence[int] | Integers, key: str, data: Any
) -> Iterator[Drawing]:
    """Yield pictures of images with their file, true class and predicted class."""
    names = data.class_names
    for number, row in enumerate(rows, 1):
        sample, true, wrong = (int(each[row]) for each in found[:3])
        try:
            image = data.val_set.original(sample)
        except DataError:
            continue
        prediction = f"{names[wrong]} at {percent(found.confidences[row])}"
        file = name_of(data.val_set, sample)
        caption = f"{file}: {names[true]}"
        if true != wrong:
            caption = f"{caption}, predicted {prediction}"
        alt = f"Image {file} of the class {names[true]}, predicted {prediction}"
        yield Drawing(f"{key}_{number}", encode(fitted(image, SIDE, MOST)), alt, caption)
