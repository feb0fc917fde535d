"""Estimate how long the paper's three recipes take on this machine: a part of docs/benchmarks.md.

ImageNet, COCO and VOC are not needed. Sets of their size are made, whose images are links to a few
photos, so that everything but the time on each photo is as with the real ones:

    python scripts/plan_recipes.py WORK --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from PIL import Image

from parcnet_train.benchmarks.photos import SIZE, cut_photos
from parcnet_train.report.measured import replace_part
from parcnet_train.runs.directories import RESULTS
from parcnet_train.terminal import duration

Counts = tuple[int, int]  # images to train on, and to evaluate

PART = "plan"
WIDTH = 115  # characters of a line of prose
PHOTOS = 64
SQUARE = 25  # side of a square of a mask, in pixels; it divides those of a photo
REPEATS = 16  # batches of the short training that are measured, of five sizes
CLASSES = {"imagenet": 1000, "coco": 80, "voc": 21}
IMAGES = {"imagenet": (1_281_167, 50_000), "coco": (117_266, 5_000), "voc": (10_582, 1_449)}
OBJECTS = 7  # per image, about as in COCO
SIDE = (20, 200)  # range of an object's sides in pixels
# The batches of the recipes need more than the memory of a small machine.
RECIPES = {
    "imagenet": ("experiment=imagenet_parcnet_s", "data=imagefolder", "recipe.batch_size=16"),
    "coco": ("experiment=coco_parcnet_s", "data=coco_format", "recipe.batch_size=8"),
    "voc": ("experiment=voc_parcnet_s", "data=voc_format", "recipe.batch_size=4"),
}
ACCUMULATED = "recipe.accumulate=auto"  # to the images of the recipe's optimizer step
PRETRAINED = "backbone.pretrained=null"  # the recipes start from weights that are not here
TITLES = {"imagenet": "ImageNet", "coco": "COCO", "voc": "VOC"}


def main() -> None:
    """Make the sets, plan the recipes, print the table, and write it into a page if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for the sets and the runs")
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    make_photos(work / "photos")
    found = {}
    for name, overrides in RECIPES.items():
        root = work / name
        if not root.is_dir():
            MAKERS[name](root, work / "photos", IMAGES[name])
        found[name] = plan(
            [*overrides, ACCUMULATED, PRETRAINED, f"data.root={root}"], work / "runs" / name
        )
    text = "\n".join(table(found))
    print(text)
    if arguments.write is not None:
        replace_part(arguments.write, PART, text)


def plan(overrides: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """Plan a training in a process of its own, whose memory is free afterwards.

    Args:
        overrides: Overrides of the training.
        folder: Folder of the results; those of an earlier call are used again.
    """
    results = folder / RESULTS
    if results.is_file():
        print(f"{results}: results of an earlier call")
    else:
        command = [sys.executable, "-m", "parcnet_train", "action=benchmark"]
        own = ("benchmark.target=plan", f"benchmark.repeats={REPEATS}", f"hydra.run.dir={folder}")
        subprocess.run([*command, *own, *overrides], check=True)
    found: Mapping[str, Any] = json.loads(results.read_text())
    return found


def make_photos(folder: Path) -> None:
    """Write photos, and a mask of random squares for each."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(cut_photos(PHOTOS)):
        photo.save(folder / f"{number}.jpg")
        squares = (SIZE[1] // SQUARE, SIZE[0] // SQUARE)
        mask = random.integers(CLASSES["voc"], size=squares, dtype=np.uint8)
        mask = mask.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)
        Image.fromarray(mask).save(folder / f"{number}.png")


def link(path: Path, photos: Path, number: int) -> None:
    """Make a link to a photo, or to its mask."""
    path.symlink_to(photos / f"{number % PHOTOS}{path.suffix}")


def make_imagenet(root: Path, photos: Path, images: Counts) -> None:
    """Make a folder of links for each class."""
    for split, count in zip(("train", "val"), images, strict=True):
        folders = [root / split / f"class_{number:03}" for number in range(CLASSES["imagenet"])]
        for folder in folders:
            folder.mkdir(parents=True)
        for number in range(count):
            link(folders[number % len(folders)] / f"{number}.jpg", photos, number)


def make_coco(root: Path, photos: Path, images: Counts) -> None:
    """Make links and annotations with random boxes."""
    random = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count in zip(("train2017", "val2017"), images, strict=True):
        (root / split).mkdir()
        for number in range(count):
            link(root / split / f"{number}.jpg", photos, number)
        sides = random.integers(*SIDE, size=(count * OBJECTS, 2))
        corners = random.integers(0, np.array(SIZE) - sides)
        labels = random.integers(1, CLASSES["coco"] + 1, size=count * OBJECTS)
        content = {
            "images": [
                {"id": number, "file_name": f"{number}.jpg", "width": SIZE[0], "height": SIZE[1]}
                for number in range(count)
            ],
            "annotations": [
                {
                    "id": number + 1,
                    "image_id": number // OBJECTS,
                    "category_id": int(label),
                    "bbox": [*map(int, corner), *map(int, side)],
                    "area": int(side.prod()),
                    "iscrowd": 0,
                }
                for number, (corner, side, label) in enumerate(
                    zip(corners, sides, labels, strict=True)
                )
            ],
            "categories": [
                {"id": number + 1, "name": f"class {number}"} for number in range(CLASSES["coco"])
            ],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def make_voc(root: Path, photos: Path, images: Counts) -> None:
    """Make links to photos and masks, and lists."""
    folders = [
        root / each for each in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    names = ["background", *(f"class {number}" for number in range(1, CLASSES["voc"]))]
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    for split, count in zip(("train", "val"), images, strict=True):
        files = [f"{split}_{number}" for number in range(count)]
        for number, name in enumerate(files):
            link(folders[0] / f"{name}.jpg", photos, number)
            link(folders[1] / f"{name}.png", photos, number)
        (folders[2] / f"{split}.txt").write_text("\n".join(files) + "\n")


MAKERS: dict[str, Callable[[Path, Path, Counts], None]] = {
    "imagenet": make_imagenet,
    "coco": make_coco,
    "voc": make_voc,
}


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the part.

    Args:
        found: `results.json` of each plan.
    """
    first = next(iter(found.values()))
    yield from wrap(
        f"**Computed**, not run: from {REPEATS} measured batches on {first['hardware/cpu']}, "
        f"{first['hardware/threads']} threads, torch {first['torch_version']}.",
        WIDTH,
    )
    yield ""
    headings = ["recipe", "epochs", "batch per device", "images/s"]
    headings += ["one device", "8 devices", "64 devices", "bottleneck", "useful devices"]
    headings += ["peak memory", "loader processes"]
    yield f"| {' | '.join(headings)} |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|"
    for name, run in found.items():
        cells = [
            TITLES[name],
            f"{run['epochs']:,}",
            str(run["batch_size"]),
            f"{run['device/images_per_second']:.1f}",
            *(
                f"{duration(run[f'plan/{count}/seconds/total'])} "
                f"({run[f'plan/{count}/efficiency']:.0%})"
                for count in (1, 8, 64)
            ),
            run["plan/1/bottleneck"],
            f"{run['plan/useful_devices']:,}",
            "" if (peak := run["memory/peak_bytes"]) is None else f"{peak / 2**30:.1f} GiB",
            str(run["loader/workers_needed"]),
        ]
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
