"""Readers by the value of `prepare.source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parcnet_train.data.prepare.annotated import AnnotatedSet
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.readers.coco_json import read_coco_json
from parcnet_train.data.prepare.readers.color_masks import read_color_masks
from parcnet_train.data.prepare.readers.labelme import read_labelme
from parcnet_train.data.prepare.readers.layouts import read_layout
from parcnet_train.data.prepare.readers.table import read_table
from parcnet_train.data.prepare.readers.voc_xml import read_voc_xml
from parcnet_train.data.prepare.readers.yolo import read_yolo


@dataclass(frozen=True)
class Hints:
    """What a user says about a source beside its path.

    Attributes:
        classes: Names of the classes in order; None: those of the source.
        palette: File with the colors of the classes; None: `labelmap.txt` of the source.
        image_column: Column of the images in a table; None: found by its name.
        label_column: Column of the classes; None: found by its name, or one column per class.
        split_column: Column of the sets; None: found by its name.
    """

    classes: Sequence[str] | None = None
    palette: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None


Reader = Callable[[Path, Hints, Faults], AnnotatedSet]

READERS: Mapping[str, Reader] = {
    "voc_xml": lambda path, hints, faults: read_voc_xml(path, faults),
    "yolo": lambda path, hints, faults: read_yolo(path, hints.classes, faults),
    "labelme": lambda path, hints, faults: read_labelme(path, faults),
    "coco_export": lambda path, hints, faults: read_coco_json(path, faults),
    "label_studio": lambda path, hints, faults: read_coco_json(path, faults),
    "csv": lambda path, hints, faults: read_table(
        path, hints.image_column, hints.label_column, hints.split_column, faults
    ),
    "color_masks": lambda path, hints, faults: read_color_masks(path, hints.palette, faults),
    "split": lambda path, hints, faults: read_layout(path, hints.classes, faults),
}
