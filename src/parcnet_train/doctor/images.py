"""Findings about the image files of a set: defects, formats, and pictures that show little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.channels import GRAY, RGB, words_of
from parcnet_train.data.decoding import unreadable
from parcnet_train.data.file_checks import SHOWN
from parcnet_train.data.near_duplicates import FLAT
from parcnet_train.doctor.findings import Drawing, Finding, Severity, share
from parcnet_train.doctor.pictures import Image, examples, image_of
from parcnet_train.doctor.reading.facts import REFUSED
from parcnet_train.doctor.reading.scan import FactsTable
from parcnet_train.doctor.sets import ImageSet

Marks = npt.NDArray[np.bool_]

# Suffixes of each format; files of other formats decode too, but other programs refuse them.
SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}

DARK = 40  # 99th percentile of a dark image's gray values, and of its brightest channel
VERIFIED = 1000  # images whose channels are looked at, since gray values make blue seem dark
BLURRED = 12.0  # variance of the Laplacian of a blurred image, and
BLURRED_SHARE = 0.05  # its share of the median of the set
SMALLEST_MEASURED = 64  # pixels: smaller images say nothing about blur
LONGEST = 8.0  # longer side of an image, in units of the shorter one


class Read(NamedTuple):
    """A set with the facts about its images.

    Attributes:
        images: The set.
        facts: Facts about its images, in their order.
    """

    images: ImageSet
    facts: FactsTable


class Limits(NamedTuple):
    """Settings of the data module on which findings depend.

    Attributes:
        size: Height and width of the network's input.
        max_pixels: Largest number of pixels of an image.
        may_skip: Whether a training leaves out unreadable files.
        task: Name of the task.
    """

    size: tuple[int, int]
    max_pixels: int
    may_skip: bool
    task: str


def image_findings(read: Read, limits: Limits) -> Iterator[Finding]:
    """Yield the findings about the image files of a set."""
    for finding in (*defects(read, limits), *formats(read, limits), *appearance(read, limits)):
        yield replace(finding, where=f"{read.images.title} set")


def files_of(read: Read, marks: Marks, note: Callable[[int], str] | None = None) -> list[str]:
    """Return the names of the first marked images, each with a note."""
    return [
        read.images.name(place) + (f" ({note(place)})" if note else "")
        for place in np.flatnonzero(marks)[:SHOWN].tolist()
    ]


def pictures_of(read: Read, marks: Marks, alt: str, limits: Limits) -> list[Drawing]:
    """Return pictures of the first marked images."""
    return examples(read.images, np.flatnonzero(marks).tolist(), alt, limits.max_pixels)


def defects(read: Read, limits: Limits) -> Iterator[Finding]:
    """Yield files that a training refuses, and files that it decodes only in part."""
    images, facts = read
    texts = {
        "missing": ("Missing images", "cannot be opened."),
        "empty": ("Empty files", "have no content; a download or a copy may have failed."),
        "unreadable": ("Files that are no readable images", "cannot be decoded."),
        "oversized": (
            "Oversized images",
            f"declare more than data.max_pixels={limits.max_pixels:,} pixels.",
        ),
    }
    for problem in REFUSED:
        marks = facts.has(problem)
        if not marks.any():
            continue
        title, words = texts[problem]
        lines = [
            str(unreadable(images.path(place), facts.reasons.get(place, "")))
            for place in np.flatnonzero(marks).tolist()
        ]
        severity: Severity = "warning" if limits.may_skip else "error"
        skips = "leaves them out and counts them" if limits.may_skip else "stops at the first one"
        yield Finding(
            problem,
            severity,
            title,
            int(marks.sum()),
            "images",
            f"These files {words} A training {skips} "
            f"(data.on_error={'skip' if limits.may_skip else 'stop'}).",
            "Fetch them again or remove them, or leave such files out with data.on_error=skip"
            + ("; data.max_pixels=N changes the limit." if problem == "oversized" else "."),
            files_of(read, marks, lambda place: facts.reasons.get(place, "")),
            lines=lines if severity == "error" else [],
        )
    damaged = facts.has("damaged")
    if damaged.any():
        yield Finding(
            "damaged",
            "warning",
            "Damaged images",
            int(damaged.sum()),
            "images",
            "These files are truncated or contain wrong data. A "
            "training decodes them in part: the rest is gray, or noise.",
            "Fetch them again, or remove them.",
            files_of(read, damaged, lambda place: facts.reasons.get(place, "")),
            pictures_of(read, damaged, "Damaged image", limits),
        )


def formats(read: Read, limits: Limits) -> Iterator[Finding]:
    """Yield wrong suffixes, unusual modes of pixels, EXIF turns and unusual sizes."""
    images, facts = read
    wrong = wrong_suffixes(read)
    if wrong.any():
        yield Finding(
            "wrong-suffix",
            "warning",
            "Suffixes that do not fit the content",
            int(wrong.sum()),
            "images",
            "The content of these files has another format than their suffix says. A training "
            "reads them by their content; other programs may refuse them.",
            "Rename them, if other programs read these data too.",
            files_of(read, wrong, lambda place: f"{facts.word('kind', place)} content"),
        )
    yield from modes(read)
    turned = facts["turned"]
    if turned.any():
        has_labels = limits.task != "classification"
        yield Finding(
            "turned",
            "warning" if has_labels else "note",
            "Photos with an EXIF orientation",
            int(turned.sum()),
            "images",
            "The header of these photos says that they are to be turned, and a training turns "
            "them."
            + (
                " Labels fit only if they were drawn on the turned photos, which not every tool "
                "shows."
                if has_labels
                else ""
            ),
            "Compare some labels with the picture; if they do not fit, turn the pixels and remove "
            "the orientation from the header."
            if has_labels
            else "Nothing has to be done.",
            files_of(read, turned),
            pictures_of(read, turned, "Photo, turned", limits),
        )
    height, width = facts["height"], facts["width"]
    known = (height > 0) & (width > 0)
    if not known.any():
        return
    ratio = np.maximum(height, width) / np.maximum(1, np.minimum(height, width))
    long = known & (ratio > LONGEST)
    if long.any():
        yield Finding(
            "aspect",
            "warning",
            "Very long images",
            int(long.sum()),
            "images",
            f"One side of these images is more than {LONGEST:g} times the other; resized to the "
            "input, they are distorted or mostly padding.",
            "Look at them; panoramas and banners are often accidents of a web search.",
            files_of(read, long, lambda place: f"{width[place]}x{height[place]}"),
            pictures_of(read, long, "Very long image", limits),
        )
    small = known & (np.maximum(height, width) < min(limits.size) / 2)
    if small.any():
        yield Finding(
            "small",
            "note",
            "Images much smaller than the input",
            int(small.sum()),
            "images",
            f"{share(int(small.sum()), len(images))} of the {images.title} images have less than "
            f"half the side of the network's input ({limits.size[1]}x{limits.size[0]}) and are "
            "enlarged, which costs time and adds no detail.",
            "If most are small, train with a smaller recipe.image_size.",
            files_of(read, small, lambda place: f"{width[place]}x{height[place]}"),
        )


def wrong_suffixes(read: Read) -> Marks:
    """Return which files have a suffix of another format."""
    facts = read.facts
    if not read.images.has_files:
        return np.zeros(len(facts), np.bool_)
    suffixes = [SUFFIXES_OF.get(kind, ()) for kind in facts.words["kind"]]
    marks = np.zeros(len(facts), np.bool_)
    for place in np.flatnonzero(facts["kind"]).tolist():
        allowed = suffixes[facts["kind"][place]]
        name = read.images.names[place].lower()
        marks[place] = not name.endswith(tuple(map(str.encode, allowed)))
    return marks


def modes(read: Read) -> Iterator[Finding]:
    """Yield images whose pixels are not plain RGB, or not plain gray if gray ones are wanted."""
    facts, channels = read.facts, read.images.channels
    if channels not in (GRAY, RGB):
        return
    wanted = "L" if channels == GRAY else "RGB"
    groups: dict[tuple[Severity, str], list[int]] = {}
    for index, mode in enumerate(facts.words["mode"]):
        if mode not in ("", wanted):
            groups.setdefault(meaning_of(mode), []).append(index)
    for (severity, words), indices in groups.items():
        marks = np.isin(facts["mode"], indices)
        if not marks.any():
            continue
        names = Counter(facts.word("mode", place) for place in np.flatnonzero(marks).tolist())
        yield Finding(
            "mode",
            severity,
            f"Images in other modes: {', '.join(names)}",
            int(marks.sum()),
            "images",
            f"{share(int(marks.sum()), len(facts))} of the {read.images.title} images are not "
            f"plain {words_of(channels)}. {words}",
            "Nothing has to be done, unless they are there by accident."
            if severity == "note"
            else f"Convert them to 8-bit {words_of(channels)}, and look at the result.",
            files_of(read, marks, lambda place: facts.word("mode", place)),
        )


def meaning_of(mode: str) -> tuple[Severity, str]:
    """Return how serious another mode is, and what a training makes of it."""
    if "animated" in mode:
        return "warning", "Only the first image of an animation is read."
    if mode.endswith("16") or mode.startswith(("I", "F")):
        return "warning", "Of 16 or more bits per channel, a training keeps 8."
    if mode == "CMYK":
        return "warning", "Colors for printing are converted without a profile."
    if mode in ("RGBA", "LA", "PA"):
        return "warning", "Transparency is dropped; what was transparent gets an arbitrary color."
    return "note", "A training converts them."


def appearance(read: Read, limits: Limits) -> Iterator[Finding]:
    """Yield images that show little: uniform, dark or blurred ones."""
    images, facts = read
    seen = facts.is_measured()
    if not seen.any():
        return
    flat = seen & (facts["spread"] < FLAT)
    dark = seen & ~flat & (facts["bright"] < DARK)
    for place in np.flatnonzero(dark)[:VERIFIED].tolist():
        dark[place] = is_dark(image_of(images, place, limits.max_pixels))
    large = seen & (np.maximum(facts["height"], facts["width"]) >= SMALLEST_MEASURED)
    sharpness = facts["sharpness"]
    typical = float(np.median(sharpness[large])) if large.any() else 0.0
    blurred = large & ~flat & ~dark & (sharpness < min(BLURRED, BLURRED_SHARE * typical))
    for kind, title, marks, words in (
        ("uniform", "Uniform images", flat, "have nearly one gray value"),
        ("dark", "Dark images", dark, f"have 99 % of their pixels below {DARK} of 255"),
        ("blurred", "Blurred images", blurred, "have no sharp edge, unlike the rest of the set"),
    ):
        if marks.any():
            yield Finding(
                kind,
                "warning",
                title,
                int(marks.sum()),
                "images",
                f"These images {words}.",
                "Look at them, and remove those that do not show what their label says.",
                files_of(read, marks),
                pictures_of(read, marks, title, limits),
            )


def is_dark(image: Image | None) -> bool:
    """Return whether all channels of an image are dark."""
    return image is not None and bool(np.percentile(image.max(axis=2), 99) < DARK)
