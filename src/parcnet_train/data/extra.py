"""Your own transforms of training images, from albumentations, after those of the recipe.

They see images at the size of the network's input, and may not change size, channels or type. Boxes
and masks move with the image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, TypeAlias

import albumentations
import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import Image
from parcnet_train.errors import ConfigError

Transform: TypeAlias = albumentations.BasicTransform | albumentations.BaseCompose
Boxes = npt.NDArray[np.float64]  # (n, 4), xyxy in pixels
Labels = npt.NDArray[np.int64]  # (n,)


class ExtraTransforms:
    """Transforms of albumentations in a row, whose randomness comes from the caller.

    Args:
        transforms: Transforms, first one first; none leaves images unchanged.
        with_boxes: Whether boxes move with the image.
    """

    def __init__(self, transforms: Sequence[Transform], with_boxes: bool = False) -> None:
        own = copy.deepcopy(list(transforms))
        for each in single_transforms(own):
            # Albumentations would fill what a moved mask leaves uncovered with class 0.
            if getattr(each, "fill_mask", None) == 0:
                each.fill_mask = IGNORED
        moves = any(
            isinstance(each, albumentations.DualTransform) for each in single_transforms(own)
        )
        self.moves_boxes = with_boxes and moves
        # Boxes are rounded to float32 on the way, so they take part only if something moves them.
        boxes = albumentations.BboxParams(
            "pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True
        )
        self.compose = (
            albumentations.Compose(own, bbox_params=boxes if self.moves_boxes else None)
            if own
            else None
        )

    def image(self, image: Image, random: Random) -> Image:
        """Transform an image, `(H, W, C)`; the shape stays."""
        return self.apply(random, image=image)["image"]

    def with_mask(
        self, image: Image, mask: npt.NDArray[np.uint8], random: Random
    ) -> tuple[Image, npt.NDArray[np.uint8]]:
        """Transform an image and its mask, `(H, W)`; uncovered pixels of the mask are ignored."""
        found = self.apply(random, image=image, mask=mask)
        return found["image"], np.ascontiguousarray(found["mask"])

    def with_boxes(
        self, image: Image, boxes: Boxes, labels: Labels, random: Random
    ) -> tuple[Image, Boxes, Labels]:
        """Transform an image and its boxes; boxes that leave the image are removed."""
        if not self.moves_boxes:
            return self.image(image, random), boxes, labels
        found = self.apply(random, image=image, bboxes=boxes, labels=labels)
        moved = np.asarray(found["bboxes"], np.float64).reshape(-1, 4)
        return found["image"], moved, np.asarray(found["labels"], np.int64).reshape(-1)

    def apply(self, random: Random, **data: Any) -> dict[str, Any]:
        """Apply the transforms to named data.

        Raises:
            ConfigError: If they change the shape or the type of the image.
        """
        if self.compose is None:
            return data
        self.compose.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
        found: dict[str, Any] = self.compose(**data)
        before, after = (described(each["image"]) for each in (data, found))
        if before != after:
            raise ConfigError(
                f"recipe.augmentation.extra: {', '.join(names_of(self.compose.transforms))}: an "
                f"image of {before} becomes {after}; expected the same shape and type. Fix: remove "
                "what resizes, crops or converts; the recipe does that before"
            )
        return {**found, "image": np.ascontiguousarray(found["image"])}


def described(image: Any) -> str:
    """Return the shape and the type of an image in words."""
    return f"{'x'.join(map(str, image.shape))} {str(image.dtype).removeprefix('torch.')}"


def names_of(transforms: Sequence[Transform]) -> list[str]:
    """Return the class names of transforms."""
    return [type(each).__name__ for each in transforms]


def single_transforms(transforms: Sequence[Any]) -> Iterator[Any]:
    """Yield all transforms, also those within a choice such as `OneOf`."""
    for each in transforms:
        if isinstance(each, albumentations.BaseCompose):
            yield from single_transforms(each.transforms)
        else:
            yield each
