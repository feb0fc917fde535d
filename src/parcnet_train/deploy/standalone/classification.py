"""Part of the scripts of classifiers: the most probable classes of an image."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from parcnet_train.deploy.standalone.common import About, Run, as_input, resized


def center(image: Any, about: About) -> Any:
    """Resize an image so that it covers `resize`, with its aspect ratio, and crop its center."""
    (cover_height, cover_width), (height, width) = about["resize"], about["crop"]
    scale = max(cover_height / image.shape[0], cover_width / image.shape[1])
    # Without the tolerance, rounding could remove a pixel from a side that fits exactly.
    rows, columns = (math.floor(length * scale + 1e-6) for length in image.shape[:2])
    top, left = (rows - height) // 2, (columns - width) // 2
    return resized(image, (rows, columns))[top : top + height, left : left + width]


def classes_of(
    run: Run, image: Any, about: About, given: argparse.Namespace, name: str
) -> dict[str, Any]:
    """Return the most probable classes, best first."""
    logits = run(as_input(center(image, about), about))["logits"][0]
    powers = np.exp(logits - logits.max())
    probabilities = powers / powers.sum()
    best = np.argsort(-probabilities, kind="stable")[: given.top]
    return {
        "predictions": [
            {
                "class": about["class_names"][index],
                "index": int(index),
                "probability": float(probabilities[index]),
            }
            for index in best
        ]
    }
