"""The paper's training set for segmentation, from the official files of VOC 2012, SBD and COCO.

    ROOT/JPEGImages/2007_000032.jpg           same bytes as in the source
    ROOT/SegmentationClass/2007_000032.png    class indices with VOC's palette, 255 ignored
    ROOT/ImageSets/Segmentation/{train,val}.txt    ROOT/classes.txt

Files appear under their names when they are complete, and the lists when all files have been
verified, so a call that was killed can be resumed. SBD has masks of VOC's images, so its own copies
of them are not read. Images of COCO are copied too, while the authors' release encodes them as JPEG
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.prepare.official.coco_to_voc import (
    ANNOTATIONS,
    IMAGES,
    CocoImage,
    Rule,
    make_mask,
    read_coco,
)
from parcnet_train.data.prepare.official.voc_sources import (
    OFFICIAL,
    VOC_CLASSES,
    Counts,
    Split,
    read_sbd,
    read_split,
)
from parcnet_train.data.prepare.sources import (
    Folder,
    Link,
    Source,
    broken,
    in_one_line,
    open_source,
    place,
    refuse_missing,
    write_file,
    write_lines,
)
from parcnet_train.data.segmentation.palette import encode_mask, read_mask, values_in
from parcnet_train.errors import DataError
from parcnet_train.terminal import progress

VOC = "VOCtrainval_11-May-2012.tar"
SBD = "benchmark.tgz"
VOC_FOLDER = "VOCdevkit/VOC2012"
SBD_FOLDER = "benchmark_RELEASE/dataset"
LISTS = "ImageSets/Segmentation"
RULE = "coco_rule.txt"
AGAIN = "Fix: remove it and run the command again; if that does not help, download its source again"


def prepare_voc(
    voc: Path,
    sbd: Path,
    root: Path,
    coco: Path | None = None,
    rule: Rule = "released",
    link: Link = "copy",
    counts: Counts = OFFICIAL,
) -> str:
    """Create the training and validation set; a new call resumes where the last one stopped.

    Args:
        voc: Archive of VOC 2012, or the folder that was unpacked from it.
        sbd: Archive of SBD, or the folder that was unpacked from it.
        root: Folder to create, for `data=voc data.root=...`.
        coco: Folder of COCO 2017, whose training images are added; None: no images of COCO.
        rule: Rule by which COCO's objects become masks.
        link: Method for images of a folder: a copy, a hard link or a symbolic link. Images of an
            archive are always unpacked.
        counts: Expected numbers of images.

    Returns:
        Summary of the result, to be printed.

    Raises:
        DataError: If a file is missing, is not what its name says, or cannot be written.
    """
    with in_one_line(root):
        of_coco = read_coco(coco, counts.coco) if coco else []
        with (
            open_source(voc, VOC_FOLDER, VOC) as of_voc,
            open_source(sbd, SBD_FOLDER, SBD) as of_sbd,
        ):
            split = read_split(of_voc, of_sbd, counts)
            refuse_source(root, [of_voc.path, of_sbd.path, *([coco] if coco else [])])
            for folder in ("JPEGImages", "SegmentationClass", LISTS):
                (root / folder).mkdir(parents=True, exist_ok=True)
            keep_rule(root, rule if coco else None)
            add_voc(of_voc, split, root, link)
            add_sbd(of_sbd, split.sbd, root)
        added = add_coco(coco, of_coco, root, rule, link) if coco else []
        train = [*split.train, *added]
        verify(root, [*train, *split.voc_val])
        write_lines(root / LISTS / "train.txt", train)
        write_lines(root / LISTS / "val.txt", split.voc_val)
        write_lines(root / "classes.txt", VOC_CLASSES)
    parts = f"{len(split.voc_train):,} of VOC 2012, {len(split.sbd):,} of SBD"
    parts += f", {len(added):,} of COCO by the rule {rule}" if coco else ""
    return (
        f"{root}: {len(train):,} training images ({parts}) and {len(split.voc_val):,} validation "
        f"images of {len(VOC_CLASSES)} classes; use data=voc data.root={root}"
    )


def refuse_source(root: Path, sources: Sequence[Path]) -> None:
    """Check that the data set is not created within one of its sources.

    Raises:
        DataError: If the root is the folder of a source.
    """
    if root.resolve() in [path.resolve() for path in sources]:
        raise DataError(
            f"{root} is a source, which is only read; expected another folder to write to"
        )


def image_path(root: Path, name: str) -> Path:
    """Return the path to which an image is written."""
    return root / "JPEGImages" / f"{name}.jpg"


def mask_path(root: Path, name: str) -> Path:
    """Return the path to which a mask is written."""
    return root / "SegmentationClass" / f"{name}.png"


def add_voc(voc: Source, split: Split, root: Path, link: Link) -> None:
    """Copy all images, and the masks of VOC."""
    marked = sorted([*split.voc_train, *split.voc_val])
    images = {f"JPEGImages/{n}.jpg": image_path(root, n) for n in [*marked, *split.sbd]}
    masks = {f"SegmentationClass/{n}.png": mask_path(root, n) for n in marked}
    refuse_missing(voc, [*images, *masks])
    place(voc, images, "VOC: images", link)
    place(voc, masks, "VOC: masks")


def add_sbd(sbd: Source, names: Sequence[str], root: Path) -> None:
    """Create the masks of SBD's images.

    Raises:
        DataError: If a file cannot be read.
    """
    targets = {f"cls/{name}.mat": mask_path(root, name) for name in names}
    refuse_missing(sbd, targets)
    missing = [name for name, target in targets.items() if not target.is_file()]
    with progress("SBD: masks", len(missing)) as bar:
        for name, content in sbd.read(missing):
            try:
                mask = read_sbd(content)
            except Exception as error:  # the reader raises nearly anything for a wrong file
                raise broken(sbd.path / name, error) from error
            write_file(targets[name], encode_mask(mask))
            bar.update()


def add_coco(
    coco: Path, images: Sequence[CocoImage], root: Path, rule: Rule, link: Link
) -> list[str]:
    """Create masks from COCO's objects, and copy the images that the rule does not leave out.

    Returns:
        Names of the images.

    Raises:
        DataError: If an annotation cannot be drawn.
    """
    source = Folder(coco / IMAGES)
    names = []
    with progress("COCO: masks", len(images)) as bar:
        for image in images:
            bar.update()
            target = mask_path(root, image.name)
            if not target.is_file():
                try:
                    mask = make_mask(image, rule)
                except Exception as error:  # pycocotools raises nearly anything
                    reason = f"the objects of {image.name}.jpg cannot be drawn ({error!r})"
                    raise broken(coco / ANNOTATIONS, reason) from error
                if mask is None:
                    continue
                write_file(target, encode_mask(mask))
            names.append(image.name)
    place(source, {f"{n}.jpg": image_path(root, n) for n in names}, "COCO: images", link)
    return names


def keep_rule(root: Path, rule: Rule | None) -> None:
    """Record the rule by which the masks of COCO are created; None: there are no such masks.

    Raises:
        DataError: If the folder has masks created by another rule.
    """
    path = root / RULE
    before = path.read_text("utf-8").strip() if path.is_file() else rule
    if rule and before != rule:
        raise DataError(
            f"{root} has masks of COCO created by the rule {before}, but the rule {rule} was "
            f"requested. Fix: choose another folder, or remove {RULE} and "
            "SegmentationClass/0*.png there"
        )
    if rule:
        write_lines(path, [rule])


def verify(root: Path, names: Sequence[str]) -> None:
    """Check the values of all masks, and that they have the size of their images.

    Raises:
        DataError: For the first fault.
    """
    with progress("verified", len(names)) as bar:
        for name in names:
            verify_pair(image_path(root, name), mask_path(root, name))
            bar.update()


def verify_pair(image: Path, mask: Path) -> None:
    """Check a mask and its image.

    Raises:
        DataError: If a value is not a class, or the sizes differ.
    """
    try:
        with Image.open(image) as file:
            width, height = file.size
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{image} is not an image. {AGAIN}") from error
    try:
        indices = read_mask(mask)
    except DataError as error:
        raise DataError(f"{error}, and run the command again") from error
    if indices.shape != (height, width):
        own = f"{indices.shape[1]} x {indices.shape[0]}"
        raise DataError(f"{mask} has {own} pixels, but its image has {width} x {height}. {AGAIN}")
    allowed = {*range(len(VOC_CLASSES)), IGNORED}
    if others := [value for value in values_in(indices) if value not in allowed]:
        classes = len(VOC_CLASSES) - 1
        raise DataError(
            f"{mask} has the value {others[0]}; expected 0 to {classes} or {IGNORED}. {AGAIN}"
        )
