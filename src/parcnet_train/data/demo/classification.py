"""Demonstration data for classification: scikit-learn's handwritten digits in ImageNet's layout."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.demo.digits import read_digits
from parcnet_train.files import write_once

log = logging.getLogger(__name__)


def write_digits(root: Path) -> None:
    """Write `root/{train,val}/<digit>/<number>.png`, 8x8 pixels each, unless `root` exists."""
    write_once(root, _write)


def _write(root: Path) -> None:
    for digit in read_digits():
        folder = root / digit.split / str(digit.label)
        folder.mkdir(parents=True, exist_ok=True)
        image = np.round(digit.pixels * 255).astype(np.uint8)
        # `cv2.imwrite` reports success on a full disk.
        (folder / f"{digit.number:04d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


class DigitsData(ImageFolderData):
    """`ImageFolderData` of handwritten digits, which are written to `root` if it does not exist."""

    writes_root: ClassVar[bool] = True

    def prepare(self) -> None:
        """Write the images, and log what they are."""
        write_digits(self.folder)
        log.info(
            "data=demo is demonstration data: 1,797 handwritten digits in %s. For a real run, "
            "choose a real data set: data=imagenet data.root=/path, or data=imagefolder "
            "data.root=/path",
            self.folder,
        )
