"""Classes and validation labels from ImageNet's development kit (ILSVRC2012)."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parcnet_train.data.prepare.official.mat_files import read_structure
from parcnet_train.data.prepare.sources import broken

META = "ILSVRC2012_devkit_t12/data/meta.mat"
LABELS = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"


@dataclass(frozen=True)
class Counts:
    """Expected numbers of images and classes in ILSVRC2012 (arXiv 1409.0575, table 2)."""

    train: int = 1_281_167
    val: int = 50_000
    classes: int = 1_000


ILSVRC2012 = Counts()


def read_devkit(path: Path, counts: Counts) -> tuple[dict[str, str], list[str]]:
    """Read the classes and the labels of the validation images from the development kit.

    Returns:
        Words of each class by its wnid, in the order of the kit; wnid of each validation image.

    Raises:
        DataError: If the file cannot be read, or has other contents than expected.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            meta, truth = (read_member(archive, name) for name in (META, LABELS))
        words = read_synsets(meta)
        numbers = [int(line) for line in truth.split()]
    except Exception as error:  # the readers raise nearly anything for a file of another kind
        raise broken(path, error) from error
    if len(words) != counts.classes or any(not re.fullmatch(r"n\d{8}", each) for each in words):
        raise broken(path, f"it names {len(words):,} classes (expected {counts.classes:,} wnids)")
    if len(numbers) != counts.val or not set(numbers) <= set(range(1, len(words) + 1)):
        expected = f"expected {counts.val:,}, each with a class"
        raise broken(path, f"it labels {len(numbers):,} validation images ({expected})")
    wnids = list(words)
    return words, [wnids[number - 1] for number in numbers]


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """Read a file in an archive."""
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file")
    return file.read()


def read_synsets(content: bytes) -> dict[str, str]:
    """Read the words of each class by wnid, in the order of the labels, from `meta.mat`."""
    synsets: Any = read_structure(
        content, "synsets", ["ILSVRC2012_ID", "WNID", "words", "num_children"]
    )
    # Synsets with children are inner nodes of the hierarchy, not classes.
    classes = {
        int(s["ILSVRC2012_ID"].item()): s for s in synsets if int(s["num_children"].item()) == 0
    }
    if sorted(classes) != list(range(1, len(classes) + 1)):
        raise ValueError("the numbers of its classes are not 1, 2, 3, ...")
    return {
        str(classes[number]["WNID"]): " ".join(str(classes[number]["words"]).split())
        for number in sorted(classes)
    }
