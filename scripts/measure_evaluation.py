"""Measure COCO's metrics in every installed library: the table in docs/benchmarks.md.

hotcoco, faster-coco-eval and pycocotools score the same made-up detections (100 in each image, 80
classes), interleaved in one run with one thread; the memory is also measured for 5,000 images:

    pip install 'parcnet-train[coco]' faster-coco-eval
    python scripts/measure_evaluation.py --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import parcnet_train
from parcnet_train.report.measured import replace_part

PART = "evaluation"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
EVALUATORS = ("hotcoco", "faster_coco_eval", "pycocotools")


def main() -> None:
    """Run both benchmarks, print the table, and write it into a page if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    parser.add_argument("--images", type=int, default=1000, help="images of the timed set")
    parser.add_argument("--memory-images", type=int, default=5000, help="images of the large set")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    arguments = parser.parse_args()
    os.environ.update(ONE_THREAD)  # before any library reads it
    wanted = ("action=benchmark", "benchmark.target=evaluation")
    timed, large = (
        parcnet_train.run(*wanted, f"benchmark.images={images}", f"benchmark.repeats={repeats}")
        for images, repeats in ((arguments.images, arguments.repeats), (arguments.memory_images, 1))
    )
    text = table(timed, large)
    print(text)
    if arguments.write is not None:
        replace_part(arguments.write, PART, text)


def table(timed: dict[str, Any], large: dict[str, Any]) -> str:
    """Return the results as Markdown.

    Args:
        timed: `results.json` of the timed set.
        large: `results.json` of the large set, of which only the memory is shown.
    """
    about = f"{timed['hardware/cpu']}, {timed['evaluation/threads']} thread"
    lines = [
        f"{timed['images']:,} images with {timed['detections']} detections each, "
        f"{timed['classes']} classes, {timed['repeats']} rounds; {about}, "
        f"Python {timed['python_version']}.",
        "",
        "| library | time | times as fast | largest difference of a metric | peak memory | "
        f"peak memory, {large['images']:,} images |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name in EVALUATORS:
        key = f"evaluation/{name}"
        if f"{key}/version" not in timed:
            continue
        least, median, most = (
            f"{timed[f'{key}/milliseconds{suffix}'] / 1000:.2f}" for suffix in ("_min", "", "_max")
        )
        cells = [f"{name} {timed[f'{key}/version']}", f"{median} s ({least}-{most})"]
        cells += [f"{timed[f'{key}/ratio']:.1f}x", f"{timed[f'{key}/difference']:.1g}"]
        cells += [megabytes(each[f"{key}/peak_memory_bytes"]) for each in (timed, large)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def megabytes(size: int | None) -> str:
    """Return a size in MB; nothing if it was not measured."""
    return "" if size is None else f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
