"""Batches that data modules give to tasks: one named tuple per task."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the scripts that prepare data take a constant from here, and no torch
    from torch import Tensor

BACKGROUND = 0  # class index of regions without an object
BACKGROUND_NAME = "background"  # name of that class in `class_names`

PADDING = -1  # `SampleKey.sample` of padding, which fills up the batches of an evaluation
IGNORED = 255  # mask value of a pixel that does not count (PASCAL VOC)
MAX_CLASSES = 255  # of masks with 8 bits: their indices end below IGNORED
UNLABELED = -1  # label of padding, which does not count


class ClassificationBatch(NamedTuple):
    """Images with one class each."""

    # (B, 3, H, W) uint8, RGB, in channels_last memory format; the model scales them on its device.
    images: Tensor
    labels: Tensor  # (B,) int64, class indices; padding (in evaluations): UNLABELED
    samples: Tensor  # (B,) int64, positions in the data set, or PADDING
    skipped: Tensor  # () int64, number of unreadable images


class DetectionBatch(NamedTuple):
    """Images with boxes, padded to the largest number of boxes in the batch."""

    # (B, 3, H, W) uint8, RGB, in channels_last memory format; the model scales them on its device.
    images: Tensor
    boxes: Tensor  # (B, N, 4) float32, xyxy, pixels of `images`; padding: 0
    labels: Tensor  # (B, N) int64, class indices from 1, 0 is the background; padding: UNLABELED
    samples: Tensor  # (B,) int64, positions in the data set, or PADDING
    # (B, 4) float32: an original image's (x, y) lies at (x * [0] + [2], y * [1] + [3]) in `images`
    placements: Tensor
    skipped: Tensor  # () int64, number of unreadable images


class SegmentationBatch(NamedTuple):
    """Images with a class for every pixel."""

    # (B, 3, H, W) uint8, RGB, in channels_last memory format; the model scales them on its device.
    images: Tensor
    masks: Tensor  # (B, H, W) uint8, class indices, or IGNORED
    samples: Tensor  # (B,) int64, positions in the data set, or PADDING
    # (B, 4) float32: an original image's (x, y) lies at (x * [0] + [2], y * [1] + [3]) in `images`;
    # NaN in training
    placements: Tensor
    originals: list[Tensor]  # in evaluations: (h, w) uint8 each, the masks of the original images
    skipped: Tensor  # () int64, number of unreadable images
