"""ImageNet's layout, for `data=imagefolder`: ROOT/{train,val,test}/CLASS/*."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet
from parcnet_train.data.prepare.sources import write_lines

COMMAND = "task=classification data=imagefolder"


def path_of(image: AnnotatedImage, name: str) -> str:
    """Return the path of an image below the root."""
    return f"{image.split}/{image.label}/{name}"


def write(root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
    """Write the list of classes; the images are already there.

    Args:
        root: Folder to write to.
        found: Set to write.
        names: File name of each image.
    """
    write_lines(root / "classes.txt", sorted(found.classes))


def verify(root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
    """Do nothing: the images are all there is."""
