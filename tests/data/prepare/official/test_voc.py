"""Small versions of the official files of VOC 2012, SBD and COCO: same formats, few images."""

import json
import os
import re
import runpy
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision.datasets import SBDataset, VOCSegmentation

from parcnet_train.data.prepare.official.voc import prepare_voc
from parcnet_train.data.prepare.official.voc_sources import VOC_CLASSES, Counts
from parcnet_train.data.segmentation.palette import read_mask, voc_palette
from parcnet_train.errors import DataError

SCRIPT = Path(__file__).parents[4] / "scripts" / "prepare_voc.py"
COUNTS = Counts(voc_train=3, voc_val=2, train=6, coco=7)
AGAIN = "Fix: remove it and run the command again"

TRAIN = ["2007_000003", "2007_000001", "2008_000002"]
VAL = ["2007_000005", "2007_000004"]
SBD_TRAIN = ["2008_000011", "2007_000001", "2007_000004", "2008_000013"]  # the second has two masks
SBD_VAL = ["2008_000012", "2008_000002"]
NEW = ["2008_000011", "2008_000012", "2008_000013"]
UNUSED = ["2009_000001"]  # VOC has more images than masks


def size_of(name):
    return 10 + int(name[-2:]), 21 - int(name[-2:])  # height and width


def mask_of(name, seed):
    rng = np.random.default_rng(int(name.replace("_", "")) + seed)
    return rng.integers(0, 21, size_of(name), dtype=np.uint8)


def jpeg(path, height, width):
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, format="JPEG")


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def voc_mask(name):
    mask = mask_of(name, 0)
    mask[0] = 255  # VOC ignores edges
    return mask


@pytest.fixture
def voc(tmp_path):
    """Unpacked VOC 2012: `VOCdevkit/VOC2012`."""
    root = tmp_path / "downloads" / "VOCdevkit" / "VOC2012"
    for name in sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL, *UNUSED}):
        jpeg(root / "JPEGImages" / f"{name}.jpg", *size_of(name))
    (root / "SegmentationClass").mkdir()
    for name in [*TRAIN, *VAL]:
        image = Image.fromarray(voc_mask(name))
        image.putpalette(voc_palette().tobytes())
        image.save(root / "SegmentationClass" / f"{name}.png")
    lists = root / "ImageSets" / "Segmentation"
    write_list(lists / "train.txt", TRAIN)
    write_list(lists / "val.txt", VAL)
    write_list(lists / "trainval.txt", TRAIN + VAL)
    return root


def write_mat(path, mask):
    """Write a file of SBD's `cls` with all of its fields."""
    boundaries = np.empty((20, 1), object)
    boundaries[:, 0] = [np.zeros((2, 2), bool)] * 20
    present = np.setdiff1d(mask, 0)[:, None]
    structure = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"GTcls": structure}, do_compression=True)


@pytest.fixture
def sbd(tmp_path, voc):
    """Unpacked SBD: `benchmark_RELEASE/dataset`."""
    root = tmp_path / "downloads" / "benchmark_RELEASE" / "dataset"
    for name in [*SBD_TRAIN, *SBD_VAL]:
        write_mat(root / "cls" / f"{name}.mat", mask_of(name, 1))
    shutil.copytree(voc / "JPEGImages", root / "img")
    write_list(root / "train.txt", SBD_TRAIN)
    write_list(root / "val.txt", SBD_VAL)
    return root


PERSON, DOG, TRUCK = 1, 18, 8
# Height, width and objects (category and box); a crowd has run lengths instead of a box.
COCO = {
    9: (260, 300, [(PERSON, (10, 20, 110, 120)), (DOG, (100, 100, 200, 200))]),
    25: (256, 256, [(DOG, (0, 0, 50, 60)), (TRUCK, (40, 40, 90, 90)), (PERSON, "crowd")]),
    30: (255, 400, [(PERSON, (10, 20, 110, 120))]),
    34: (280, 260, [(PERSON, (0, 0, 260, 280))]),
    36: (280, 260, [(TRUCK, (0, 0, 30, 30))]),
    42: (280, 260, []),
    49: (300, 270, [(PERSON, "crowd")]),
}
LEFT, RIGHT = 100, 120  # columns of all crowds, which reach from top to bottom


def coco_annotations():
    for image, (height, width, objects) in COCO.items():
        for category, box in objects:
            if box == "crowd":
                columns = [LEFT * height, (RIGHT - LEFT) * height, (width - RIGHT) * height]
                shape = {"counts": columns, "size": [height, width]}
            else:
                left, top, right, bottom = box
                shape = [[left, top, right, top, right, bottom, left, bottom]]
            yield {
                "image_id": image,
                "category_id": category,
                "iscrowd": int(box == "crowd"),
                "segmentation": shape,
            }


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / "coco"
    images = []
    for image, (height, width, _) in COCO.items():
        name = f"{image:012d}.jpg"
        jpeg(root / "train2017" / name, height, width)
        images.append({"id": image, "file_name": name, "height": height, "width": width})
    annotations = [{"id": i, **each} for i, each in enumerate(coco_annotations())]
    (root / "annotations").mkdir()
    document = {"images": images, "annotations": annotations, "categories": []}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(document))
    return root


def coco_masks(rule):
    """Return the expected masks, made by hand."""
    masks = {9: np.zeros((260, 300)), 25: np.zeros((256, 256))}
    if rule == "released":
        masks[9][100:200, 100:200] = 12
        masks[9][20:120, 10:110] = 15
        masks[25][:, 100:120] = 15
        masks[25][:60, :50] = 12
        masks[49] = np.zeros((300, 270))
        masks[49][:, 100:120] = 15
    else:
        masks[9][20:120, 10:110] = 15
        masks[9][100:200, 100:200] = 12
        masks[25][:60, :50] = 12
        masks[25][40:90, 40:90] = 255
        masks[25][:, 100:120] = 255
        masks[34] = np.full((280, 260), 15)
    return {f"{image:012d}": mask for image, mask in masks.items()}


def tree(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def names_in(root, split):
    return (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().splitlines()


def prepare(voc, sbd, root, *others, counts=COUNTS):
    return prepare_voc(voc, sbd, root, *others, counts=counts)


def refused(*arguments, **more):
    with pytest.raises(DataError) as caught:
        prepare(*arguments, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_voc_and_sbd_match_torchvision(voc, sbd, tmp_path):
    root = tmp_path / "ours" / "VOCdevkit" / "VOC2012"
    said = prepare(voc, sbd, root)
    assert said == (
        f"{root}: 6 training images (3 of VOC 2012, 3 of SBD) and 2 validation images of 21 "
        f"classes; use data=voc data.root={root}"
    )
    assert names_in(root, "train") == sorted([*TRAIN, *NEW])
    assert names_in(root, "val") == sorted(VAL)
    assert (root / "classes.txt").read_text().splitlines() == list(VOC_CLASSES)
    expected = {each.split("/")[-1]: np.array(mask) for each, mask in masks_of_torchvision(sbd)}
    expected |= {name: voc_mask(name) for name in [*TRAIN, *VAL]}
    for split, count in (("train", 6), ("val", 2)):
        ours = VOCSegmentation(str(tmp_path / "ours"), image_set=split)
        assert len(ours) == count
        for name, (image, mask) in zip(names_in(root, split), ours, strict=True):
            assert (image.height, image.width) == size_of(name)
            assert np.array_equal(np.array(mask), expected[name])
    for name in [*TRAIN, *VAL, *NEW]:
        path = f"JPEGImages/{name}.jpg"
        assert (root / path).read_bytes() == (voc / path).read_bytes()
    files = 2 * 8 + 3
    assert len(tree(root)) == files  # no other files


def masks_of_torchvision(sbd):
    """Return path and mask of all files of `cls`, read by torchvision."""
    for split in ("train", "val"):
        theirs = SBDataset(str(sbd), image_set=split, mode="segmentation")
        for path, (_, mask) in zip(theirs.masks, theirs, strict=True):
            yield Path(path).stem, mask


def test_masks_have_the_palette_and_can_be_read_back(voc, sbd, tmp_path):
    prepare(voc, sbd, tmp_path / "ours")
    for name in [*TRAIN, *VAL, *NEW]:
        path = tmp_path / "ours" / "SegmentationClass" / f"{name}.png"
        mask = voc_mask(name) if name in TRAIN + VAL else mask_of(name, 1)
        assert np.array_equal(read_mask(path), mask)
        with Image.open(path) as image:
            assert image.mode == "P"
            assert np.array_equal(np.array(image.convert("RGB")), voc_palette()[mask])


def archives(voc, sbd):
    """Write archives like the official ones: with other files, and not sorted by name."""
    downloads = voc.parents[1]
    with tarfile.open(downloads / "VOCtrainval_11-May-2012.tar", "w") as archive:
        for path in sorted(voc.rglob("*"), reverse=True):
            archive.add(path, path.relative_to(downloads), recursive=False)
    with tarfile.open(downloads / "benchmark.tgz", "w:gz") as archive:
        for path in sorted(sbd.parent.rglob("*")):
            archive.add(path, path.relative_to(downloads), recursive=False)
    return downloads / "VOCtrainval_11-May-2012.tar", downloads / "benchmark.tgz"


def test_archives_give_the_same_result_as_folders(voc, sbd, tmp_path):
    prepare(voc, sbd, tmp_path / "folders")
    prepare(*archives(voc, sbd), tmp_path / "archives")
    assert tree(tmp_path / "archives") == tree(tmp_path / "folders")
    prepare(voc.parents[1], sbd.parents[1], tmp_path / "around")
    assert tree(tmp_path / "around") == tree(tmp_path / "folders")


@pytest.mark.parametrize("rule", ["released", "later-on-top"])
def test_coco_masks_follow_the_rule(voc, sbd, coco, tmp_path, rule):
    root = tmp_path / "ours"
    said = prepare(voc, sbd, root, coco, rule)
    masks = coco_masks(rule)
    assert f"9 training images (3 of VOC 2012, 3 of SBD, 3 of COCO by the rule {rule}) and" in said
    assert names_in(root, "train") == [*sorted([*TRAIN, *NEW]), *sorted(masks)]
    assert names_in(root, "val") == sorted(VAL)
    for name, mask in masks.items():
        assert np.array_equal(read_mask(root / "SegmentationClass" / f"{name}.png"), mask)
        image = (root / "JPEGImages" / f"{name}.jpg").read_bytes()
        assert image == (coco / "train2017" / f"{name}.jpg").read_bytes()
    assert len(tree(root)) == 2 * 11 + 4


def test_masks_of_two_rules_are_not_mixed(voc, sbd, coco, tmp_path):
    root = tmp_path / "ours"
    prepare(voc, sbd, root)  # COCO can be added later,
    prepare(voc, sbd, root, coco, "released")
    message = refused(voc, sbd, root, coco, "later-on-top")
    assert message.startswith(f"{root} has masks of COCO created by the rule released")
    assert "later-on-top" in message
    assert "remove coco_rule.txt and SegmentationClass/0*.png" in message
    prepare(voc, sbd, root)  # left out again,
    assert names_in(root, "train") == sorted([*TRAIN, *NEW])
    (root / "coco_rule.txt").unlink()  # and made anew, as the message says.
    for path in (root / "SegmentationClass").glob("0*.png"):
        path.unlink()
    prepare(voc, sbd, root, coco, "later-on-top")
    name, mask = next(iter(coco_masks("later-on-top").items()))
    assert np.array_equal(read_mask(root / "SegmentationClass" / f"{name}.png"), mask)


def test_killed_call_is_resumed_with_the_same_result(voc, sbd, coco, tmp_path, monkeypatch):
    sources = tree(voc.parents[1]), tree(coco)
    prepare(voc, sbd, tmp_path / "whole", coco)
    files = len(tree(tmp_path / "whole"))
    replace = Path.replace
    for left in range(files):
        root = tmp_path / f"killed{left}"
        written = []

        def killed(path, target, left=left, written=written):
            if len(written) == left:
                path.write_bytes(path.read_bytes()[:3])
                raise KeyboardInterrupt
            written.append(target)
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare(voc, sbd, root, coco)
        whole = tree(tmp_path / "whole")
        begun = {name: text for name, text in tree(root).items() if not name.endswith(".partial")}
        assert len(begun) == left
        assert begun == {name: whole[name] for name in begun}
        again = []
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", lambda p, t: (again.append(t.name), replace(p, t))[1])  # noqa: B023
            prepare(voc, sbd, root, coco)
        always = {"coco_rule.txt", "train.txt", "val.txt", "classes.txt"}
        made_before = {path.name for path in written} - always
        assert not made_before & set(again)
        assert len(set(again)) == len(again) == files - len(made_before)
        assert tree(root) == whole
    assert (tree(voc.parents[1]), tree(coco)) == sources  # sources are only read


def test_lists_are_written_last(voc, sbd, tmp_path):
    root = tmp_path / "ours"
    (sbd / "cls" / f"{NEW[-1]}.mat").write_bytes(b"no")
    refused(voc, sbd, root)
    assert not list(root.rglob("*.txt"))
    assert len(list(root.glob("SegmentationClass/*.png"))) == 7


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_images_can_be_linked(voc, sbd, coco, tmp_path, link):
    prepare(voc, sbd, tmp_path / "copied", coco)
    root = tmp_path / "linked"
    prepare(voc, sbd, root, coco, "released", link)
    assert tree(root) == tree(tmp_path / "copied")
    for path in root.rglob("*.*"):
        if path.suffix == ".jpg":
            source = coco / "train2017" if path.name.startswith("0") else voc / "JPEGImages"
            assert path.samefile(source / path.name)
            assert path.is_symlink() == (link == "symbolic")
        else:
            assert path.stat().st_nlink == 1
            assert not path.is_symlink()


def test_missing_files_are_reported(voc, sbd, tmp_path):
    root = tmp_path / "ours"
    lacks = "it lacks 1 of {} files that are needed, first {}; "
    (voc / "JPEGImages" / f"{NEW[0]}.jpg").rename(tmp_path / "kept.jpg")
    expected = f"{voc}: {lacks.format(13, f'JPEGImages/{NEW[0]}.jpg')}"
    assert refused(voc, sbd, root).startswith(expected)
    (tmp_path / "kept.jpg").rename(voc / "JPEGImages" / f"{NEW[0]}.jpg")
    (sbd / "cls" / f"{NEW[1]}.mat").rename(tmp_path / "kept.mat")
    assert refused(voc, sbd, root).startswith(f"{sbd}: {lacks.format(3, f'cls/{NEW[1]}.mat')}")
    (tmp_path / "kept.mat").rename(sbd / "cls" / f"{NEW[1]}.mat")
    prepare(voc, sbd, root)


def test_wrong_image_counts_are_refused_before_anything_is_written(voc, sbd, coco, tmp_path):
    root = tmp_path / "ours"
    message = refused(voc, sbd, root, counts=Counts(3, 2, 7))
    assert message.startswith(f"{sbd}: train.txt and val.txt list 3 images that VOC 2012 does not")
    assert "instances_train2017.json: it has 7 images (expected 8)" in refused(
        voc, sbd, root, coco, counts=Counts(3, 2, 6, 8)
    )
    assert refused(voc, sbd, root, counts=Counts()).startswith(
        f"{voc}: ImageSets/Segmentation/train.txt lists 3 images (expected 1,464)"
    )
    assert "VOC2012 is a source, which is only read" in refused(voc, sbd, voc)
    assert " is a source, which is only read" in refused(voc, sbd, sbd / "cls" / "..")
    assert "coco is a source, which is only read" in refused(voc, sbd, coco, coco)
    (coco / "train2017" / f"{25:012d}.jpg").unlink()
    message = refused(voc, sbd, root, coco)
    assert message.startswith(f"{coco}/train2017: it lacks 1 of 4 files that are needed, first ")
    assert not root.exists()


def test_damaged_sources_are_refused(voc, sbd, coco, tmp_path):
    root = tmp_path / "ours"
    end = "expected the complete official file"
    path = sbd / "cls" / f"{NEW[0]}.mat"
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2]):
        path.write_bytes(content)
        message = refused(voc, sbd, root)
        assert message.startswith(f"{path}: ")
        assert end in message
    scipy.io.savemat(path, {"GTinst": {"Segmentation": mask_of(NEW[0], 1)}})
    assert refused(voc, sbd, root).startswith(f"{path}: it has no variable GTcls; {end}")
    path.write_bytes(whole)
    annotations = coco / "annotations" / "instances_train2017.json"
    document = json.loads(annotations.read_text())
    document["annotations"][0]["segmentation"] = [[1, 2]]
    annotations.write_text(json.dumps(document))
    message = refused(voc, sbd, root, coco)
    assert message.startswith(f"{annotations}: the objects of {9:012d}.jpg cannot be drawn (")
    assert end in message
    prepare(voc, sbd, root)


def test_masks_are_verified(voc, sbd, tmp_path):
    root = tmp_path / "ours"
    source = sbd / "cls" / f"{NEW[0]}.mat"
    mask = root / "SegmentationClass" / f"{NEW[0]}.png"
    height, width = size_of(NEW[0])
    write_mat(source, np.zeros((5, 7), np.uint8))
    expected = f"{mask} has 7 x 5 pixels, but its image has {width} x {height}. {AGAIN}"
    assert refused(voc, sbd, root).startswith(expected)
    assert refused(voc, sbd, root).startswith(expected)  # until the mask is removed
    write_mat(source, np.full((height, width), 21, np.uint8))
    mask.unlink()
    expected = f"{mask} has the value 21; expected 0 to 20 or 255. {AGAIN}"
    assert refused(voc, sbd, root).startswith(expected)
    write_mat(source, mask_of(NEW[0], 1))
    mask.unlink()
    prepare(voc, sbd, root)
    content = mask.read_bytes()
    for damaged, reason in (
        (
            content[:-60],
            "cannot be read as a mask (.*); expected a PNG of class indices",
        ),
        (b"", r"cannot be read as a mask \(it is not an image.*\); expected"),
    ):
        mask.write_bytes(damaged)
        message = refused(voc, sbd, root)
        assert re.match(f"{re.escape(str(mask))} {reason}", message)
        assert message.endswith("remove it, and run the command again")
    mask.unlink()
    prepare(voc, sbd, root)
    assert np.array_equal(read_mask(mask), mask_of(NEW[0], 1))


def test_file_that_is_not_an_image_is_refused(voc, sbd, tmp_path):
    (voc / "JPEGImages" / f"{TRAIN[0]}.jpg").write_bytes(b"<html>")
    image = tmp_path / "ours" / "JPEGImages" / f"{TRAIN[0]}.jpg"
    assert refused(voc, sbd, tmp_path / "ours").startswith(f"{image} is not an image. {AGAIN}")


def test_full_disk_is_reported_in_one_line_and_the_next_call_resumes(
    voc, sbd, tmp_path, monkeypatch
):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = refused(voc, sbd, tmp_path / "ours")
    assert message.startswith(f"{tmp_path / 'ours'}: No space left on device")
    assert "resumes" in message
    prepare(voc, sbd, tmp_path / "ours")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the script; return its exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return call


def test_script_reports_errors_in_one_line(run, voc, sbd, tmp_path):
    code, out, err = run(tmp_path / "no.tar", sbd, tmp_path / "ours")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path}/no.tar does not exist; expected VOCtrainval_11-May-")
    assert err.count("\n") == 1
    options = ["--coco", tmp_path, "--coco-rule", "later-on-top", "--link", "hard"]
    code, said, wrong = run(voc, sbd, tmp_path / "ours", *options)
    assert (code, said) == (2, "")
    assert wrong.startswith(f"error: {tmp_path}/annotations/instances_train2017.json does not exis")
    assert not (tmp_path / "ours").exists()


def test_script_shows_its_options(run):
    code, said, _ = run("--help")
    assert code == 0
    assert "--coco-rule {released,later-on-top}" in said
    assert "--link {hard,symbolic}" in said
    assert "data=voc data.root=/data/voc" in said
