"""Annotations in COCO's JSON format, read once into flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class CocoAnnotations:
    """Images and boxes of one annotation file, exactly as it has them, crowds too.

    Flat arrays: Python objects per box would be copied into every loader process bit by bit.

    Attributes:
        class_names: the background first, then the categories in the order of their ids.
        category_ids: `(K,)` int64, id of each class in the file; -1 for the background.
        files: `(n,)` bytes, names of the image files.
        image_ids: `(n,)` int64.
        sizes: `(n, 2)` int64, height and width of the images in pixels.
        starts: `(n + 1,)` int64; boxes of image i: from `starts[i]` to before `starts[i + 1]`.
        boxes: `(m, 4)` float64, left, top, width, height, in pixels of the original image.
        labels: `(m,)` int64, class indices from 1.
        areas: `(m,)` float64, of the object, in pixels: chooses small, medium or large.
        is_crowd: `(m,)` bool.
    """

    class_names: list[str]
    category_ids: npt.NDArray[np.int64]
    files: npt.NDArray[np.bytes_]
    image_ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    is_crowd: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.files)

    def of(self, image: int) -> slice:
        """Where the boxes of an image are."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))
