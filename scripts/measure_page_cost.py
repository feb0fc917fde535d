"""Measure what the page of a detector costs beside its evaluation: the table in docs/benchmarks.md.

The detections are made up (100 in each image, 80 classes); one thread:

    python scripts/measure_page_cost.py --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from parcnet_train.benchmarks.evaluation import CLASSES, REFERENCE, make_detections
from parcnet_train.benchmarks.timing import Timing, take_turns
from parcnet_train.detection.errors import count_errors, match
from parcnet_train.detection.evaluation import EVALUATOR, coco_metrics, problem_of
from parcnet_train.detection.evaluators import version_of
from parcnet_train.pages.detection import Evaluated, quality
from parcnet_train.pages.parts import save
from parcnet_train.report.measured import replace_part
from parcnet_train.runs.environment import cpu_model

PART = "page"
DETECTIONS = 100  # per image
METRICS = "COCO's metrics, {}"


def main() -> None:
    """Time all steps, print the table, and write it into a page if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    parser.add_argument("--images", type=int, default=5000, help="images of the set")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds")
    arguments = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # of hotcoco
    with tempfile.TemporaryDirectory() as folder:
        steps = steps_of(arguments.images, Path(folder))
        timings = take_turns(steps, arguments.repeats, torch.device("cpu"))
    text = table(timings, arguments.images, arguments.repeats)
    print(text)
    if arguments.write is not None:
        replace_part(arguments.write, PART, text)


def steps_of(images: int, folder: Path) -> Mapping[str, Callable[[], object]]:
    """Return what is timed, by its name.

    Args:
        images: Number of images.
        folder: Folder for the files of the page.
    """
    annotations, found = make_detections(images, DETECTIONS)
    problem = problem_of(annotations, found)
    matches = match(problem)
    each = Evaluated(problem, matches, found.images, annotations.class_names)
    blocks = quality(each)
    return {
        **{
            METRICS.format(version_of(name)): partial(coco_metrics, annotations, found, name)
            for name in dict.fromkeys((REFERENCE, EVALUATOR))
        },
        "matching": lambda: match(problem),
        "kinds of errors (TIDE)": lambda: count_errors(problem, matches),
        "section Quality, with TIDE, drawn": lambda: quality(each),
        "its files, as SVG and PNG": lambda: save(folder, "quality", "Quality", blocks),
    }


def table(timings: Mapping[str, Timing], images: int, repeats: int) -> str:
    """Return the times as Markdown."""
    reference = timings[METRICS.format(version_of(REFERENCE))]
    lines = [
        f"{images:,} images with {DETECTIONS} detections each, {CLASSES} classes, {repeats} "
        f"rounds; {cpu_model()}, one thread.",
        "",
        f"| step | time | share of {REFERENCE} |",
        "|---|---:|---:|",
    ]
    for name, timing in timings.items():
        share = 100 * timing.relative_to(reference)
        lines.append(f"| {name} | {timing.median / 1000:.2f} s | {share:.1f} % |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
