"""Findings about classes: their balance, classes of one set only, and suspicious names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.doctor.findings import Finding, Table, share
from parcnet_train.doctor.sets import TITLES

RARE = 5  # training samples of a class, below which it can hardly be learned
LISTED = 30  # classes of a table

Counts = npt.NDArray[np.int64]


class Tally(NamedTuple):
    """Counts per class.

    Attributes:
        names: Names of the classes to count, in the order of `counts`.
        unit: Counted things, in plural.
        counts: Counts by split, `(n,)` each.
    """

    names: Sequence[str]
    unit: str
    counts: Mapping[str, Counts]


def class_findings(tally: Tally) -> Iterator[Finding]:
    """Yield the findings about the classes of a data set."""
    yield from suspicious_names(tally.names)
    train = tally.counts.get("train")
    evaluated = next(((s, counts) for s, counts in tally.counts.items() if s != "train"), None)
    if train is not None and evaluated is not None:
        split, counts = evaluated
        yield from of_one_set(tally, "train", train, counts)
        yield from of_one_set(tally, split, counts, train)
    if train is not None:
        yield from unused_and_rare(tally, train, evaluated[1] if evaluated else None)
    yield balance(tally)


def of_one_set(tally: Tally, split: str, own: Counts, other: Counts) -> Iterator[Finding]:
    """Yield the classes that occur only in one set."""
    only = np.flatnonzero((own > 0) & (other == 0))
    if len(only):
        is_training = split == "train"
        yield Finding(
            "class-in-one-set",
            "warning",
            f"Classes of the {TITLES[split]} set only",
            len(only),
            "classes",
            "No metric says how well these classes are recognized."
            if is_training
            else "The network cannot learn these classes, but the metrics count them.",
            "Move some of their images to the other set."
            if is_training
            else "Move some of their images to the training set, or remove the classes.",
            [f"{tally.names[n]} ({own[n]:,} {tally.unit})" for n in only[:LISTED].tolist()],
        )


def unused_and_rare(tally: Tally, train: Counts, val: Counts | None) -> Iterator[Finding]:
    """Yield classes without any sample, and classes with very few."""
    unused = np.flatnonzero((train == 0) & ((val == 0) if val is not None else True))
    if len(unused):
        yield Finding(
            "unused-class",
            "warning",
            "Classes without a sample",
            len(unused),
            "classes",
            f"The data set names these classes, but has no {tally.unit} of them. The network gets "
            "outputs for them that are never right.",
            "Remove them, unless the classes of a larger data set are meant.",
            [tally.names[n] for n in unused[:LISTED].tolist()],
        )
    if tally.unit == "pixels":
        return
    rare = np.flatnonzero((train > 0) & (train < RARE))
    if len(rare) and train.max() >= 10 * RARE:
        yield Finding(
            "rare-class",
            "warning",
            "Rare classes",
            len(rare),
            "classes",
            f"These classes have fewer than {RARE} {tally.unit} in the training set, while the "
            f"largest class has {train.max():,}.",
            "Collect more of them, or join them with a related class.",
            [f"{tally.names[n]} ({train[n]:,} {tally.unit})" for n in rare[:LISTED].tolist()],
        )


def balance(tally: Tally) -> Finding:
    """Return the table of all classes, as a note."""
    splits = list(tally.counts)
    totals = {split: int(tally.counts[split].sum()) for split in splits}
    main = tally.counts[splits[0]]
    order = np.argsort(-main, kind="stable").tolist()
    shown = order if len(order) <= LISTED else [*order[: LISTED // 2], *order[-LISTED // 2 :]]
    rows = [
        (
            tally.names[n],
            *(
                cell
                for split in splits
                for cell in (
                    f"{tally.counts[split][n]:,}",
                    share(int(tally.counts[split][n]), totals[split]),
                )
            ),
        )
        for n in shown
    ]
    seen = main[main > 0]
    ratio = seen.max() / seen.min() if len(seen) else 1.0
    words = (
        f"The largest class has {ratio:,.1f} times as many {tally.unit} as the smallest"
        if ratio >= 1.05
        else f"All classes have nearly the same number of {tally.unit}"
    )
    return Finding(
        "class-balance",
        "note",
        "Class balance",
        len(order),
        "classes",
        words
        + (
            f"; of {len(order):,} classes, the largest and the smallest are shown."
            if len(shown) < len(order)
            else "."
        ),
        "With a high ratio, look at the metrics per class, not only at their mean.",
        table=Table(
            ("class", *(cell for s in splits for cell in (f"{TITLES[s]} {tally.unit}", "share"))),
            rows,
        ),
    )


def suspicious_names(names: Sequence[str]) -> Iterator[Finding]:
    """Yield names that look like slips: spaces, other forms of letters, equal but for these."""
    reasons = {name: reason for name in names if (reason := oddity_of(name))}
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(plain(name), []).append(name)
    for same in by_form.values():
        if len(same) > 1:
            for name in same:
                others = ", ".join(repr(other) for other in same if other != name)
                reasons[name] = f"differs only in form from {others}"
    if reasons:
        yield Finding(
            "suspicious-names",
            "warning",
            "Suspicious class names",
            len(reasons),
            "classes",
            "These names look like slips: one class under two names, or a name that no program "
            "finds when it is typed.",
            "Rename the classes, or join those that are the same.",
            [f"{name!r}: {reason}" for name, reason in reasons.items()][:LISTED],
        )


def oddity_of(name: str) -> str | None:
    """Return what is odd about a name; None if nothing is."""
    if name != name.strip():
        return "spaces at its beginning or end"
    if "  " in name:
        return "two spaces in a row"
    if not name.isprintable() or any(each.isspace() and each != " " for each in name):
        return "characters that cannot be seen"
    if unicodedata.normalize("NFC", name) != name:
        return "letters in decomposed form (NFD), as macOS writes file names"
    if unicodedata.normalize("NFKC", name) != name:
        return "letters that only look like common ones"
    return None


def plain(name: str) -> str:
    """Return a name in the form in which equal names are equal."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in folded if each.isalnum()) or folded


def category_findings(annotations: CocoAnnotations) -> Iterator[Finding]:
    """Yield supercategories among the categories of a COCO file, before they are left out.

    Args:
        annotations: Annotations with all categories of the file.
    """
    used = np.bincount(annotations.labels, minlength=len(annotations.class_names))
    parents, ids = np.flatnonzero(annotations.is_parent), annotations.category_ids
    if len(parents):
        yield Finding(
            "supercategory",
            "warning" if used[parents].any() else "note",
            "Supercategories among the categories",
            len(parents),
            "categories",
            "These categories are the supercategory of others. Those without a box do not become "
            "classes; those with boxes do, and then overlap the classes below them.",
            "If they have boxes, give each box its exact category.",
            [
                f"{annotations.class_names[n]} (id {ids[n]}, {used[n]:,} boxes)"
                for n in parents[:LISTED].tolist()
            ],
        )
