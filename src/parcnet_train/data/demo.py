"""Demonstration data: scikit-learn's handwritten digits, as PNG files in ImageNet's layout."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from parcnet_train.data.classification import ImageFolderData

log = logging.getLogger(__name__)

VAL_EVERY = 5  # every fifth image of a class is for validation: 1,442 train, 355 val


def write_digits(root: Path) -> None:
    """Writes `root/{train,val}/<digit>/<number>.png`, 8x8 pixels each, unless it is there.

    The folder appears as a whole, so that neither an interrupted call nor two at once leave half.
    """
    if root.is_dir():
        return
    from sklearn.datasets import load_digits  # slow to import, and only needed once

    digits = load_digits()
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=root.parent, prefix=f"{root.name}.partial-"))
    count = [0] * 10
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        split = "val" if count[label] % VAL_EVERY == VAL_EVERY - 1 else "train"
        count[label] += 1
        folder = partial / split / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        # The source counts ink from 0 to 16.
        image = np.round(pixels * 255 / 16).astype(np.uint8)
        # `cv2.imwrite` reports success on a full disk.
        (folder / f"{number:04d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    partial.chmod(0o755)
    try:
        partial.rename(root)
    except OSError:  # another process was faster
        shutil.rmtree(partial)


class DigitsData(ImageFolderData):
    """`ImageFolderData` over digits that it writes into `root` when they are not there yet."""

    writes_root: ClassVar[bool] = True

    def prepare(self) -> None:
        """Writes the images, and says what they are."""
        write_digits(self.root)
        log.info(
            "data=demo is demonstration data: 1,797 handwritten digits in %s. For a real run name "
            "a real set: data=imagenet data.root=/path, or data=imagefolder data.root=/path",
            self.root,
        )
