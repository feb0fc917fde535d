"""Measure what a teacher adds to a training step: the table in docs/benchmarks.md.

python scripts/measure_teacher_cost.py WORK --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import parcnet_train
from parcnet_train.benchmarks.timing import in_digits
from parcnet_train.report.measured import replace_part

PAIRS = (("parcnet_xs", "parcnet_s"), ("parcnet_s", "resnet50"))  # student and teacher
PART = "teacher"
TIMES = ("without_teacher", "with_teacher", "forward")


def main() -> None:
    """Run the benchmark of every pair, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("work", type=Path, help="folder for runs")
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each benchmark")
    parser.add_argument("--image-size", type=int, default=256, help="pixels")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    target = arguments.write.resolve() if arguments.write else None
    os.chdir(arguments.work)
    settings = ("action=benchmark", "benchmark.target=distillation", "trainer.accelerator=cpu")
    found = [
        parcnet_train.run(
            *settings,
            f"benchmark.repeats={arguments.repeats}",
            f"benchmark.image_size={arguments.image_size}",
            f"backbone={student}",
            f"benchmark.teacher={teacher}",
        )
        for student, teacher in PAIRS
    ]
    text = table(found)
    print(text)
    if target is not None:
        replace_part(target, PART, text)


def table(found: list[dict[str, Any]]) -> str:
    """Return the results as Markdown; times are medians, with the range in brackets."""
    first = found[0]
    size = "x".join(map(str, first["image_size"]))
    threads = (
        "1 thread" if first["hardware/threads"] == 1 else f"{first['hardware/threads']} threads"
    )
    lines = [
        f"Batch {first['batch_size']}, {size} pixels, float32, {first['repeats']} "
        f"rounds, {threads} of {first['hardware/cpu']}, torch "
        f"{first['torch_version']}.",
        "",
        "| student | teacher | step | step with teacher | teacher's forward pass | overhead |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for results in found:
        row = [str(results["backbone"]), str(results["teacher"])]
        row += [milliseconds(results, part) for part in TIMES]
        row.append(f"{results['distillation/overhead']:.2f}")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def milliseconds(results: dict[str, Any], part: str) -> str:
    """Return the median and the range of a part."""
    names = ("milliseconds", "milliseconds_min", "milliseconds_max")
    values = [results[f"distillation/{part}/{name}"] for name in names]
    median, least, most = map(in_digits, values)
    return f"{median} ms ({least}-{most})"


if __name__ == "__main__":
    main()
