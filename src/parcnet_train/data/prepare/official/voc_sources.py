"""Contents of VOC 2012 and SBD: lists of the images for segmentation, and their masks.

VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012) has masks of 2,913 of its images. The
Semantic Boundaries Dataset (SBD, Hariharan et al., ICCV 2011) has masks of 11,355 images of VOC,
most of which have none in VOC 2012.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from parcnet_train.data.prepare.official.mat_files import read_structure
from parcnet_train.data.prepare.sources import Source, broken, refuse_missing
from parcnet_train.data.segmentation.palette import Mask

# In the order of their indices, from VOC's development kit.
VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

NAME = re.compile(r"\d{4}_\d{6}")  # name of a VOC image
VOC_LISTS = ("ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt")
SBD_LISTS = ("train.txt", "val.txt")


@dataclass(frozen=True)
class Counts:
    """Expected numbers of images.

    The numbers of VOC are its own. The number of SBD's images is such that both together have
    10,582, as in the literature since arXiv 1412.7062. The number of COCO is that of train2017.
    """

    voc_train: int = 1_464
    voc_val: int = 1_449
    train: int = 10_582
    coco: int = 118_287


OFFICIAL = Counts()


@dataclass(frozen=True)
class Split:
    """Names of the images by the source of their masks, each list sorted."""

    voc_train: list[str]
    voc_val: list[str]
    sbd: list[str]

    @property
    def train(self) -> list[str]:
        """Training images of VOC and SBD, often called `train_aug`."""
        return sorted([*self.voc_train, *self.sbd])


def read_split(voc: Source, sbd: Source, counts: Counts) -> Split:
    """Read the names of the training and validation images.

    The training images are VOC's own 1,464, with VOC's masks, and those in SBD's two lists that are
    in neither VOC's training set nor its validation set: 9,118, together 10,582.

    Raises:
        DataError: If a list is missing, invalid, or has another number of images.
    """
    train, val = (read_list(voc, name) for name in VOC_LISTS)
    for name, images, count in zip(
        VOC_LISTS, (train, val), (counts.voc_train, counts.voc_val), strict=True
    ):
        if len(images) != count:
            raise broken(voc.path, f"{name} lists {len(images):,} images (expected {count:,})")
    marked = set().union(*(read_list(sbd, name) for name in SBD_LISTS))
    others = marked - train - val
    if len(train) + len(others) != counts.train:
        raise broken(
            sbd.path,
            f"{' and '.join(SBD_LISTS)} list {len(others):,} images that VOC 2012 does not list "
            f"(expected {counts.train - len(train):,})",
        )
    return Split(sorted(train), sorted(val), sorted(others))


def read_list(source: Source, name: str) -> set[str]:
    """Read a list of image names, one per line.

    Raises:
        DataError: If the list does not exist or contains something else.
    """
    refuse_missing(source, [name])
    (content,) = (content for _, content in source.read([name]))
    names = content.decode("utf-8", "replace").split()
    for each in names:
        if not NAME.fullmatch(each):
            raise broken(source.path, f"{name} names {each[:40]!r}, which is not an image of VOC")
    return set(names)


def read_sbd(content: bytes) -> Mask:
    """Read a mask, `(H, W)`, of SBD's folder `cls`: field `Segmentation` of structure `GTcls`."""
    (structure,) = read_structure(content, "GTcls", ["Segmentation"])
    mask = structure["Segmentation"]
    if isinstance(mask, str):
        raise ValueError("GTcls.Segmentation is a text")
    if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise ValueError(f"GTcls.Segmentation has type {mask.dtype} and shape {mask.shape}")
    return mask
