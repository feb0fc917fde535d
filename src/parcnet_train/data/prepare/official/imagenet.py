"""ImageNet-1k (ILSVRC2012): unpacks the official files into one folder of images per class.

    ROOT/train/n01440764/n01440764_10026.JPEG    ROOT/val/n01440764/ILSVRC2012_val_00000293.JPEG
    ROOT/classes.txt                             wnid, tab, words

Folders are hidden while they are being unpacked and appear under their names when they are
complete, so a call that was killed can be resumed. Only the names and contents of an archive's
members are used, and the names are checked.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parcnet_train.data.prepare.official.imagenet_devkit import ILSVRC2012, Counts, read_devkit
from parcnet_train.data.prepare.sources import broken, in_one_line, write_lines
from parcnet_train.errors import DataError
from parcnet_train.files import complete
from parcnet_train.terminal import Bar, progress

TRAIN = "ILSVRC2012_img_train.tar"  # a tar of one tar per class
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


def prepare_imagenet(source: Path, root: Path, counts: Counts = ILSVRC2012) -> str:
    """Unpack training and validation set; a new call resumes where the last one stopped.

    Args:
        source: Folder with the three official files.
        root: Folder to create, for `data=imagenet data.root=...`.
        counts: Expected numbers of images and classes.

    Returns:
        Summary of the result, to be printed.

    Raises:
        DataError: If a file is missing, is not what its name says, or does not fit on the disk.
    """
    paths = {name: source / name for name in (TRAIN, VAL, DEVKIT)}
    if missing := [name for name, path in paths.items() if not path.is_file()]:
        raise DataError(
            f"{source} lacks {', '.join(missing)}; expected a folder with {TRAIN}, {VAL} and "
            f"{DEVKIT} from image-net.org"
        )
    words, labels = read_devkit(paths[DEVKIT], counts)
    with in_one_line(root):
        check_space(paths, root, list(words))
        unpack_train(paths[TRAIN], root / "train", list(words), counts)
        unpack_val(paths[VAL], root / "val", labels, counts)
        write_lines(root / "classes.txt", [f"{wnid}\t{words[wnid]}" for wnid in sorted(words)])
    return (
        f"{root}: {counts.train:,} training and {counts.val:,} validation images of "
        f"{counts.classes:,} classes; use data=imagenet data.root={root}"
    )


def check_space(paths: Mapping[str, Path], root: Path, wnids: Sequence[str]) -> None:
    """Check that the files that are still to be unpacked fit on the disk.

    Raises:
        DataError: If they do not.
    """
    needed = 0 if (root / "val").is_dir() else paths[VAL].stat().st_size
    with open_tar(paths[TRAIN]) as archive:
        members = class_tars(archive, paths[TRAIN], wnids)
        needed += sum(m.size for w, m in members.items() if not (root / "train" / w).is_dir())
    for unfinished in ("train/.*.partial/*", ".val.partial/*/*"):
        needed -= sum(path.stat().st_size for path in root.glob(unfinished))
    folder = root.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{root}: {needed / 1e9:.1f} GB are still to be unpacked, but only {free / 1e9:.1f} GB "
            "are free. Fix: free some disk space, or choose a folder on another disk"
        )


def open_tar(path: Path) -> tarfile.TarFile:
    """Open an uncompressed archive, which can be read in any order.

    Raises:
        DataError: If the file is not such an archive.
    """
    try:
        return tarfile.open(path, "r:")
    except tarfile.TarError as error:
        raise broken(path, error) from error


def class_tars(
    archive: tarfile.TarFile, path: Path, wnids: Sequence[str]
) -> dict[str, tarfile.TarInfo]:
    """Return the tars of the classes by wnid.

    Raises:
        DataError: If one is missing, or there are other files.
    """
    try:
        members = {each.name.removesuffix(".tar"): each for each in archive if each.isfile()}
    except tarfile.TarError as error:
        raise broken(path, error) from error
    if members.keys() != set(wnids):
        missing, others = sorted(set(wnids) - set(members)), sorted(set(members) - set(wnids))
        raise broken(
            path,
            f"it lacks {len(missing):,} of {len(wnids):,} class tars and contains {len(others):,} "
            f"other files, first {(missing + others)[0]}",
        )
    return members


def unpack_train(path: Path, folder: Path, wnids: Sequence[str], counts: Counts) -> None:
    """Unpack the tar of each class into its folder, and count the images.

    Raises:
        DataError: If an archive is damaged, or the number of images differs.
    """
    with open_tar(path) as archive, progress("train", counts.train) as bar:
        for wnid, member in class_tars(archive, path, wnids).items():
            target = folder / wnid
            if target.is_dir():
                bar.update(count_images(target, "*"))
                continue
            partial = target.with_name(f".{wnid}.partial")
            partial.mkdir(parents=True, exist_ok=True)
            name = re.compile(rf"{wnid}_\d+\.JPEG")
            try:
                with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as images:
                    count = unpack(images, path, partial.joinpath, name, bar)
            except tarfile.TarError as error:
                raise broken(path, f"{member.name}: {error}") from error
            if count_images(partial, "*") != count:
                raise broken(path, f"{member.name} has the same image twice")
            complete(partial, target)
    check_count(folder, counts.train)


def unpack_val(path: Path, folder: Path, labels: Sequence[str], counts: Counts) -> None:
    """Unpack the validation images into the folders of their classes.

    Args:
        path: Path of the archive.
        folder: Folder of the validation set.
        labels: Class (wnid) of every image.
        counts: Expected numbers of images and classes.

    Raises:
        DataError: If the archive is damaged, or the number of images differs.
    """
    if folder.is_dir():
        check_count(folder, counts.val)
        return
    partial = folder.with_name(f".{folder.name}.partial")
    for wnid in set(labels):
        (partial / wnid).mkdir(parents=True, exist_ok=True)

    def place(name: str) -> Path:
        number = int(name[-13:-5])  # counted from 1
        if not 1 <= number <= len(labels):
            raise broken(path, f"{name} has no label")
        return partial / labels[number - 1] / name

    with open_tar(path) as archive, progress("val", counts.val) as bar:
        try:
            name = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG")
            unpack(archive, path, place, name, bar)
        except tarfile.TarError as error:
            raise broken(path, error) from error
    check_count(partial, counts.val)
    complete(partial, folder)


def unpack(
    archive: tarfile.TarFile,
    path: Path,
    place: Callable[[str], Path],
    allowed: re.Pattern[str],
    bar: Bar,
) -> int:
    """Write the files of an archive that do not exist yet, and return the number of files in it.

    Args:
        archive: Opened archive.
        path: Path of the archive, for messages.
        place: Function that returns the path to write a file to, given its name.
        allowed: Pattern of allowed names.
        bar: Progress bar.

    Raises:
        DataError: If a member is not a file with an allowed name.
    """
    count = 0
    for member in archive:
        file = archive.extractfile(member) if member.isfile() else None
        if file is None or not allowed.fullmatch(member.name):
            raise broken(path, f"{member.name!r} is not one of its images")
        target = place(member.name)
        # A file is too short if the process was killed while writing it.
        if not (target.is_file() and target.stat().st_size == member.size):
            target.write_bytes(file.read())
        count += 1
        bar.update()
    return count


def check_count(folder: Path, expected: int) -> None:
    """Compare the number of images in class folders with the expected one.

    Raises:
        DataError: If it differs.
    """
    count = count_images(folder, "[!.]*/*")
    if count != expected:
        raise DataError(
            f"{folder} contains {count:,} images; expected {expected:,} (ILSVRC2012). Fix: remove "
            "the folder, download the archive again unless something else wrote into the folder, "
            "and run the command again"
        )


def count_images(folder: Path, pattern: str) -> int:
    """Return the number of entries that match a pattern."""
    return sum(1 for _ in folder.glob(pattern))
