"""Selection of the classes of a COCO file: all categories except some without annotations."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping

import numpy as np

from parcnet_train.data.batches import BACKGROUND_NAME
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError

log = logging.getLogger(__name__)

PARENT = "the supercategory of others"


def used_categories(annotations: CocoAnnotations) -> set[int]:
    """Return the ids of the categories that have annotations."""
    return set(annotations.category_ids[np.unique(annotations.labels)].tolist())


def spare_categories(
    annotations: CocoAnnotations, used: Collection[int], keep_parents: bool
) -> dict[int, str]:
    """Return the categories that do not become classes; none of them has annotations.

    Exporters add such entries. Roboflow adds a root category, which is the supercategory of the
    others and may have the name of one of them. A category that merely has no annotations remains a
    class, so that a part of a data set has the same classes as the whole.

    Args:
        annotations: All categories of a file.
        used: Ids of the categories that have annotations in any file of the data set.
        keep_parents: Whether supercategories are classes too.

    Returns:
        Reason for each id.
    """
    names = dict(
        zip(annotations.category_ids[1:].tolist(), annotations.class_names[1:], strict=True)
    )
    parents = set(annotations.category_ids[annotations.is_parent].tolist())
    spare: dict[int, str] = {}
    for category, name in names.items():
        if category in used:
            continue
        if name == BACKGROUND_NAME:
            spare[category] = "the name of the background"
        elif category in parents and not keep_parents:
            spare[category] = PARENT
    for same in by_name(names, spare).values():
        kept = [each for each in same if each in used] or same[:1]
        reason = f"id {kept[0]} has the same name"
        spare |= {each: reason for each in same if each not in kept}
    return spare


def by_name(names: Mapping[int, str], spare: Collection[int] = ()) -> dict[str, list[int]]:
    """Group category ids by name, leaving out those that do not become classes."""
    found: dict[str, list[int]] = {}
    for category, name in names.items():
        if category not in spare:
            found.setdefault(name, []).append(category)
    return found


def without_categories(
    annotations: CocoAnnotations, spare: Mapping[int, str], file: AnyPath
) -> CocoAnnotations:
    """Return the annotations without the categories that do not become classes.

    Args:
        annotations: All categories of a file.
        spare: Ids of categories without annotations.
        file: File of the annotations, for messages.

    Raises:
        DataError: If the names of the classes are not unique, or one is that of the background.
    """
    kept = ~np.isin(annotations.category_ids, list(spare))
    names = [name for name, keep in zip(annotations.class_names, kept, strict=True) if keep]
    ids = annotations.category_ids[kept]
    for name, same in by_name(dict(zip(ids[1:].tolist(), names[1:], strict=True))).items():
        if name == BACKGROUND_NAME:
            raise DataError(
                f'{file}: categories: id {same[0]} has name="{name}" and annotations, but this '
                "name stands for regions without an object. Fix: choose another name"
            )
        if len(same) > 1:
            raise DataError(
                f'{file}: categories: ids {", ".join(map(str, same))} have name="{name}" and '
                "annotations; expected different names. Fix: rename one, or move the annotations "
                "to one category"
            )
    if len(names) == 1:
        raise DataError(f"{file}: categories: none of them is a class; expected at least one class")
    if not spare:
        return annotations
    places = np.cumsum(kept) - 1
    return dataclasses.replace(
        annotations,
        class_names=names,
        category_ids=ids,
        is_parent=annotations.is_parent[kept],
        labels=places[annotations.labels],
    )


def warn_of_spare(annotations: CocoAnnotations, spare: Mapping[int, str], file: AnyPath) -> None:
    """Warn about categories that do not become classes.

    Args:
        annotations: All categories of a file.
        spare: Ids of the categories that do not become classes, with the reason.
        file: File of the annotations.
    """
    names = dict(zip(annotations.category_ids.tolist(), annotations.class_names, strict=True))
    if spare:
        are_parents = set(spare.values()) == {PARENT}
        log.warning(
            "%s: %s of %s categories do not become classes because they have no annotations: %s%s",
            file,
            f"{len(spare):,}",
            f"{len(names) - 1:,}",
            ", ".join(f"id {each} {names[each]!r} ({reason})" for each, reason in spare.items()),
            f"; data.num_classes={len(names) - 1} keeps them as classes" if are_parents else "",
        )


def refuse_other_classes(
    first: tuple[AnyPath, CocoAnnotations], second: tuple[AnyPath, CocoAnnotations]
) -> None:
    """Check that two files have the same categories.

    Raises:
        DataError: If an id or a name differs.
    """
    categories = [
        dict(zip(each.category_ids.tolist(), map(repr, each.class_names), strict=True))
        for _, each in (first, second)
    ]
    for category in sorted({*categories[0], *categories[1]}):
        mine, other = (each.get(category, "absent") for each in categories)
        if mine != other:
            raise DataError(
                f"{first[0]} and {second[0]} have different categories: id {category} is {mine} in "
                f"the first and {other} in the second; expected the same categories in both"
            )
