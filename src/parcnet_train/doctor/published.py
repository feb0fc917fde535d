"""Published counts of data sets, with which an examination compares what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from parcnet_train.doctor.findings import Finding, Table
from parcnet_train.doctor.sets import TITLES, ImageSet


class Published(NamedTuple):
    """Published counts of one set.

    Attributes:
        name: Name of the set.
        images: Number of images.
        boxes: Number of boxes, crowds included; None without boxes.
    """

    name: str
    images: int
    boxes: int | None = None


# By the choice of `data`, then by split. Sources: image-net.org (ILSVRC 2012: 1,281,167 and
# 50,000); cocodataset.org (2017: 118,287 and 5,000), boxes counted in instances_*2017.json; the VOC
# 2012 development kit (segmentation: 1,464 and 1,449); SBD (Hariharan et al., 2011: 8,498, 2,857);
# VOC's training images with SBD's, without VOC's validation images (arXiv 1412.7062): 10,582.
PUBLISHED: dict[str, dict[str, tuple[Published, ...]]] = {
    "imagenet": {
        "train": (Published("ImageNet-1k training", 1_281_167),),
        "val": (Published("ImageNet-1k validation", 50_000),),
    },
    "coco": {
        "train": (Published("COCO train2017", 118_287, 860_001),),
        "val": (Published("COCO val2017", 5_000, 36_781),),
    },
    "voc": {
        "train": (
            Published("VOC 2012 train", 1_464),
            Published("SBD train", 8_498),
            Published("VOC 2012 and SBD, train_aug", 10_582),
        ),
        "val": (Published("VOC 2012 val", 1_449), Published("SBD val", 2_857)),
    },
}


def published_findings(sets: Sequence[ImageSet], choice: str | None) -> Iterator[Finding]:
    """Yield a finding for each set whose counts are not the published ones.

    Args:
        sets: The sets of the data.
        choice: Choice of `data`; only the configs of published data sets are compared.
    """
    for images in sets:
        known = PUBLISHED.get(choice or "", {}).get(images.split, ())
        boxes = None if images.annotations is None else len(images.annotations.boxes)
        given = (len(images), boxes)
        if not known or any(given == (each.images, each.boxes) for each in known):
            continue
        if choice == "voc" and len(images) > max(each.images for each in known):
            continue  # the paper's training set has a part of COCO, whose size is a choice
        nearest = min(known, key=lambda each: abs(each.images - len(images)))
        missing = nearest.images - len(images)
        rows = [
            (each.name, f"{each.images:,}", "" if each.boxes is None else f"{each.boxes:,}")
            for each in known
        ]
        here = (f"this {TITLES[images.split]} set", f"{given[0]:,}", f"{boxes:,}" if boxes else "")
        yield Finding(
            "counts",
            "warning",
            f"A different number of {TITLES[images.split]} images than published",
            abs(missing) or abs((boxes or 0) - (nearest.boxes or 0)),
            "images" if missing else "boxes",
            f"data={choice} is the name of a published data set, but {images.source} has "
            f"{len(images):,} images"
            + (f" and {boxes:,} boxes" if boxes is not None else "")
            + ".",
            f"If the whole set is meant ({nearest.name}), unpack it again and look for an "
            "interrupted download; for a part of it, use a config of your own.",
            table=Table(("set", "images", "boxes"), [*rows, here]),
        )
