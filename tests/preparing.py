"""Small sets in the formats of annotation tools, and their conversion."""

import base64
import io
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from parcnet_train.data.prepare.convert import convert
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.readers.formats import READERS, Hints
from parcnet_train.data.prepare.splitting import Splitting

COLORS = {"cat": (220, 40, 40), "dog": (40, 60, 220)}
POLYGON = "{} 0 0 0.5 0 0.5 0.5 0 0.5\n"  # a line of YOLO


def pixels(number, size=(48, 64)):
    """Return a textured image that differs from all others."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def picture(path, number=0, size=(48, 64), orientation=None, image=None):
    """Write an image file; its suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Image.fromarray(pixels(number, size) if image is None else image)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    canvas.save(path, exif=exif)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def document(path, content):
    return text(path, json.dumps(content))


def png_in_base64(mask):
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def read(source, path, **hints):
    """Read a set, and raise its faults."""
    faults = Faults(f"prepare.input={path}")
    found = READERS[source](path, Hints(**hints), faults)
    faults.refuse()
    return found


def splitting(**values):
    usual = {"keep": True, "val": 0.25, "test": 0.0, "group_by": None, "seed": 0}
    return Splitting(**{**usual, "near_duplicates": False, **values})


def converted(source, path, root, task=None, classes=None, crowds="crowd", link="copy", **values):
    """Convert a set, as the action does."""
    hints = Hints(classes=classes)
    return convert(
        lambda faults: READERS[source](path, hints, faults),
        f"prepare.input={path}",
        path if path.is_dir() else path.parent,
        root,
        task,
        classes,
        crowds,
        link,
        splitting(**values),
    )


def contents(folder):
    """Return the files of a folder with their content and times."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def yolo(root, count=12, line="{} 0.5 0.5 0.5 0.25\n"):
    """Write images that show a cat and a dog alternately."""
    text(root / "classes.txt", "cat\ndog\n")
    for number in range(count):
        picture(root / "images" / f"{number:02d}.jpg", number)
        text(root / "labels" / f"{number:02d}.txt", line.format(number % 2))
    return root


def masked(root, *values, names=("background", "cat", "dog")):
    """Write a set with masks: of index 1 above and 2 below, or of their colors in a palette."""
    indices = np.repeat(np.array([[1], [2]], np.uint8), [20, 28], axis=0).repeat(64, axis=1)
    for number in range(4):
        picture(root / "JPEGImages" / f"{number}.jpg", number)
        mask = np.array(values, np.uint8)[indices] if values else indices
        picture(root / "SegmentationClass" / f"{number}.png", image=mask)
    if values:
        lines = (f"{name}:{','.join(map(str, v))}::" for name, v in zip(names, values, strict=True))
        return text(root / "labelmap.txt", "\n".join(lines)).parent
    return text(root / "classes.txt", "\n".join(names)).parent


def boxed(number):
    """Return an image with a plate of a class on a dark ground, its class and the plate's box."""
    name = ("cat", "dog")[number % 2]
    rng = np.random.default_rng(number)
    image = rng.integers(0, 60, (64, 64, 3), np.uint8)
    left, top = rng.integers(2, 24, 2).tolist()
    right, bottom = left + 30, top + 34
    image[top:bottom, left:right] = COLORS[name]
    return image, name, (left, top, right, bottom)
