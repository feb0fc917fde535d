"""Photos for benchmarks, cut out of the two sample images of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

SIZE = (500, 375)  # width and height in pixels, as most photos of ImageNet


def cut_photos(count: int) -> Iterator[Image.Image]:
    """Yield photos of one size, always the same ones.

    Args:
        count: Number of photos.
    """
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(each) for each in load_sample_images().images]
    for number in range(count):
        source = pictures[number % len(pictures)]
        left = int(random.integers(source.width - SIZE[0] + 1))
        top = int(random.integers(source.height - SIZE[1] + 1))
        yield source.crop((left, top, left + SIZE[0], top + SIZE[1]))
