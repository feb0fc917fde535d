"""Measure what a teacher gives a small network: the table in docs/guides/distillation.md.

A ParC-Net-S trained on all digits of the demonstration data teaches a ParC-Net-XS that sees 200 of
them, with five seeds, each beside a training without teacher that differs in nothing else:

    python scripts/measure_distillation.py WORK --write docs/guides/distillation.md
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from pathlib import Path

import parcnet_train
from parcnet_train.data.demo.classification import write_digits
from parcnet_train.report.measured import replace_part
from parcnet_train.report.paired import paired_difference

IMAGES = 200  # of 1,437 for training, the first ones of each class
SEEDS = range(5)
EPOCHS = 20
PART = "measured"
STUDENT = (
    *("data=imagefolder", "recipe=demo", "backbone=parcnet_xs", f"recipe.epochs={EPOCHS}"),
    *("data.num_workers=0", "trainer.accelerator=cpu"),
)
KINDS = {
    "none": "recipe.distillation=null",
    "soft, temperature 4, alpha 0.5": "recipe.distillation={{teacher: '{teacher}', kind: soft}}",
    "hard, alpha 0.5": "recipe.distillation={{teacher: '{teacher}', kind: hard}}",
    "feature, cosine, alpha 0.5": "recipe.distillation={{teacher: '{teacher}', kind: feature}}",
}


def main() -> None:
    """Train the teacher and its students, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("work", type=Path, help="folder for data and runs")
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    target = arguments.write.resolve() if arguments.write else None
    os.chdir(arguments.work)
    digits = Path("digits").resolve()
    write_digits(digits)
    teacher = parcnet_train.run("backbone=parcnet_s", f"data.root={digits}", "seed=100")
    few = fewer_images(digits, Path("few").resolve())
    found = {
        name: {
            seed: parcnet_train.run(
                *STUDENT,
                f"data.root={few}",
                f"seed={seed}",
                kind.format(teacher=teacher["run_dir"]),
            )["val/top1"]
            for seed in SEEDS
        }
        for name, kind in KINDS.items()
    }
    text = table(teacher["val/top1"], found)
    print(text)
    if target is not None:
        replace_part(target, PART, text)


def fewer_images(digits: Path, few: Path) -> Path:
    """Write a set with `IMAGES` training images, the same number of each class."""
    shutil.rmtree(few, ignore_errors=True)
    shutil.copytree(digits / "val", few / "val")
    for folder in sorted((digits / "train").iterdir()):
        (few / "train" / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[: IMAGES // 10]:
            shutil.copy(image, few / "train" / folder.name)
    return few


def table(teacher: float, found: dict[str, dict[int, float]]) -> str:
    """Return the results as Markdown; metrics are in percent."""
    lines = [
        f"Teacher: ParC-Net-S on all 1,437 digits, top-1 {100 * teacher:.1f}. Student: ParC-Net-XS "
        f"on {IMAGES} digits, {EPOCHS} epochs, {len(SEEDS)} seeds.",
        "",
        "| teacher's loss | mean top-1 | standard deviation | difference | 95 % interval |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, each in found.items():
        values = [100 * value for value in each.values()]
        row = [name, f"{statistics.fmean(values):.1f}", f"{statistics.stdev(values):.1f}"]
        difference = paired_difference(each, found["none"])
        if name == "none" or difference is None or difference.low is None:
            row += ["", ""]
        else:
            assert difference.high is not None
            row.append(f"{100 * difference.mean:+.1f}")
            row.append(f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
