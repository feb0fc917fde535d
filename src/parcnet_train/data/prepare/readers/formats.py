"""Readers by the value of `prepare.source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parcnet_train.data.prepare.annotated import AnnotatedSet
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.readers.voc_xml import read_voc_xml


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
}
