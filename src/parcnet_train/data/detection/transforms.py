"""Transforms from a decoded image and its boxes to the network's input; both move together.

Every step maps points of the image by a scale and an offset per axis. A `View` carries the
resulting map from the original image: it moves the boxes here, and maps detections back to the
original image in an evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import box_iou

from parcnet_train.bounds import Probability
from parcnet_train.data.channels import RGB
from parcnet_train.data.decoding import Image
from parcnet_train.data.extra import ExtraTransforms, Transform
from parcnet_train.data.photometric import PhotometricDistortion
from parcnet_train.data.resizing import border, fit_image, mirrored, place, placement_of
from parcnet_train.data.samplers import SampleKey
from parcnet_train.sizes import Size

Array = npt.NDArray[np.float64]

# SSD's crop (arXiv 1512.02325, section 2.2; released values). An option is the smallest IoU of the
# crop with some box; 0 leaves the image whole.
CROP_OPTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
CROP_TRIALS = 40  # per option
CROP_SIDES = (0.3, 1.0)  # in units of the image's height and width
CROP_RATIO = (0.5, 2.0)  # height / width

# SSD's expansion (arXiv 1512.02325, section 3.6): up to 16 times the area, padded with the mean
# color of ImageNet.
EXPAND_SIDES = (1.0, 4.0)
MEAN_COLOR = (123, 117, 104)
MEAN_GRAY = 115  # its average, for images other than RGB


@dataclass(frozen=True)
class DetectionAugmentation:
    """Augmentation of training images and their boxes.

    Attributes:
        crop: Whether to crop a part that overlaps some box with an IoU of at least 0.1 to 0.9, or
            leave the image whole (SSD, arXiv 1512.02325, section 2.2).
        photometric: Whether to distort contrast, brightness, saturation, hue and channel order.
        expand: Probability that the image is placed on a canvas of up to 16 times its area (SSD,
            section 3.6: 0.5; the release does not do this).
        flip: Probability of a horizontal flip.
        extra: Your own transforms of albumentations, applied last, at the size of the network's
            input.
    """

    crop: bool = True
    photometric: bool = True
    expand: Probability = 0.0
    flip: Probability = 0.5
    extra: Sequence[Transform] = ()


class View(NamedTuple):
    """An image with its boxes, and the position of the original image within it."""

    image: Image  # (H, W, C) uint8
    boxes: Array  # (n, 4), xyxy, pixels of `image`
    labels: npt.NDArray[np.int64]  # (n,)
    # (4,): the original's (x, y) lies at (x * [0] + [2], y * [1] + [3]); NaN after transforms
    # of your own
    placement: Array = np.array([1.0, 1.0, 0.0, 0.0])


def moved(
    view: View, image: Image, scale: tuple[float, float], offset: tuple[float, float]
) -> View:
    """Return the view of a transformed image: a point (x, y) moves to (x, y) * scale + offset."""
    scales, offsets = np.array([*scale, *scale]), np.array([*offset, *offset])
    boxes = view.boxes * scales + offsets
    if scale[0] < 0:  # mirrored: right becomes left
        boxes = boxes[:, [2, 1, 0, 3]]
    placement = view.placement * scales + np.array([0.0, 0.0, *offset])
    return view._replace(image=image, boxes=boxes, placement=placement)


def fit(view: View, size: Size, keep_aspect: bool) -> View:
    """Resize to the input size, without antialiasing, as released.

    Args:
        view: Image with its boxes.
        size: Height and width of the input.
        keep_aspect: Whether the aspect ratio is kept and the rest is padded equally on both sides
            (letterbox); otherwise each side is scaled independently, as released.
    """
    height, width = view.image.shape[:2]
    placing = place((height, width), size, keep_aspect)
    image = fit_image(view.image, size, placing)
    scale_x, scale_y, left, top = placement_of((height, width), placing).tolist()
    return moved(view, image, (scale_x, scale_y), (left, top))


def flip(view: View) -> View:
    """Mirror the image horizontally."""
    return moved(view, mirrored(view.image), (-1.0, 1.0), (view.image.shape[1], 0.0))


def expand(view: View, random: Random) -> View:
    """Place the image at random on a canvas of the same aspect ratio, up to 4 times wider."""
    height, width = view.image.shape[:2]
    sides = random.uniform(*EXPAND_SIDES)
    below, beside = int(height * sides) - height, int(width * sides) - width
    top, left = random.randint(0, below), random.randint(0, beside)
    color = MEAN_COLOR if view.image.shape[2] == RGB else MEAN_GRAY
    image = border(view.image, top, below - top, left, beside - left, color)
    return moved(view, image, (1.0, 1.0), (left, top))


def crop(view: View, random: Random) -> View:
    """Apply SSD's crop as released; boxes whose center lies inside stay, clipped to the crop.

    This is our own code because albumentations has no crop with a minimum IoU, and torchvision's
    RandomIoUCrop interprets its options differently: 1 leaves the image whole, 0 crops anywhere.
    """
    if not len(view.boxes):
        return view
    draws = np.random.default_rng(random.getrandbits(64))
    while least := random.choice(CROP_OPTIONS):
        found = find_crop(view.boxes, view.image.shape[:2], least, draws)
        if found is not None:
            return cut(view, found)
    return view


def find_crop(
    boxes: Array, size: Size, least_iou: float, draws: np.random.Generator
) -> npt.NDArray[np.int64] | None:
    """Return the first of 40 random rectangles that is a valid crop.

    Args:
        boxes: Boxes, `(n, 4)`, xyxy in pixels.
        size: Height and width of the image.
        least_iou: Smallest IoU of the crop with one of the boxes.
        draws: Random number generator.

    Returns:
        Crop, `(4,)`, xyxy in pixels; None if no rectangle is valid.
    """
    whole = np.array(size[::-1])
    lengths = draws.uniform(*CROP_SIDES, (CROP_TRIALS, 2)) * whole
    begins = draws.uniform(0, whole - lengths)
    rectangles = np.concatenate([begins, begins + lengths], axis=1).astype(np.int64)
    ratios = lengths[:, 1] / lengths[:, 0]
    fits = (ratios >= CROP_RATIO[0]) & (ratios <= CROP_RATIO[1])
    fits &= (rectangles[:, 2:] > rectangles[:, :2]).all(axis=1)
    fits &= centered_in(boxes, rectangles[:, None]).any(axis=1)
    overlaps = box_iou(torch.from_numpy(rectangles).double(), torch.from_numpy(boxes)).numpy()
    fits &= overlaps.max(axis=1) >= least_iou
    return rectangles[fits.argmax()] if fits.any() else None


def centered_in(boxes: Array, rectangle: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whether the centers of boxes lie inside a rectangle, not on its edge."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centers > rectangle[..., :2]) & (centers < rectangle[..., 2:])
    return inside[..., 0] & inside[..., 1]


def cut(view: View, rectangle: npt.NDArray[np.int64]) -> View:
    """Return a part of the image, with the boxes whose centers lie in it, clipped to its edges."""
    left, top, right, bottom = rectangle.tolist()
    inside = centered_in(view.boxes, rectangle)
    part = moved(view, view.image[top:bottom, left:right], (1.0, 1.0), (-left, -top))
    edges = np.array([right - left, bottom - top] * 2)
    boxes = part.boxes[inside].clip(0, edges)
    return part._replace(boxes=boxes, labels=view.labels[inside])


class DetectionTrainTransform:
    """Random augmentation that depends only on (seed, epoch, sample, copy).

    Args:
        augmentation: Augmentation to draw from.
        seed: Seed of the run.
        keep_aspect: Whether the aspect ratio of the augmented image is kept, see `fit`.
    """

    def __init__(self, augmentation: DetectionAugmentation, seed: int, keep_aspect: bool) -> None:
        self.augmentation = augmentation
        self.seed = seed
        self.keep_aspect = keep_aspect
        self.distort = PhotometricDistortion()
        self.extra = ExtraTransforms(augmentation.extra, with_boxes=True)

    def __call__(self, view: View, key: SampleKey) -> View:
        """Map an original image with its boxes to an augmented one of `key.size`."""
        random = Random(f"{self.seed} {key.epoch} {key.sample} {key.copy}")  # hashed with SHA-512
        if random.random() < self.augmentation.expand:
            view = expand(view, random)
        if self.augmentation.crop:
            view = crop(view, random)
        if self.augmentation.photometric:
            view = view._replace(image=self.distort(view.image, random))
        view = fit(view, key.size, self.keep_aspect)
        view = flip(view) if random.random() < self.augmentation.flip else view
        if not self.augmentation.extra:
            return view
        image, boxes, labels = self.extra.with_boxes(view.image, view.boxes, view.labels, random)
        return View(image, boxes, labels, np.full(4, np.nan))


class DetectionEvalTransform:
    """Resizing to the input size.

    Args:
        keep_aspect: Whether the aspect ratio is kept, see `fit`.
    """

    def __init__(self, keep_aspect: bool) -> None:
        self.keep_aspect = keep_aspect

    def __call__(self, view: View, key: SampleKey) -> View:
        """Map an original image with its boxes to `key.size`, without randomness."""
        return fit(view, key.size, self.keep_aspect)
