"""Output of `action=predict`: tables, masks and pictures."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from parcnet_train.data.segmentation.palette import encode_mask
from parcnet_train.files import to_json, write_whole
from parcnet_train.predict.predictions import Classified, Detected, Segmented
from parcnet_train.visualize.class_maps import draw_classes
from parcnet_train.visualize.detections import draw_boxes
from parcnet_train.visualize.pictures import Picture, encode

PREDICTIONS = "predictions.json"
TABLE = "predictions.csv"
IMAGES = "images.json"
PICTURES, MASKS, OVERLAYS = "pictures", "masks", "overlays"
COLUMNS = ("file", "rank", "class", "index", "probability")


class Names:
    """Unique names of the output files, derived from the input paths.

    An output is named after its input, relative to the folder that contains all inputs. A name that
    is already used, or for which a file exists, gets a number, so nothing is ever overwritten.
    Names that differ only in case count as equal, since some file systems do not distinguish them.

    Args:
        paths: Paths of the input files.
        output: Folder to write to.
        folders: Subfolders of it with the suffix of their files, such as `{"masks": ".png"}`.
    """

    def __init__(self, paths: Sequence[Path], output: Path, folders: Mapping[str, str]) -> None:
        self.common = os.path.commonpath({absolute(path).parent for path in paths})
        self.output = output
        self.folders = folders
        self.taken: set[str] = set()

    def __call__(self, path: Path) -> list[str]:
        """Return the output paths for an input file, one per subfolder, relative to the output."""
        stem = str(absolute(path).relative_to(self.common).with_suffix(""))
        name, number = stem, 1
        while self.is_taken(name):
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name.casefold())
        return self.paths_of(name)

    def is_taken(self, name: str) -> bool:
        """Return whether a name is used or a file of that name exists."""
        there = any((self.output / path).exists() for path in self.paths_of(name))
        return there or name.casefold() in self.taken

    def paths_of(self, name: str) -> list[str]:
        """Return the paths of a name, one per subfolder."""
        return [f"{folder}/{name}{ending}" for folder, ending in self.folders.items()]


class Writer:
    """Base class of the writers, one per task.

    Args:
        checkpoint: Checkpoint whose predictions are written.
        paths: Paths of all input files, including those that will turn out to be unreadable.
        output: Folder to write to.
    """

    # Subfolders of the output, with the suffix of their files.
    folders: ClassVar[Mapping[str, str]] = {}

    def __init__(self, checkpoint: Mapping[str, Any], paths: Sequence[Path], output: Path) -> None:
        self.output = output
        self.names = Names(paths, output, self.folders)
        self.rows: list[dict[str, Any]] = []

    def add(self, path: Path, found: Any, picture: Picture) -> None:
        """Add the prediction for an image.

        Args:
            path: Path of the image file.
            found: Prediction of the task.
            picture: Resized image to draw on.
        """
        raise NotImplementedError

    def finish(self) -> list[str]:
        """Write the collected results; return the names of all files and folders."""
        write_json(self.output / PREDICTIONS, self.rows)
        return [PREDICTIONS, *self.folders]


class ClassWriter(Writer):
    """Writer of the classes of images: `predictions.json` and `predictions.csv`."""

    def add(self, path: Path, found: Classified, picture: Picture) -> None:
        """Add the prediction for an image."""
        columns = zip(found.names, found.labels, found.probabilities, strict=True)
        classes = [{"class": c, "index": i, "probability": p} for c, i, p in columns]
        self.rows.append({"file": str(path), "predictions": classes})

    def finish(self) -> list[str]:
        """Write the collected results; return the names of all files and folders."""
        stream = io.StringIO()
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in self.rows:
            for rank, of_class in enumerate(row["predictions"], start=1):
                table.writerow({"file": row["file"], "rank": rank, **of_class})
        content = stream.getvalue().encode("utf-8", "surrogateescape")
        write_whole(self.output / TABLE, content)
        return [*super().finish(), TABLE]


class ObjectWriter(Writer):
    """Writer of objects: pictures, COCO's results format, and the list of images that it refers to.

    The category ids are those of the annotations that the checkpoint was trained with.
    """

    folders: ClassVar[Mapping[str, str]] = {PICTURES: ".jpg"}

    def __init__(self, checkpoint: Mapping[str, Any], paths: Sequence[Path], output: Path) -> None:
        super().__init__(checkpoint, paths, output)
        class_names = checkpoint["class_names"]
        ids = checkpoint.get("category_ids") or range(len(class_names))
        self.category_ids = list(ids)
        self.categories = [
            {"id": category, "name": name}
            for category, name in zip(self.category_ids[1:], class_names[1:], strict=True)
        ]
        self.images: list[dict[str, Any]] = []

    def add(self, path: Path, found: Detected, picture: Picture) -> None:
        """Add the prediction for an image, and write a picture of it."""
        height, width = found.size
        (name,) = self.names(path)
        scale = [picture.shape[1] / width, picture.shape[0] / height] * 2
        drawn = draw_boxes(picture, found.boxes * scale, found.labels.tolist(), found.captions())
        write_whole(self.output / name, encode(drawn))
        image = {"id": len(self.images) + 1, "file_name": str(path), "width": width}
        self.images.append({**image, "height": height, "picture": name})
        corners = found.boxes.astype(float)  # differences are exact in float64
        corners[:, 2:] -= corners[:, :2]
        for label, box, score in zip(
            found.labels.tolist(), corners.tolist(), found.scores.tolist(), strict=True
        ):
            category = self.category_ids[label]
            row = {"image_id": image["id"], "category_id": category, "bbox": box, "score": score}
            self.rows.append(row)

    def finish(self) -> list[str]:
        """Write the collected results; return the names of all files and folders."""
        images = {"images": self.images, "categories": self.categories, "annotations": []}
        write_json(self.output / IMAGES, images)
        return [*super().finish(), IMAGES]


class PixelWriter(Writer):
    """Writer of masks, and of overlays of the masks on their images."""

    folders: ClassVar[Mapping[str, str]] = {MASKS: ".png", OVERLAYS: ".jpg"}

    def add(self, path: Path, found: Segmented, picture: Picture) -> None:
        """Write the mask of an image and its overlay."""
        mask, overlay = self.names(path)
        write_whole(self.output / mask, encode_mask(found.mask))
        drawn = draw_classes(picture, found.mask, found.class_names)
        write_whole(self.output / overlay, encode(drawn))
        row = {"file": str(path), "mask": mask, "overlay": overlay, "classes": found.shares()}
        self.rows.append(row)


WRITERS: dict[str, type[Writer]] = {
    "classification": ClassWriter,
    "detection": ObjectWriter,
    "segmentation": PixelWriter,
}


def writer_of(checkpoint: Mapping[str, Any], paths: Sequence[Path], output: Path) -> Writer:
    """Return the writer for a checkpoint's task; see `Writer` for the arguments."""
    return WRITERS[checkpoint["choices"]["task"]](checkpoint, paths, output)


def absolute(path: Path) -> Path:
    """Return the absolute path without resolving links, so that given names are kept."""
    return Path(os.path.normpath(path.absolute()))


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file."""
    write_whole(path, to_json(content, indent=1))
