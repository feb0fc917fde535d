"""Seeded split of images into sets: stratified by class, with groups kept together.

The method is iterative stratification (Sechidis et al., ECML 2011) on groups instead of single
images: of the classes that still have groups to place, the rarest comes first, and each of its
groups goes to the set that lacks most images of this class.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from parcnet_train.data.prepare.annotated import Split
from parcnet_train.errors import ConfigError, DataError

NOTHING = ""  # class of an image without objects


def group_names(names: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each image: what the groups of a pattern match in its name.

    Args:
        names: Paths of the images within the source.
        pattern: Regular expression, searched in each name. Its groups, or else the whole match,
            name the group of images.

    Raises:
        ConfigError: If the pattern is invalid.
        DataError: If it does not match some of the names.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"prepare.split.group_by={pattern}: it is not a regular expression ({error}); "
            "expected one such as '^(patient\\d+)_'"
        ) from error
    found = [compiled.search(name) for name in names]
    if missing := [name for name, match in zip(names, found, strict=True) if match is None]:
        raise DataError(
            f"prepare.split.group_by={pattern}: it does not match {len(missing):,} of "
            f"{len(names):,} names (first: {', '.join(missing[:3])}); expected a match in every "
            "path within the source"
        )
    return [
        "\0".join(part or "" for part in match.groups()) if match.re.groups else match[0]
        for match in found
        if match is not None
    ]


def stratify(
    classes: Sequence[Collection[str]],
    groups: Sequence[object],
    shares: Mapping[Split, float],
    seed: int,
) -> list[Split]:
    """Assign every image to a set.

    Args:
        classes: Classes that each image shows.
        groups: Group of each image; images of one group get the same set.
        shares: Share of the images for each set; they add up to 1.
        seed: Seed of the order in which equal groups are placed.

    Returns:
        The set of each image.
    """
    members: defaultdict[object, list[int]] = defaultdict(list)
    for image, group in enumerate(groups):
        members[group].append(image)
    contents = {
        group: Counter(name for image in images for name in (classes[image] or (NOTHING,)))
        for group, images in members.items()
    }
    totals: Counter[str] = Counter()
    for content in contents.values():
        totals.update(content)
    wanted = {
        split: {name: share * n for name, n in totals.items()} for split, share in shares.items()
    }
    images_wanted = {split: share * len(classes) for split, share in shares.items()}
    order = sorted(contents, key=lambda group: members[group][0])
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))  # stable: large groups are hard to place
    remaining = totals.copy()
    placed: dict[object, Split] = {}
    of_class: defaultdict[str, list[object]] = defaultdict(list)
    for group in order:
        for name in contents[group]:
            of_class[name].append(group)
    while left := {name: n for name, n in remaining.items() if n > 0}:
        rarest = min(left, key=lambda name: (left[name], name))
        for group in of_class[rarest]:
            if group in placed:
                continue
            split = max(
                shares, key=lambda each: (wanted[each][rarest], images_wanted[each], shares[each])
            )
            placed[group] = split
            images_wanted[split] -= len(members[group])
            for name, count in contents[group].items():
                wanted[split][name] -= count
                remaining[name] -= count
    return [placed[group] for group in groups]
