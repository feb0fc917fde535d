"""Part of the scripts of segmentation networks: a mask of the size of the image."""

from __future__ import annotations

import argparse
import math
from typing import Any

import cv2
import numpy as np

from parcnet_train.deploy.standalone.common import About, Run, as_input, fit


def enlarged(outputs: Any, size: Any, about: About) -> Any:
    """Return the class of every pixel, `(*size)`, of logits `(K, h, w)` or classes `(h, w)`."""
    if outputs.ndim == 2 or about["enlarge"] == "nearest":
        classes = outputs if outputs.ndim == 2 else outputs.argmax(axis=0)
        rows, columns = (
            # In float32, as torch does: at borders of pixels, rounding decides.
            np.minimum(np.arange(long, dtype=np.float32) * np.float32(short / long), short - 1)
            for long, short in zip(size, classes.shape)
        )
        return classes[rows.astype(int)[:, None], columns.astype(int)].astype(np.uint8)
    best = np.full(size, -np.inf, np.float32)
    classes = np.zeros(size, np.uint8)
    for label, logits in enumerate(outputs):  # one at a time: all of them may not fit into memory
        large = cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        is_better = large > best
        classes[is_better], best[is_better] = label, large[is_better]
    return classes


def spans(length: int, window: int, overlap: float) -> Any:
    """Return windows that cover an axis evenly: the start, and the pixels that each one decides."""
    count = 1 + math.ceil((length - window) / (window * (1 - overlap)))
    starts = [round(index * (length - window) / max(1, count - 1)) for index in range(count)]
    borders = [(first + second + window) // 2 for first, second in zip(starts, starts[1:])]
    edges = [0, *borders, length]
    return list(zip(starts, edges, edges[1:]))


def classes_of_windows(run: Run, image: Any, about: About) -> Any:
    """Return the class of every pixel of an image that is not resized but cut into windows."""
    height, width = about["image_size"]
    rows, columns = max(height, image.shape[0]), max(width, image.shape[1])
    canvas = np.full((rows, columns, image.shape[2]), about["fill"], np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    mask = np.zeros((rows, columns), np.uint8)
    for top, first, last in spans(rows, height, about["overlap"]):
        for left, start, stop in spans(columns, width, about["overlap"]):
            window = canvas[top : top + height, left : left + width]
            (found,) = run(as_input(window, about)).values()
            classes = found[0].argmax(axis=0) if found.ndim == 4 else found[0]
            mask[first:last, start:stop] = classes[
                first - top : last - top, start - left : stop - left
            ]
    return mask[: image.shape[0], : image.shape[1]]


def mask_of(
    run: Run, image: Any, about: About, given: argparse.Namespace, name: str
) -> dict[str, Any]:
    """Write the mask of an image, a PNG file of class indices, and return the classes' shares.

    Raises:
        ValueError: If the mask would replace one of the images.
    """
    written = given.output / f"{name}.png"
    if written.resolve() in given.sources:
        raise ValueError(
            f"--output {given.output}: the mask would replace {written}. Fix: name another folder"
        )
    if about["resize"] is None:
        mask = classes_of_windows(run, image, about)
    else:
        pixels, (height, width, top, left) = fit(image, about)
        (found,) = run(as_input(pixels, about)).values()
        covered = found[0][..., top : top + height, left : left + width]
        mask = enlarged(covered, image.shape[:2], about)
    given.output.mkdir(parents=True, exist_ok=True)
    written.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    counts = np.bincount(mask.ravel(), minlength=len(about["class_names"]))
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    shares = {about["class_names"][index]: int(counts[index]) / mask.size for index in order}
    return {"mask": str(written), "classes": shares}
