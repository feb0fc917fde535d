"""Likely label errors by a trained network: confident learning (arXiv 1911.00068).

The filters are those of `cleanlab`: of classes (arXiv 1911.00068), of boxes (ObjectLab, arXiv
2309.00832) and of pixels (arXiv 2307.05080). They compare the labels with the probabilities of the
network, and trust a class's probability as far as the images of that class reach it on average.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from torch.nn import functional

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.dataset import visible_boxes
from parcnet_train.data.file_checks import SHOWN
from parcnet_train.data.segmentation.palette import Mask, read_mask
from parcnet_train.doctor.findings import Drawing, Finding
from parcnet_train.doctor.networks import Batch, Network, predicted
from parcnet_train.doctor.pictures import MOST, SIDE, Image, draw, image_of
from parcnet_train.doctor.sets import ImageSet
from parcnet_train.errors import ConfigError, DataError
from parcnet_train.models.model import scaled
from parcnet_train.predict.predictions import Detected, Segmented
from parcnet_train.predict.predictor import Options
from parcnet_train.segmentation.inference import logits_of_scales
from parcnet_train.segmentation.upsample import covered
from parcnet_train.visualize.class_maps import draw_classes
from parcnet_train.visualize.detections import draw_boxes

BYTES = 2**28  # size of what is compared at a time; the comparison takes a few times as much
SQUARE = 96  # side to which masks and probabilities are resized, in pixels
LEAST_SHARE = 0.02  # share of a mask's pixels that are likely errors, from which it is listed
LEAST_SCORE = 0.01  # of a detection, as in evaluations
SURE = 0.5  # score of a detection that is drawn

Floats = npt.NDArray[np.floating[Any]]
Marks = npt.NDArray[np.bool_]


def import_cleanlab(part: str) -> ModuleType:
    """Import a module of `cleanlab`.

    Args:
        part: Name of the module, such as `filter`.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return importlib.import_module(f"cleanlab.{part}")
    except ImportError as error:
        raise ConfigError(
            "check.predictions: the package cleanlab is not installed. Fix: pip install "
            "'parcnet-train[cleanlab]'"
        ) from error


def label_findings(
    network: Network, images: ImageSet, class_names: Sequence[str]
) -> Iterator[Finding]:
    """Yield the finding about likely label errors of a set, if there are any.

    Args:
        network: Trained network.
        images: Set with its labels, annotations or masks.
        class_names: Names of the classes, as the network knows them.
    """
    import_cleanlab("filter")  # before hours of predictions
    if images.labels is not None:
        yield from wrong_classes(network, images, class_names)
    elif images.annotations is not None:
        yield from wrong_boxes(network, images, class_names)
    elif images.masks is not None:
        yield from wrong_masks(network, images, class_names)


def finding_of(
    network: Network,
    images: ImageSet,
    count: int,
    words: str,
    files: list[str],
    pictures: list[Drawing],
) -> Finding:
    """Return the finding about likely label errors, worst first."""
    trained = (
        " The network was trained on these images and may have learned wrong labels by heart, so "
        "some are not found."
        if images.split == "train"
        else ""
    )
    return Finding(
        "label-errors",
        "warning",
        "Likely label errors",
        count,
        "images",
        f"{words} by the network of {network.name}, worst first.{trained}",
        "Look at them and correct the labels that are wrong; a network is often wrong, too.",
        files,
        pictures,
        where=f"{images.title} set",
    )


def fitting(bytes_of_image: int) -> int:
    """Return how many images are compared at a time, by the bytes that one takes."""
    return max(1, BYTES // bytes_of_image)


def class_probabilities(network: Network, batch: Batch) -> Iterator[tuple[int, Floats]]:
    """Yield the place of every image of a batch, and the probabilities of its classes, `(K,)`."""
    logits = network.model(batch.pixels).float()
    yield from zip(batch.places, logits.softmax(dim=1).cpu().numpy(), strict=True)


def wrong_classes(
    network: Network, images: ImageSet, class_names: Sequence[str]
) -> Iterator[Finding]:
    """Yield images whose class is probably wrong."""
    assert images.labels is not None
    find = import_cleanlab("filter").find_label_issues
    wrong: list[tuple[float, int, int, float]] = []  # probability of the label, place, best class
    results_of = partial(class_probabilities, network)
    for chunk in predicted(network, images, fitting(4 * len(class_names)), results_of):
        places = [place for place, _ in chunk]
        labels, probabilities = images.labels[places], np.stack([row for _, row in chunk])
        issues = find(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
        for row in np.asarray(issues).tolist():
            best = int(probabilities[row].argmax())
            own, of_best = probabilities[row][[labels[row], best]].tolist()
            wrong.append((own, places[row], best, of_best))
    if not wrong:
        return
    wrong.sort()
    texts = [
        f"{images.name(place)}: labeled {class_names[images.labels[place]]}, the network says "
        f"{class_names[best]} ({100 * of_best:.0f} %)"
        for _, place, best, of_best in wrong[:SHOWN]
    ]
    pictures = []
    for (_, place, _, _), text in zip(wrong[:MOST], texts, strict=False):
        image = image_of(images, place, network.predictor.max_pixels)
        if image is not None:
            pictures.append(draw(image, text, text))
    words = "These images probably have the wrong class,"
    yield finding_of(network, images, len(wrong), words, texts, pictures)


class Compared(NamedTuple):
    """Given and predicted boxes of an image, in the form that `cleanlab` takes."""

    place: int
    given: dict[str, npt.NDArray[Any]]
    predicted: npt.NDArray[Any]


def boxes_of(
    network: Network, annotations: CocoAnnotations, visible: tuple[Floats, Marks], batch: Batch
) -> Iterator[Compared]:
    """Yield given and predicted boxes of the images of a batch, except those without a given one.

    Args:
        network: Trained network.
        annotations: Annotations of the set.
        visible: Result of `visible_boxes`.
        batch: Images, which `cleanlab` compares only if they have a box.
    """
    boxes, is_object = visible
    classes = len(annotations.class_names) - 1
    options = Options(score_threshold=LEAST_SCORE)
    found = network.predictor.find(network.model, batch.pixels, batch.prepared, options)
    for place, objects in zip(batch.places, found, strict=True):
        assert isinstance(objects, Detected)
        rows = annotations.of(place)
        kept = is_object[rows]
        if kept.any():
            given = {"bboxes": boxes[rows][kept], "labels": annotations.labels[rows][kept] - 1}
            yield Compared(place, given, by_class(objects, classes))


def wrong_boxes(
    network: Network, images: ImageSet, class_names: Sequence[str]
) -> Iterator[Finding]:
    """Yield images with boxes that are probably missing, misplaced or of another class."""
    filters, ranks = (import_cleanlab(f"object_detection.{name}") for name in ("filter", "rank"))
    annotations = images.annotations
    assert annotations is not None
    results_of = partial(boxes_of, network, annotations, visible_boxes(annotations))
    wrong: list[tuple[float, int]] = []  # quality of the boxes, place
    shown: dict[int, Compared] = {}  # the worst ones, by their places
    size = fitting(bytes_of_detections(len(class_names) - 1))
    for chunk in predicted(network, images, size, results_of):
        given, found = [each.given for each in chunk], [each.predicted for each in chunk]
        scores = ranks.get_label_quality_scores(given, found, verbose=False)
        for row in np.flatnonzero(filters.find_label_issues(given, found)).tolist():
            wrong.append((float(scores[row]), chunk[row].place))
            shown[chunk[row].place] = chunk[row]
        wrong.sort()
        shown = {place: shown[place] for _, place in wrong[:SHOWN]}
    if not wrong:
        return
    files: list[str] = []
    pictures: list[Drawing] = []
    for score, place in wrong[:SHOWN]:
        files.append(f"{images.name(place)} (quality {score:.2f})")
        image = image_of(images, place, network.predictor.max_pixels)
        if image is not None and len(pictures) < MOST:
            pictures += both(images.name(place), image, shown[place], class_names)
    words = "These images probably have missing, misplaced or wrongly classified boxes,"
    yield finding_of(network, images, len(wrong), words, files, pictures)


def bytes_of_detections(classes: int) -> int:
    """Return the bytes of the detections of an image, an array for each class."""
    return 128 * classes + 200 * 5 * 8  # of an empty array, and of five numbers per detection


def by_class(objects: Detected, classes: int) -> npt.NDArray[Any]:
    """Return detections as `cleanlab` takes them: an array `(n, 5)` for each class.

    Args:
        objects: Detections of an image.
        classes: Number of classes without the background.
    """
    found = np.empty(classes, object)
    rows = np.column_stack([objects.boxes, objects.scores]).astype(np.float64).reshape(-1, 5)
    for label in range(classes):
        found[label] = rows[objects.labels == label + 1]
    return found


def both(name: str, image: Image, compared: Compared, class_names: Sequence[str]) -> list[Drawing]:
    """Draw the given boxes and the network's, one after the other."""
    given = compared.given
    labels = [int(label) + 1 for label in given["labels"]]
    first = draw_boxes(image, given["bboxes"], labels, [class_names[label] for label in labels])
    corners, numbers, captions = [], [], []
    for label, rows in enumerate(compared.predicted, 1):
        for row in rows[rows[:, 4] >= SURE]:
            corners.append(row[:4])
            numbers.append(label)
            captions.append(f"{class_names[label]} {row[4]:.2f}")
    second = draw_boxes(image, np.array(corners).reshape(-1, 4), numbers, captions)
    return [
        draw(first, f"{name}: given", f"Given boxes of {name}", 2 * SIDE),
        draw(second, f"{name}: network", f"Boxes of the network in {name}", 2 * SIDE),
    ]


def class_indices(images: ImageSet, place: int, max_pixels: int) -> Mask:
    """Read the class of every pixel of an image, `IGNORED` where it does not count.

    Raises:
        DataError: If the mask cannot be read, or has a value that is no class.
    """
    path = images.mask_path(place)
    indices: Mask = images.dataset.values.classes_of(path, read_mask(path, max_pixels))
    return indices


def pixel_probabilities(
    network: Network, images: ImageSet, batch: Batch
) -> Iterator[tuple[int, npt.NDArray[np.int64], Floats]]:
    """Yield the place of every image of a batch, its mask and the probabilities of the pixels.

    Both have the height and width `SQUARE`; the probabilities are `(K, SQUARE, SQUARE)`.
    """
    predictor = network.predictor
    logits = logits_of_scales(network.model, scaled(batch.pixels), (1.0,), False).float()
    for place, each, one in zip(batch.places, logits, batch.prepared, strict=True):
        try:
            mask = class_indices(images, place, predictor.max_pixels)
        except DataError:
            continue
        if not predictor.takes_one:
            top, left = covered(one.size, one.placement)
            each = each[:, top, left]
        small = functional.interpolate(
            each[None], (SQUARE, SQUARE), mode="bilinear", align_corners=False
        )
        resized = cv2.resize(mask, (SQUARE, SQUARE), interpolation=cv2.INTER_NEAREST_EXACT)
        yield place, np.asarray(resized, np.int64), small.softmax(dim=1)[0].cpu().numpy()


def wrong_masks(
    network: Network, images: ImageSet, class_names: Sequence[str]
) -> Iterator[Finding]:
    """Yield images whose masks are probably wrong in many pixels."""
    find = import_cleanlab("segmentation.filter").find_label_issues
    predictor = network.predictor
    wrong: list[tuple[float, int]] = []  # share of right pixels, place
    results_of = partial(pixel_probabilities, network, images)
    size = fitting(4 * len(class_names) * SQUARE**2)
    for chunk in predicted(network, images, size, results_of):
        labels = np.stack([mask for _, mask, _ in chunk])
        probabilities = np.stack([each for _, _, each in chunk])
        # Pixels that do not count get the network's class, which is never an error.
        labels = np.where(labels == IGNORED, probabilities.argmax(axis=1), labels)
        issues = find(labels, probabilities, n_jobs=1, verbose=False)
        shares = np.asarray(issues).mean(axis=(1, 2)).tolist()
        wrong += [
            (1 - share, place)
            for share, (place, _, _) in zip(shares, chunk, strict=True)
            if share >= LEAST_SHARE
        ]
    if not wrong:
        return
    wrong.sort()
    files: list[str] = []
    pictures: list[Drawing] = []
    for right, place in wrong[:SHOWN]:
        name = images.mask_path(place).name
        files.append(f"{name} ({100 * (1 - right):.0f} % of the pixels)")
        image = image_of(images, place, predictor.max_pixels)
        if image is None or len(pictures) >= MOST:
            continue
        (found,) = predictor.predict_all(network.model, [predictor.prepare(image)], Options())
        given = draw_classes(image, class_indices(images, place, predictor.max_pixels), class_names)
        assert isinstance(found, Segmented)
        other = draw_classes(image, found.mask, class_names)
        pictures += [
            draw(given, f"{name}: given", f"Given classes of {name}", 2 * SIDE),
            draw(other, f"{name}: network", f"Classes of the network in {name}", 2 * SIDE),
        ]
    words = "These masks are probably wrong in many pixels,"
    yield finding_of(network, images, len(wrong), words, files, pictures)
