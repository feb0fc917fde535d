"""Inference of a segmentation network: several scales, mirrored images, sliding windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from parcnet_train.data.resizing import LETTERBOX_COLOR
from parcnet_train.sizes import Size

Network = Callable[[Tensor], Tensor]  # (B, 3, H, W) RGB in [0, 1] to (B, K, H, W)

STRIDE = 32  # scaled heights and widths are multiples of it
OVERLAP = 1 / 3  # smallest share of a window that overlaps the next one


def logits_of_scales(
    network: Network, images: Tensor, scales: Sequence[float], mirror: bool
) -> Tensor:
    """Run a network at several scales and on mirrored images, and average the probabilities.

    Args:
        network: Function from images to logits.
        images: Float RGB images `(B, 3, H, W)` in [0, 1].
        scales: Factors by which height and width are scaled.
        mirror: Whether to run mirrored images too.

    Returns:
        `(B, K, H, W)`: logarithms of the mean probabilities, or the logits if there is only one
        run.
    """
    size = images.shape[2:]
    if list(scales) == [1.0] and not mirror:
        return network(images)
    total: Tensor | None = None
    for scale in scales:
        scaled = images if scale == 1 else at_scale(images, scale)
        runs = [network(scaled)]
        if mirror:
            runs.append(network(scaled.flip(-1)).flip(-1))
        for logits in runs:
            probabilities = functional.interpolate(logits.softmax(dim=1), size, mode="bilinear")
            total = probabilities if total is None else total + probabilities
    assert total is not None  # there is at least one scale
    mean = total / (len(scales) * (1 + mirror))
    # The logarithm of 0 is infinite, and upsampling would turn it into NaN.
    return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


def at_scale(images: Tensor, scale: float) -> Tensor:
    """Resize `(B, 3, H, W)`, each side to the nearest multiple of `STRIDE`."""
    size = [max(1, round(length * scale / STRIDE)) * STRIDE for length in images.shape[2:]]
    return functional.interpolate(images, size, mode="bilinear")


class Span(NamedTuple):
    """A window along one axis, in pixels of the image."""

    start: int
    kept: slice  # pixels of the image that this window decides


def spans(length: int, window: int) -> list[Span]:
    """Return windows that cover an axis evenly; an overlap belongs to the nearer window center.

    Args:
        length: Length of the axis, at least that of the window.
        window: Length of a window, in pixels.
    """
    count = 1 + math.ceil((length - window) / (window * (1 - OVERLAP)))
    starts = [round(index * (length - window) / max(1, count - 1)) for index in range(count)]
    # Halfway between the centers of two windows.
    borders = [(first + second + window) // 2 for first, second in itertools.pairwise(starts)]
    edges = [0, *borders, length]
    return [
        Span(start, slice(edge, next_edge))
        for start, edge, next_edge in zip(starts, edges, edges[1:], strict=False)
    ]


def classes_of_windows(network: Network, image: Tensor, window: Size) -> Tensor:
    """Predict the class of every pixel of an image of any size, window by window.

    The memory needed is that of one window, plus the image and one byte per pixel for the classes.

    Args:
        network: Function from uint8 RGB images `(1, 3, *window)` to logits.
        image: RGB image `(3, H, W)` uint8; it is padded with gray if it is smaller than the window,
            as in training.
        window: Height and width of a window, in pixels.

    Returns:
        `(H, W)` uint8.
    """
    height, width = image.shape[1:]
    missing = [
        max(0, wanted - length) for wanted, length in zip(window, (height, width), strict=True)
    ]
    if any(missing):
        image = functional.pad(image, (0, missing[1], 0, missing[0]), value=LETTERBOX_COLOR)
    classes = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
    for rows in spans(image.shape[1], window[0]):
        for columns in spans(image.shape[2], window[1]):
            part = image[
                :,
                rows.start : rows.start + window[0],
                columns.start : columns.start + window[1],
            ]
            found = network(part[None])[0].argmax(dim=0)
            classes[rows.kept, columns.kept] = found[
                rows.kept.start - rows.start : rows.kept.stop - rows.start,
                columns.kept.start - columns.start : columns.kept.stop - columns.start,
            ]
    return classes[:height, :width]
