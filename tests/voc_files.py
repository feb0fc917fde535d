"""Small data set in VOC's layout: JPEG and PNG, several sizes, masks with and without palette."""

import itertools
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from parcnet_train.data.segmentation.palette import write_mask

NAMES = ["background", "cat", "dog"]
TRAIN = {"a": (40, 56), "b": (64, 48), "c": (50, 90), "d": (72, 41)}  # height, width
VAL = {"e": (45, 70), "f": (70, 45), "g": (33, 33)}
ENDINGS = {"b": ".png", "d": ".jpeg"}  # all others: .jpg


def mask_of(name, classes=3):
    """Return a mask with a band of rows per class, and a frame of ignored pixels."""
    height, width = {**TRAIN, **VAL}[name]
    rows = np.arange(height) * classes // height
    mask = np.repeat(rows[:, None], width, axis=1).astype(np.uint8)
    mask[[0, -1]], mask[:, [0, -1]] = 255, 255
    return mask


def image_path(root, name):
    return root / "JPEGImages" / f"{name}{ENDINGS.get(name, '.jpg')}"


def mask_path(root, name):
    return root / "SegmentationClass" / f"{name}.png"


def write_list(root, split, names):
    """Write `root/ImageSets/Segmentation/<split>.txt`, and return its path."""
    file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    file.write_text("".join(f"{name}\n" for name in names))
    return file


def write_classes(root, names):
    """Write `root/classes.txt`, and return its path."""
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    return root / "classes.txt"


def write_pair(root, name, classes=3):
    """Write an image of noise and its mask."""
    mask = mask_of(name, classes)
    pixels = np.random.default_rng(ord(name)).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    cv2.imwrite(str(image_path(root, name)), pixels)
    if name in ENDINGS:
        Image.fromarray(mask).save(mask_path(root, name))  # gray
    else:
        write_mask(mask_path(root, name), mask)


def write_voc(root, names=NAMES):
    """Write a whole data set, and return its folder."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split, files in (("train", TRAIN), ("val", VAL)):
        for name in files:
            write_pair(root, name, len(names))
        write_list(root, split, files)
    write_classes(root, names)
    return root


def write_several(root):
    """Write twenty images in the sizes of the small data set."""
    sizes = itertools.cycle(TRAIN.values())
    train = dict(zip("abcdhijklmnopqrstuvw", sizes, strict=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "TRAIN", train)
        patch.setattr(sys.modules[__name__], "ENDINGS", dict.fromkeys([*train, *VAL], ".png"))
        return write_voc(root)
