"""COCO 2017 from its official zip files, or from the folder that they were unpacked into.

    ROOT/train2017/*.jpg    ROOT/val2017/*.jpg    ROOT/annotations/instances_{train,val}2017.json

Files appear under their names when they are complete, so a call that was killed can be resumed.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.prepare.sources import (
    Folder,
    Link,
    Source,
    broken,
    in_one_line,
    place,
    refuse_missing,
)
from parcnet_train.errors import DataError

ANNOTATIONS = "annotations_trainval2017.zip"
COUNTS = {"val": 5_000, "train": 118_287}  # images
IMAGE = re.compile(r"(train|val)2017/\d{12}\.jpg")


class Zip:
    """Files of a zip by their names; only their content is used."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self.archive = archive
        self.sizes = {each.filename: each.file_size for each in archive.infolist()}

    def size(self, name: str) -> int | None:
        """Return the number of bytes of a file; None if it does not exist."""
        return self.sizes.get(name)

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files; their checksums are compared."""
        for name in names:
            try:
                content = self.archive.read(name)
            # An entry may also be encrypted, or compressed by an unknown method (RuntimeError).
            except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:
                raise broken(self.path, error) from error
            yield name, content


def prepare_coco(
    source: Path, root: Path, link: Link = "copy", counts: dict[str, int] | None = None
) -> str:
    """Create the layout of `data=coco`; a new call resumes where the last one stopped.

    Args:
        source: Folder with train2017.zip, val2017.zip and annotations_trainval2017.zip, or with
            what they contain.
        root: Folder to create.
        link: Method for the images of a folder. Images of an archive are always unpacked.
        counts: Expected number of images of each set; None: the official ones.

    Returns:
        Summary of the result, to be printed.

    Raises:
        DataError: If a file is missing, is not what its name says, or cannot be written.
    """
    counts = COUNTS if counts is None else counts
    if root.resolve() == source.resolve():
        raise DataError(
            f"prepare.output={root}: it is the source, which is only read; expected another folder"
        )
    with in_one_line(root), ExitStack() as stack:
        kept = open_part(source, ANNOTATIONS, "annotations", stack)
        files = {name: f"annotations/instances_{name}2017.json" for name in counts}
        refuse_missing(kept, files.values())
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        place(kept, {file: root / file for file in files.values()}, "annotations", link)
        for name, expected in counts.items():
            written = read_annotations(root / files[name])
            images = [f"{name}2017/{file.decode()}" for file in written.files.tolist()]
            if len(images) != expected or not all(map(IMAGE.fullmatch, images)):
                reason = f"{files[name]} lists {len(images):,} images (expected {expected:,})"
                raise broken(kept.path, reason)
            part = open_part(source, f"{name}2017.zip", f"{name}2017", stack)
            refuse_missing(part, images)
            (root / f"{name}2017").mkdir(exist_ok=True)
            place(part, {image: root / image for image in images}, name, link)
    return (
        f"{root}: {counts['train']:,} training and {counts['val']:,} validation images; use "
        f"task=detection data=coco data.root={root}"
    )


def open_part(source: Path, official: str, inside: str, stack: ExitStack) -> Source:
    """Open one of the archives, or the folder that was unpacked from it.

    Raises:
        DataError: If there is neither.
    """
    path = source / official
    if (source / inside).is_dir():
        return Folder(source)
    if not path.is_file():
        raise DataError(
            f"{source} contains neither {official} nor a folder {inside}; expected the official "
            "files of COCO 2017 from cocodataset.org"
        )
    try:
        return Zip(path, stack.enter_context(zipfile.ZipFile(path)))
    except zipfile.BadZipFile as error:
        raise broken(path, error) from error
