"""Pictures of detections beside the ground truth."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import PADDING, UNLABELED, DetectionBatch
from parcnet_train.detection.types import Detections
from parcnet_train.visualize.pictures import (
    BLACK,
    FONT,
    FONT_SCALE,
    WHITE,
    Color,
    Pair,
    Picture,
    resize,
    to_picture,
)

SHOWN_FROM = 0.3  # detections with lower scores would cover the picture
GOLDEN_RATIO = 0.618034  # hue step between successive classes, so that their colors differ much


def color_of(label: int) -> Color:
    """Return a bright color for a class."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.85, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: Picture,
    boxes: npt.NDArray[np.floating],
    labels: Sequence[int],
    captions: Sequence[str],
) -> Picture:
    """Draw boxes with captions, the first one on top.

    Args:
        image: Image of any size; it is not changed.
        boxes: Boxes `(n, 4)`, xyxy, in pixels of the image.
        labels: Class index of every box, which determines its color.
        captions: Caption of every box.

    Returns:
        The picture, resized by `resize`.
    """
    picture = resize(image)
    shares = np.clip(np.nan_to_num(boxes) / (image.shape[1::-1] * 2), 0, 1)
    corners = shares * (np.array(picture.shape[1::-1] * 2) - 1)
    drawn = [*zip(corners.round().astype(int).tolist(), labels, captions, strict=True)]
    for (left, top, right, bottom), label, _ in reversed(drawn):
        cv2.rectangle(picture, (left, top), (right, bottom), color_of(label), 2, cv2.LINE_AA)
    for (left, top, _, _), label, caption in reversed(drawn):
        draw_caption(picture, caption, left, top, color_of(label))
    return picture


def draw_caption(picture: Picture, caption: str, left: int, bottom: int, color: Color) -> None:
    """Write a caption on a colored background, moved as needed to stay within the picture."""
    (width, height), below = cv2.getTextSize(caption, FONT, FONT_SCALE, 1)
    left = max(0, min(left, picture.shape[1] - width - 4))
    bottom = max(height + below + 2, bottom)
    cv2.rectangle(
        picture, (left, bottom - height - below - 2), (left + width + 4, bottom), color, -1
    )
    luminance = np.dot(color, (0.299, 0.587, 0.114))  # ITU-R BT.601
    ink = BLACK if luminance > 110 else WHITE
    cv2.putText(picture, caption, (left + 2, bottom - below), FONT, FONT_SCALE, ink, 1, cv2.LINE_AA)


def detection_pairs(
    batch: DetectionBatch, detections: Sequence[Detections], class_names: Sequence[str]
) -> Iterator[Pair]:
    """Yield two pictures per image of a batch: with its true and with its detected objects.

    Args:
        batch: Batch of an evaluation; padding samples are left out.
        detections: Detections of every sample, in pixels of the original images.
        class_names: Names of the classes, in the order of the labels.
    """
    for index, found in enumerate(detections):
        if batch.samples[index] == PADDING:
            continue
        image = to_picture(batch.images[index])
        count = int((batch.labels[index] != UNLABELED).sum())  # padding is at the end
        labels = batch.labels[index, :count].tolist()
        truth = draw_boxes(
            image,
            batch.boxes[index, :count].cpu().numpy(),
            labels,
            [class_names[label] for label in labels],
        )
        shown = int((found.scores >= SHOWN_FROM).sum())  # the best come first
        labels, scores = found.labels[:shown].tolist(), found.scores[:shown].tolist()
        placement = batch.placements[index].cpu().numpy()
        boxes = found.boxes[:shown].cpu().numpy() * placement[[0, 1, 0, 1]]
        captions = [
            f"{class_names[k]} {score:.2f}" for k, score in zip(labels, scores, strict=True)
        ]
        yield truth, draw_boxes(image, boxes + placement[[2, 3, 2, 3]], labels, captions)
