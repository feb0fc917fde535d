"""Draw what three trained networks predict: the pictures in docs/assets/.

The networks are those of the demonstrations, and the images are the first ones of their validation
sets, which the demonstrations have written:

    python -m parcnet_train hydra.run.dir=RUNS/classification
    python -m parcnet_train task=detection backbone=parcnet_xs hydra.run.dir=RUNS/detection
    python -m parcnet_train task=segmentation backbone=parcnet_xs hydra.run.dir=RUNS/segmentation
    python scripts/draw_readme_picture.py RUNS docs/assets
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

import parcnet_train
from parcnet_train.data.decoding import read_image
from parcnet_train.data.segmentation.palette import voc_palette
from parcnet_train.models.model import Model
from parcnet_train.predict.predictions import Classified, Detected, Segmented
from parcnet_train.visualize.detections import color_of
from parcnet_train.visualize.pictures import BLACK, FONT, WHITE, Picture

WIDTH, GAP = 1440, 12  # of the picture, and between images, in pixels
HEADING = 44  # height of the line above a row, in pixels
SCENES, DIGITS = 4, 8  # images of a row
FONT_SCALE = 0.75
SMALLEST = 0.01  # share of an image below which a region gets no name
OPACITY = 0.6  # of a class's color over the image
QUALITY = 85  # of the files


def main() -> None:
    """Draw the three rows, each by itself and all of them together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, help="folder with a run for each task, named like it")
    parser.add_argument("folder", type=Path, help="folder of the pictures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "parcnet_train")
    arguments = parser.parse_args()
    digits = spread(sorted((arguments.cache / "digits" / "val").rglob("*.png")), DIGITS)
    scenes = sorted((arguments.cache / "detection_scenes" / "val2017").glob("*.jpg"))[:SCENES]
    rows = {}
    for task, draw, files in (
        ("classification", draw_class, digits),
        ("detection", draw_objects, scenes),
        ("segmentation", draw_regions, scenes),
    ):
        model = parcnet_train.load(arguments.runs / task)
        side = (WIDTH - GAP * (len(files) + 1)) // len(files)
        rows[task] = row_of([draw(model, read_image(file), side) for file in files])
        write(arguments.folder / f"{task}.webp", rows[task])
    titled = [part for task, row in rows.items() for part in (heading(task), row)]
    write(arguments.folder / "three_tasks.webp", np.vstack(titled))


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """Return files at equal distances, so that every class may occur."""
    return [files[position * len(files) // count] for position in range(count)]


def draw_class(model: Model, image: Picture, side: int) -> Picture:
    """Draw an image with its most probable class below it."""
    found = model.predict(image, top=1)
    assert isinstance(found, Classified)
    picture = enlarged(image, side)
    below = np.full((36, side, 3), WHITE, np.uint8)
    write_text(below, f"{found.names[0]}  {found.probabilities[0]:.2f}", (8, 26), BLACK)
    return np.vstack([picture, below])


def draw_objects(model: Model, image: Picture, side: int) -> Picture:
    """Draw an image with its objects."""
    found = model.predict(image)
    assert isinstance(found, Detected)
    picture = enlarged(image, side)
    corners = (found.boxes * (side / np.array(image.shape[1::-1] * 2))).round().astype(int)
    objects = [*zip(corners.tolist(), found.labels.tolist(), found.captions(), strict=True)]
    for (left, top, right, bottom), label, _ in reversed(objects):
        cv2.rectangle(picture, (left, top), (right, bottom), color_of(label), 3, cv2.LINE_AA)
    for (left, top, _, _), label, caption in reversed(objects):
        name(picture, caption, (left, top), color_of(label))
    return picture


def draw_regions(model: Model, image: Picture, side: int) -> Picture:
    """Draw an image with the classes of its pixels, each region with its name."""
    found = model.predict(image)
    assert isinstance(found, Segmented)
    size = side, side
    mask = np.asarray(cv2.resize(found.mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    picture = enlarged(image, side)
    colors = voc_palette()
    colored = cv2.addWeighted(colors[mask], OPACITY, picture, 1 - OPACITY, 0)
    picture[mask > 0] = colored[mask > 0]
    for label, (column, row) in regions(mask):
        name(
            picture,
            found.class_names[label],
            (column - 10, row + 10),
            tuple(colors[label].tolist()),
        )
    return picture


def regions(mask: Picture) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield class and center of the regions of a mask, `(h, w)`, apart from the background."""
    for label in np.unique(mask[mask > 0]).tolist():
        _, _, about, centers = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8))
        for size, center in zip(about[1:, cv2.CC_STAT_AREA], centers[1:], strict=True):
            if size > SMALLEST * mask.size:
                column, row = center.round().astype(int).tolist()
                yield label, (column, row)


def enlarged(image: Picture, side: int) -> Picture:
    """Return an image as a square of that many pixels; those of small images stay visible."""
    small = max(image.shape[:2]) < side // 8
    method = cv2.INTER_NEAREST if small else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def name(picture: Picture, text: str, corner: tuple[int, int], color: Sequence[int]) -> None:
    """Write a name on a colored ground, moved as needed to stay within the picture."""
    (width, height), below = cv2.getTextSize(text, FONT, FONT_SCALE, 2)
    left = max(0, min(corner[0], picture.shape[1] - width - 8))
    bottom = max(height + below + 4, corner[1])
    above = bottom - height - below - 4
    cv2.rectangle(picture, (left, above), (left + width + 8, bottom), [*color], -1)
    ink = BLACK if np.dot(color, (0.299, 0.587, 0.114)) > 110 else WHITE  # ITU-R BT.601
    write_text(picture, text, (left + 4, bottom - below), ink)


def write_text(picture: Picture, text: str, at: tuple[int, int], color: Sequence[int]) -> None:
    """Write a line of text."""
    cv2.putText(picture, text, at, FONT, FONT_SCALE, [*color], 2, cv2.LINE_AA)


def row_of(pictures: Sequence[Picture]) -> Picture:
    """Put pictures of one height beside each other."""
    gap = np.full((pictures[0].shape[0], GAP, 3), WHITE, np.uint8)
    row = np.hstack([part for picture in pictures for part in (gap, picture)])
    return np.pad(row, ((0, GAP), (0, WIDTH - row.shape[1]), (0, 0)), constant_values=255)


def heading(text: str) -> Picture:
    """Return a line of text as wide as a row."""
    line = np.full((HEADING, WIDTH, 3), WHITE, np.uint8)
    write_text(line, text, (GAP, HEADING - 14), BLACK)
    return line


def write(file: Path, picture: Picture) -> None:
    """Write a picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(
        str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    )
    print(f"{file}: {file.stat().st_size:,} bytes, {picture.shape[1]}x{picture.shape[0]} pixels")


if __name__ == "__main__":
    main()
