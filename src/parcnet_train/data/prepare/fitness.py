"""Checks that a set can be converted: its names, its task, and what the task needs."""

from __future__ import annotations

from pathlib import PurePosixPath

from parcnet_train.data.batches import MAX_CLASSES
from parcnet_train.data.folders import OF_SYSTEMS
from parcnet_train.data.prepare.annotated import AnnotatedSet, Task
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import repeated
from parcnet_train.data.prepare.writers import voc
from parcnet_train.errors import ConfigError, DataError, unfit_name


def refuse_names(found: AnnotatedSet, faults: Faults) -> None:
    """Report names of classes and images that cannot be written to lists and results."""
    for name in sorted(repeated(found.classes)):
        faults.add("classes that occur twice", "expected different names", name)
    for kind, names in (
        ("classes", found.classes),
        ("images", [image.name for image in found.images]),
    ):
        for name in names:
            if problem := unfit_name(name):
                faults.add(
                    f"{kind} whose name {problem}",
                    "expected names of printable UTF-8 text. Fix: rename them",
                    name,
                )


def chosen_task(task: Task | None, found: AnnotatedSet, where: str) -> Task:
    """Return the task to convert for.

    Raises:
        ConfigError: If it has to be chosen, or the source has no annotations for it.
    """
    possible = found.tasks
    if not possible:
        raise DataError(f"{where}: its images have no annotation; expected objects or classes")
    if task is None and len(possible) > 1:
        raise ConfigError(
            f"prepare.task has no value, and {where} has annotations for "
            f"{' and '.join(possible)}. Fix: {' or '.join(f'prepare.task={p}' for p in possible)}"
        )
    if task is not None and task not in possible:
        raise ConfigError(
            f"prepare.task={task}: {where} has annotations only for {' and '.join(possible)}. Fix: "
            f"prepare.task={possible[0]}"
        )
    return task or possible[0]


def refuse_unfit(found: AnnotatedSet, task: Task, where: str) -> None:
    """Check that every image has what a task needs.

    Raises:
        DataError: If images have no label (classification), objects no outline (segmentation), or
            masks cannot hold the number of classes.
    """
    faults = Faults(where)
    count = len(voc.class_names(found))
    if task == "segmentation" and not 2 <= count <= MAX_CLASSES:
        raise DataError(
            f"{where}: it has {count} classes with the background; expected 2 to {MAX_CLASSES}. "
            "Fix: merge or remove classes"
        )
    if task == "segmentation":  # lists and classes.txt are read without white space around names
        for name in (*found.classes, *(PurePosixPath(image.name).stem for image in found.images)):
            if name != name.strip() or not name:
                faults.add(
                    "names that begin or end with white space, or are empty",
                    "expected other names (prepare.task=segmentation). Fix: rename them",
                    repr(name),
                )
    for image in found.images:
        if task == "classification" and image.label is None:
            faults.add("images without a class", "expected one class for every image", image.name)
        elif task == "classification" and not is_folder_name(str(image.label)):
            faults.add(
                "classes that cannot be the name of a folder",
                "expected names without a slash, and without a dot at the beginning",
                f"{image.name}: {image.label}",
            )
        if task == "segmentation" and image.mask is None:
            for shape in image.objects:
                if not shape.has_shape:
                    faults.add(
                        "objects with a box but no outline",
                        "expected polygons or masks (prepare.task=segmentation). Fix: outline "
                        "them, or prepare.task=detection",
                        f"{image.name}: {shape.name}",
                    )
    faults.refuse()


def is_folder_name(label: str) -> bool:
    """Return whether the data module can read a folder of this name as a class."""
    hidden = label.startswith(".") or label.lower() in OF_SYSTEMS
    return not hidden and not set(label) & {"/", "\\", "\0"}
