"""Images and objects of a prepared set, per set and class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parcnet_train.data.prepare.annotated import SPLITS, AnnotatedSet, Split, Task
from parcnet_train.data.prepare.splitting import classes_of


@dataclass(frozen=True)
class Counts:
    """Numbers of a prepared set.

    Attributes:
        classes: Names of the classes in order.
        images: Number of images by set.
        images_of: Number of images that show a class, by set and class.
        objects_of: Number of objects of a class, by set and class; empty without objects.
    """

    classes: list[str]
    images: dict[Split, int]
    images_of: dict[Split, Counter[str]]
    objects_of: dict[Split, Counter[str]]

    @property
    def sets(self) -> list[Split]:
        """Sets that have images."""
        return [split for split in SPLITS if self.images[split]]

    def as_values(self) -> dict[str, Any]:
        """Return the numbers as plain values: `images`, `images_of_class`, `objects_of_class`."""
        return {
            "images": {split: self.images[split] for split in self.sets},
            "images_of_class": {
                split: {name: self.images_of[split][name] for name in self.classes}
                for split in self.sets
            },
            "objects_of_class": {
                split: {name: self.objects_of[split][name] for name in self.classes}
                for split in self.sets
            }
            if any(self.objects_of.values())
            else {},
        }

    def rows(self) -> list[list[str]]:
        """Return a table: a heading, a row per class, and the sums."""
        has_objects = any(self.objects_of.values())
        kinds = ("images", "objects") if has_objects else ("images",)
        heading = ["class", *(f"{split} {kind}" for split in self.sets for kind in kinds)]

        def row(name: str, images: Sequence[int], objects: Sequence[int]) -> list[str]:
            numbers = [
                number
                for pair in zip(images, objects, strict=True)
                for number in pair[: len(kinds)]
            ]
            return [name, *(f"{number:,}" for number in numbers)]

        rows = [
            row(
                name,
                [self.images_of[split][name] for split in self.sets],
                [self.objects_of[split][name] for split in self.sets],
            )
            for name in self.classes
        ]
        total = row(
            "all",
            [self.images[split] for split in self.sets],
            [self.objects_of[split].total() for split in self.sets],
        )
        return [heading, *rows, total]


def count(found: AnnotatedSet, task: Task) -> Counts:
    """Count the images and objects of a set whose images all have a split."""
    images: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    images_of: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    objects_of: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    for image, shown in zip(found.images, classes_of(found.images, found), strict=True):
        assert image.split is not None
        images[image.split] += 1
        images_of[image.split].update(shown)
        if task != "classification":
            names = (each.name for each in image.objects)
            objects_of[image.split].update(name for name in names if name in found.classes)
    return Counts(found.classes, images, images_of, objects_of)
