"""The report of an examination: a page for people, and plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from parcnet_train.doctor.examine import Examination
from parcnet_train.doctor.findings import SEVERITIES, Finding, count_of
from parcnet_train.doctor.sets import TITLES
from parcnet_train.visualize.pages import render

HEADINGS = {
    "error": "What a training would refuse",
    "warning": "What is probably wrong",
    "note": "What is good to know",
}
LOOKED_FOR = {
    "": (
        "Files: missing, empty, unreadable, damaged or oversized; suffixes that do not fit the "
        "content; gray, 16-bit, CMYK, transparent and animated images; EXIF orientations; very "
        "long and very small images; uniform, dark and blurred images. Duplicates: equal files and "
        "look-alikes, within a set and across both. Classes: balance, rare and unused ones, those "
        "of one set only, suspicious names."
    ),
    "detection": (
        " Boxes: relative or corner coordinates, outside of or beyond the image, narrower than one "
        "pixel, drawn twice, tiny at the input; areas that are not those of the boxes; "
        "supercategories; images with too many objects or none; the share of boxes that an anchor "
        "fits."
    ),
    "segmentation": (
        " Masks: missing, unreadable, of other values or sizes, mostly ignored, "
        "objects that vanish at the input size."
    ),
}


HEADERS = (
    "Only the headers of the images were read, so damaged files, duplicates, faulty masks, and "
    "uniform, dark and blurred images were not found; check.data=full finds them. "
)


def verdict_of(findings: Sequence[Finding]) -> tuple[str, str]:
    """Return the verdict as a sentence, and its tone."""
    errors, warnings = count_of(findings, "error"), count_of(findings, "warning")
    is_one = warnings == 1
    words = f"there {'is' if is_one else 'are'} {warnings} {'finding' if is_one else 'findings'}"
    if errors:
        faults = "1 kind of fault" if errors == 1 else f"{errors} kinds of faults"
        more = f"; besides, {words} to look at" if warnings else ""
        return f"A training would refuse these data for {faults}{more}.", "error"
    if warnings:
        return f"A training can use these data; {words} to look at.", "warning"
    return "A training can use these data; nothing suspicious was found.", "good"


def facts_of(done: Examination, about: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the facts at the top of the page.

    Args:
        done: The examination.
        about: Facts that only the caller knows, by their names.
    """
    images = ", ".join(f"{count:,} {TITLES[split]}" for split, count in done.images.items())
    boxes = ", ".join(f"{count:,} {TITLES[split]}" for split, count in done.boxes.items())
    files = f"{done.files:,} files"
    known = f"; {done.known:,} were known from an earlier check" if done.known else ""
    speed = (done.files - done.known) / max(done.reading_seconds, 1e-9)
    read = f"{files}{known}" if done.known == done.files else f"{files}, {speed:,.0f}/s{known}"
    return [
        *about,
        ("Images", images or "none"),
        *([("Boxes", boxes)] if boxes else []),
        ("Time", f"{timedelta(seconds=round(done.seconds))} ({read})"),
    ]


def page_of(done: Examination, task: str, about: Sequence[tuple[str, str]]) -> bytes:
    """Return the page of an examination."""
    verdict, tone = verdict_of(done.findings)
    groups = [
        (HEADINGS[severity], severity, [e for e in done.findings if e.severity == severity])
        for severity in SEVERITIES
    ]
    return render(
        "parcnet_train.doctor",
        "report.html.jinja",
        title="Check of a data set",
        verdict=verdict,
        tone=tone,
        facts=facts_of(done, about),
        groups=[group for group in groups if group[2]],
        looked_for=("" if done.decodes else HEADERS) + LOOKED_FOR[""] + LOOKED_FOR.get(task, ""),
    )


def values_of(done: Examination) -> dict[str, Any]:
    """Return the examination as plain values, for `report.json`."""
    return {
        "errors": count_of(done.findings, "error"),
        "warnings": count_of(done.findings, "warning"),
        "notes": count_of(done.findings, "note"),
        "images": done.images,
        "boxes": done.boxes,
        "files": done.files,
        "known_files": done.known,
        "seconds": round(done.seconds, 3),
        "reading_seconds": round(done.reading_seconds, 3),
        "findings": [finding.values() for finding in done.findings],
    }


def lines_of(done: Examination, page: Path) -> list[str]:
    """Return the lines that a terminal shows: one per finding, and where the page is."""
    lines = [
        f"{finding.severity}: {finding.sentence}"
        for finding in done.findings
        if finding.severity != "note"
    ]
    return [*lines, verdict_of(done.findings)[0], f"report: {page}"]
