"""From any supported annotation format to the layout of a data module.

The result is built in a hidden folder beside its own, and renamed when it is complete and verified:
a folder of that name is complete, and a call that was killed is resumed by the next one. Nothing of
the source is changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from parcnet_train.data.headers import read_header
from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet, Task
from parcnet_train.data.prepare.counts import Counts, count
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import (
    in_parallel,
    measure,
    read_content,
    read_embedded,
    repeated,
)
from parcnet_train.data.prepare.fitness import chosen_task, refuse_names, refuse_unfit
from parcnet_train.data.prepare.settling import (
    Crowds,
    apply_classes,
    content_of,
    refuse_repeats,
    set_apart_special,
    settle,
)
from parcnet_train.data.prepare.sources import Folder, Link, in_one_line, place, write_file
from parcnet_train.data.prepare.splitting import Splitting, assign
from parcnet_train.data.prepare.writers import coco, imagenet, voc
from parcnet_train.errors import ConfigError, DataError
from parcnet_train.files import complete, to_json
from parcnet_train.runs.directories import read_values

RECORD = "prepare.json"  # in the output: settings, counts, and whether it is complete
VERSION = 1  # of the layout of the output; a later one does not resume an earlier one
SUFFIXES_OF_KINDS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp"}


class Writer(Protocol):
    """Module that writes one layout."""

    COMMAND: str

    def path_of(self, image: AnnotatedImage, name: str) -> str:
        """Return the path of an image below the root."""

    def write(self, root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
        """Write everything but the images."""

    def verify(self, root: Path, found: AnnotatedSet, names: Sequence[str]) -> None:
        """Check what `write` has written."""


WRITERS: Mapping[Task, Writer] = {
    "classification": imagenet,
    "detection": coco,
    "segmentation": voc,
}

Reader = Callable[[Faults], AnnotatedSet]


@dataclass(frozen=True)
class Converted:
    """Result of a conversion.

    Attributes:
        root: Folder of the set.
        task: Task that it is for.
        counts: Images and objects per set and class.
        command: Task and data module for a training on it, as overrides.
        was_complete: Whether an earlier call had completed it.
    """

    root: Path
    task: Task
    counts: Counts
    command: str
    was_complete: bool


def convert(
    read: Reader,
    where: str,
    source: Path,
    root: Path,
    task: Task | None,
    classes: Sequence[str] | None,
    crowds: Crowds,
    link: Link,
    splitting: Splitting,
) -> Converted:
    """Convert a set; a new call resumes where the last one stopped.

    Args:
        read: Function that reads the source and collects its faults.
        where: Beginning of messages, `prepare.input=PATH`.
        source: Folder of the source.
        root: Folder to create.
        task: Task to convert for; None: the only one that the source has annotations for.
        classes: Names of the classes in order; None: those of the source.
        crowds: Treatment of objects that the source marks as difficult or crowd.
        link: Method for images: a copy, a hard link or a symbolic link.
        splitting: How images are assigned to sets.

    Raises:
        ConfigError: If the task is not clear, or the source has no annotations for it.
        DataError: If the source has faults, or the output cannot be written.
    """
    refuse_place(source, root)
    with in_one_line(root):
        faults = Faults(where)
        found = read(faults)
        if not splitting.keep:
            found.images = unrepeated(found.images)
        refuse_repeats(found, faults)
        apply_classes(found, classes, faults)
        refuse_names(found, faults)
        faults.refuse()
        if not found.images:
            raise DataError(f"{where}: it contains no annotated image; expected at least one")
        task = chosen_task(task, found, where)
        if task != "classification" and found.palette is None:
            set_apart_special(found, task, where)
        refuse_unfit(found, task, where)
        settle(found, where, crowds)
        assign(found, splitting, where)
        names = file_names(found.images)
        writer = WRITERS[task]
        digest = digest_of(found, names, task, link)
        was_complete = is_complete(root, digest)
        folder = root if was_complete else root.with_name(f".{root.name}.partial")
        if not was_complete:
            begin(folder, root, digest)
            try:
                place_images(folder, found.images, names, writer, link)
                writer.write(folder, found, names)
            except DataError:  # of the source or the settings: repeating the call would not help
                shutil.rmtree(folder, ignore_errors=True)
                raise
        try:
            verify_images(folder, found.images, names, writer)
            writer.verify(folder, found, names)
        except DataError as error:
            raise DataError(
                f"prepare.output={root}: {folder} differs from what was prepared; expected no "
                f"change. Fix: remove {folder} and run the command again\n{error}"
            ) from error
        counts = count(found, task)
        if not was_complete:
            record = {
                "status": "done",
                "digest": digest,
                "task": task,
                "source": str(source.resolve()),
                "classes": found.classes,
                **counts.as_values(),
            }
            write_file(folder / RECORD, to_json(record, indent=2))
            if root.is_dir():
                root.rmdir()  # empty, as `is_complete` has found
            complete(folder, root)
    return Converted(root, task, counts, writer.COMMAND, was_complete)


def refuse_place(source: Path, root: Path) -> None:
    """Check that neither the output lies within the source, nor the source within the output.

    Raises:
        ConfigError: If one of them does.
    """
    outer, inner = source.resolve(), root.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ConfigError(
            f"prepare.output={root}: it lies within prepare.input={source}, which is only read, or "
            "contains it; expected a folder elsewhere. Fix: prepare.output=PATH"
        )


def unrepeated(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """Return the images without repetitions, of which the first one counts."""
    kept: dict[object, AnnotatedImage] = {}
    for image in images:
        kept.setdefault(image.file or image.annotation, image)
    return list(kept.values())


def file_names(images: Sequence[AnnotatedImage]) -> list[str]:
    """Return a file name for every image: its own, or its path if names repeat.

    The names are different without their suffixes too, since masks are named after them.
    """
    stems = [PurePosixPath(image.name).stem.casefold() for image in images]
    again = repeated(stems)
    names = []
    for image, stem in zip(images, stems, strict=True):
        path = PurePosixPath(image.name)
        name = "__".join(path.parts) if stem in again else path.name
        suffix = path.suffix if image.file is not None else suffix_of(image)
        names.append(f"{name.removesuffix(path.suffix)}{suffix}")
    again = repeated(PurePosixPath(name).stem.casefold() for name in names)
    for number, name in enumerate(names):  # a.jpg and a.png in one folder, or A.jpg
        if PurePosixPath(name).stem.casefold() in again:
            names[number] = f"{PurePosixPath(name).stem}_{number}{PurePosixPath(name).suffix}"
    return names


def suffix_of(image: AnnotatedImage) -> str:
    """Return the suffix for an embedded image, which is named after what was annotated."""
    return SUFFIXES_OF_KINDS.get(read_header(content_of(image)).kind, ".png")


def digest_of(found: AnnotatedSet, names: Sequence[str], task: Task, link: Link) -> str:
    """Return a hash of everything that an output is made from, except the pixels."""
    palette = sorted(found.palette.indices.items()) if found.palette else []
    values: list[Any] = [VERSION, task, link, found.classes, palette]
    for image, name in zip(found.images, names, strict=True):
        objects = [repr(each) for each in image.objects] if task != "classification" else []
        mask = image.mask and [image.mask.name, image.mask.stat().st_mtime_ns]
        values.append([name, image.name, image.split, image.label, image.size, objects, mask])
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def is_complete(root: Path, digest: str) -> bool:
    """Return whether the output exists already, made from the same source and settings.

    Raises:
        ConfigError: If the folder contains something else.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = read_values(root / RECORD) if root.is_dir() else {}
    if record.get("digest") == digest:
        return True
    problem = (
        "it was prepared from another source, or with other settings"
        if "digest" in record
        else "it exists, and action=prepare has not made it"
    )
    raise ConfigError(
        f"prepare.output={root}: {problem}; expected a folder that does not exist or is empty. "
        "Fix: another prepare.output, or remove the folder"
    )


def begin(folder: Path, root: Path, digest: str) -> None:
    """Create the hidden folder, or check that an interrupted call had the same plan.

    Raises:
        ConfigError: If it had another one.
    """
    record = read_values(folder / RECORD)
    if folder.exists() and record.get("digest") != digest and any(folder.iterdir()):
        raise ConfigError(
            f"prepare.output={root}: {folder} is left from an interrupted call with another source "
            "or other settings. Fix: repeat that call, remove the folder, or choose another "
            "prepare.output"
        )
    write_file(folder / RECORD, to_json({"status": "started", "digest": digest}, indent=2))


def place_images(
    folder: Path,
    images: Sequence[AnnotatedImage],
    names: Sequence[str],
    writer: Writer,
    link: Link,
) -> None:
    """Copy or link the images that are not there yet, and write embedded ones."""
    targets: dict[str, Path] = {}
    for image, name in zip(images, names, strict=True):
        target = folder / writer.path_of(image, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if image.file is not None:
            targets[str(image.file.absolute())] = target
        elif not target.is_file():
            assert image.annotation is not None
            write_file(target, read_embedded(image.annotation))
    place(Folder(Path("/")), targets, "images", link)


def verify_images(
    folder: Path, images: Sequence[AnnotatedImage], names: Sequence[str], writer: Writer
) -> None:
    """Check that every image exists and has its size.

    Raises:
        DataError: With the number and the first ones of those that do not.
    """
    faults = Faults(f"prepare.output={folder}")
    paths = [writer.path_of(image, name) for image, name in zip(images, names, strict=True)]
    sizes = in_parallel(lambda path: measure(read_content(folder / path)).shown, paths, "verified")
    for image, path, size in zip(images, paths, sizes, strict=True):
        if size != image.size:
            faults.add(
                "images that are missing, damaged or have another size",
                "expected what was read before",
                path,
            )
    faults.refuse()
