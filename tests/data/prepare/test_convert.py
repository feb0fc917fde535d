"""Conversion as a whole: layouts, resuming, links, and refused places."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from faults import is_like
from parcnet_train.data.prepare import convert as module
from parcnet_train.data.prepare import splitting
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.errors import ConfigError, DataError
from preparing import POLYGON, contents, converted, document, masked, picture, text, yolo

YOLO_NAMES = ["cat", "dog"]


def test_boxes_become_cocos_layout(tmp_path):
    source, root = yolo(tmp_path / "in"), tmp_path / "out"
    before = contents(source)
    done = converted("yolo", source, root, test=0.25)
    assert contents(source) == before
    assert done.command == "task=detection data=coco_format"
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        content = json.loads((root / f"annotations/instances_{split}2017.json").read_text())
        assert len(content["images"]) == len(content["annotations"]) == count
        assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        for image, annotation in zip(content["images"], content["annotations"], strict=True):
            assert (image["height"], image["width"]) == (48, 64)
            assert annotation["bbox"] == [16, 18, 32, 12]
            assert (annotation["area"], annotation["iscrowd"]) == (384, 0)
            file = root / f"{split}2017" / image["file_name"]
            assert file.read_bytes() == (source / "images" / image["file_name"]).read_bytes()
    record = json.loads((root / "prepare.json").read_text())
    assert record["images"] == {"train": 6, "val": 3, "test": 3}
    assert record["objects_of_class"]["train"] == {"cat": 3, "dog": 3}


def test_polygons_become_masks_or_boxes(tmp_path):
    source = yolo(tmp_path / "in", line=POLYGON)
    with pytest.raises(
        ConfigError, match=r"prepare\.task has no value.*detection and segmentation"
    ):
        converted("yolo", source, tmp_path / "out")
    root = converted("yolo", source, tmp_path / "out", "segmentation").root
    assert (root / "classes.txt").read_text() == "background\ncat\ndog\n"
    lists = [
        (root / f"ImageSets/Segmentation/{name}.txt").read_text().split()
        for name in ("train", "val")
    ]
    assert [len(names) for names in lists] == [9, 3]
    for name in lists[0]:
        mask = read_mask(root / "SegmentationClass" / f"{name}.png")
        assert (mask[:24, :32] == int(name) % 2 + 1).all()
        assert (mask == 0).sum() == 48 * 64 - 24 * 32
    root = converted("yolo", source, tmp_path / "boxes", "detection").root
    content = json.loads((root / "annotations/instances_val2017.json").read_text())
    assert content["annotations"][0]["bbox"] == [0, 0, 32, 24]
    assert content["annotations"][0]["segmentation"] == [[0, 0, 32, 0, 32, 24, 0, 24]]
    assert content["annotations"][0]["area"] == 768


def test_class_folders_become_imagenets_layout(tmp_path):
    for number in range(10):
        picture(tmp_path / "in" / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    done = converted("split", tmp_path / "in", tmp_path / "out", val=0.4)
    assert done.command == "task=classification data=imagefolder"
    found = sorted(str(p.relative_to(done.root)) for p in done.root.rglob("*.jpg"))
    assert len([name for name in found if name.startswith("train/cat/")]) == 3
    assert len([name for name in found if name.startswith("val/dog/")]) == 2


@pytest.mark.parametrize("stop", ["place_images", "verify_images"])
def test_killed_call_is_resumed(tmp_path, monkeypatch, stop):
    source, root = yolo(tmp_path / "in", line=POLYGON), tmp_path / "out"
    original = getattr(module, stop)

    def killed(folder, images, names, writer, *rest):
        original(folder, images[:4], names[:4], writer, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, stop, killed)
    with pytest.raises(KeyboardInterrupt):
        converted("yolo", source, root, "segmentation")
    assert not root.exists()
    partial = tmp_path / ".out.partial"
    kept = {path: path.stat().st_mtime_ns for path in partial.rglob("*.jpg")}
    assert len(kept) >= 4
    first = next(iter(kept))
    first.write_bytes(first.read_bytes()[:100])  # as a kill on another file system leaves it
    del kept[first]
    monkeypatch.undo()
    assert not converted("yolo", source, root, "segmentation").was_complete
    assert not partial.exists()
    for path, time in kept.items():
        assert (root / path.relative_to(partial)).stat().st_mtime_ns == time
    assert converted("yolo", source, root, "segmentation").was_complete


def test_interrupted_call_with_other_settings_is_refused(tmp_path, monkeypatch):
    source, root = yolo(tmp_path / "in"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(module, "verify_images", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            converted("yolo", source, root)
    with pytest.raises(ConfigError, match="left from an interrupted call with another source"):
        converted("yolo", source, root, seed=1)
    converted("yolo", source, root)


@pytest.mark.parametrize(
    ("task", "pattern"),
    [("detection", "03.jpg"), ("detection", "instances_train*"), ("segmentation", "*.png")],
)
def test_finished_output_is_verified_again(tmp_path, task, pattern):
    source, root = yolo(tmp_path / "in", line=POLYGON), tmp_path / "out"
    converted("yolo", source, root, task)
    assert converted("yolo", source, root, task).was_complete
    file = next(root.rglob(pattern))
    if file.suffix == ".json":
        document(file, {"images": [], "annotations": [], "categories": []})
    else:
        picture(file, 3, (20, 20))
    with pytest.raises(DataError) as caught:
        converted("yolo", source, root, task)
    assert is_like(str(caught.value), f"Fix: remove {root} and run the command again")
    shutil.rmtree(root)
    assert not converted("yolo", source, root, task).was_complete


def test_other_outputs_are_refused(tmp_path):
    source, root = yolo(tmp_path / "in"), tmp_path / "out"
    text(root / "mine.txt", "")
    with pytest.raises(ConfigError, match="it exists, and action=prepare has not made it"):
        converted("yolo", source, root)
    (root / "mine.txt").unlink()
    converted("yolo", source, root)  # into an empty folder
    with pytest.raises(ConfigError, match="prepared from another source, or with other settings"):
        converted("yolo", source, root, val=0.5)


@pytest.mark.parametrize("place", ["in/out", "in", "."])
def test_output_and_source_must_be_apart(tmp_path, place):
    source = yolo(tmp_path / "in")
    with pytest.raises(ConfigError, match=r"prepare\.output=.*expected a folder elsewhere"):
        converted("yolo", source, tmp_path / place)


def test_images_can_be_linked(tmp_path, monkeypatch):
    source = yolo(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    converted("yolo", Path("in"), Path("soft"), link="symbolic")
    links = list((tmp_path / "soft" / "train2017").iterdir())
    assert all(link.is_symlink() and link.resolve().parent == source / "images" for link in links)
    converted("yolo", source, tmp_path / "hard", link="hard")
    for path in (tmp_path / "hard" / "val2017").iterdir():
        assert path.samefile(source / "images" / path.name)


def test_repeated_names_become_paths(tmp_path):
    for number, name in enumerate(("cat/a.jpg", "dog/a.jpg", "dog/A.png", "cat/b.jpg")):
        picture(tmp_path / name, number)
    done = converted("split", tmp_path, tmp_path.with_name("out_of_it"), val=0.5)
    names = sorted(path.name for path in done.root.rglob("*.*g"))
    assert len(names) == len({Path(name).stem.lower() for name in names}) == 4
    assert "b.jpg" in names
    assert "cat__a.jpg" in names


def test_classes_are_checked_and_ordered(tmp_path):
    source = yolo(tmp_path / "in")
    with pytest.raises(DataError, match=r"class 'dog', which prepare\.classes lacks: 6 \(first"):
        converted("yolo", source, tmp_path / "out", classes=["cat", "cow"])
    done = converted("yolo", source, tmp_path / "out", classes=["dog", "cow", "cat"])
    assert done.counts.classes == ["dog", "cow", "cat"]
    content = json.loads((done.root / "annotations/instances_val2017.json").read_text())
    assert [each["name"] for each in content["categories"]] == ["dog", "cow", "cat"]


@pytest.mark.parametrize("source", ["color_masks", "split"])
def test_masks_follow_the_order_of_given_classes(tmp_path, source):
    values = ((0, 0, 0), (9, 9, 9), (8, 8, 8)) if source == "color_masks" else ()
    root = masked(tmp_path / "in", *values)
    with pytest.raises(DataError, match=r"prepare\.classes lacks: 1 \(first: dog\)"):
        converted(source, root, tmp_path / "out", classes=["background", "cat"])
    names = ["cow", "dog", "background", "cat"]
    given = ["cow", "dog", "_background_", "cat", "__ignore__"]
    done = converted(source, root, tmp_path / "out", classes=given)
    assert (done.root / "classes.txt").read_text().split() == names
    mask = read_mask(done.root / "SegmentationClass" / "0.png")
    assert (np.unique(mask[:20]), np.unique(mask[20:])) == (3, 1)
    assert done.counts.images_of["val"] == {"cat": 1, "dog": 1}


def test_split_and_counts_read_each_mask_once(tmp_path, monkeypatch):
    root = masked(tmp_path / "in", (0, 0, 0), (9, 9, 9), (8, 8, 8))
    read = []
    original = splitting.indices_of
    monkeypatch.setattr(
        splitting, "indices_of", lambda image, *rest: read.append(image) or original(image, *rest)
    )
    done = converted("color_masks", root, tmp_path / "out")
    assert len(read) == 4
    assert done.counts.images_of["train"] == {"cat": 3, "dog": 3}


SPECIAL_NAMES = ["background", "_background_", "__ignore__"]


@pytest.mark.parametrize("given", [None, [*SPECIAL_NAMES, "dog", "cat"], ["dog", "cat"]], ids=str)
def test_names_of_background_and_ignored_regions_are_no_classes(tmp_path, given):
    source = yolo(tmp_path / "in", line=POLYGON)
    text(source / "classes.txt", "\n".join(["cat", "dog", *SPECIAL_NAMES]))
    for number, index in enumerate((2, 3, 4)):
        text(source / "labels" / f"{number:02d}.txt", POLYGON.format(0) + POLYGON.format(index))
    classes = given and given[-2:]
    root = converted("yolo", source, tmp_path / "out", "segmentation", given).root
    assert (root / "classes.txt").read_text().split() == ["background", *(classes or YOLO_NAMES)]
    masks = [read_mask(root / "SegmentationClass" / f"{number:02d}.png") for number in range(4)]
    dog = 1 if given else 2
    assert [mask[0, 0].item() for mask in masks] == [0, 0, 255, dog]
    root = converted("yolo", source, tmp_path / "boxes", "detection", given).root
    written = [json.loads(file.read_text()) for file in root.glob("annotations/*.json")]
    for content in written:
        assert [each["name"] for each in content["categories"]] == (classes or YOLO_NAMES)
    assert sum(len(content["annotations"]) for content in written) == 12


@pytest.mark.parametrize("given", [None, ["cat", "dog"]], ids=str)
def test_set_without_an_object_of_a_class_is_refused(tmp_path, given):
    source = yolo(tmp_path / "in", line=POLYGON)
    text(source / "classes.txt", "\n".join(SPECIAL_NAMES))
    for task in ("segmentation", "detection"):
        with pytest.raises(DataError) as caught:
            converted("yolo", source, tmp_path / "out", task, given)
        assert is_like(str(caught.value), "no object has a class… expected at least one. Fix: ")


@pytest.mark.parametrize("special", SPECIAL_NAMES)
def test_class_folders_may_have_special_names(tmp_path, special):
    for number in range(8):
        picture(tmp_path / "in" / (special, "dog")[number % 2] / f"{number}.jpg", number)
    done = converted("split", tmp_path / "in", tmp_path / "out")
    assert (done.root / "classes.txt").read_text() == f"{special}\ndog\n"
    with pytest.raises(DataError, match=f"class '{special}', which prepare.classes lacks: 4"):
        converted("split", tmp_path / "in", tmp_path / "other", classes=["cat", "dog"])


def test_images_in_several_sets_are_refused_unless_split_anew(tmp_path):
    source = yolo(tmp_path / "in")
    text(source / "data.yaml", "train: images\nval: images\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match=r"the source lists in several sets: 12 \(first"):
        converted("yolo", source, tmp_path / "out")
    assert converted("yolo", source, tmp_path / "out", keep=False).counts.images["train"] == 9


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_call_that_could_not_write_is_resumed(tmp_path, monkeypatch, task):
    source, root = yolo(tmp_path / "in", line=POLYGON), tmp_path / "out"
    layout = {"segmentation": "voc", "detection": "coco"}[task]

    def full(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"parcnet_train.data.prepare.writers.{layout}.write_file", full)
        with pytest.raises(DataError) as caught:
            converted("yolo", source, root, task)
    assert is_like(str(caught.value), f"{root}: No space left on device. Fix: … run the command")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / ".out.partial").rglob("*.jpg")}
    assert len(kept) == 12
    converted("yolo", source, root, task)
    assert {path.stat().st_mtime_ns for path in root.rglob("*.jpg")} == set(kept.values())


def test_refused_call_leaves_nothing(tmp_path, monkeypatch):
    source = yolo(tmp_path / "in", line=POLYGON)

    def refused(*_):
        raise DataError("no")

    monkeypatch.setattr("parcnet_train.data.prepare.writers.voc.mask_of", refused)
    with pytest.raises(DataError, match="no"):
        converted("yolo", source, tmp_path / "out", "segmentation")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
