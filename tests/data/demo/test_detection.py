import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from parcnet_train.data.demo import detection as demo_detection
from parcnet_train.data.demo import scenes
from parcnet_train.data.demo.detection import DetectionScenes, annotate, write_detection_scenes
from parcnet_train.data.detection.transforms import DetectionAugmentation

FEW = {"train": 12, "val": 6}


@pytest.fixture(scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        for split, count in FEW.items():
            patch.setitem(scenes.COUNTS, split, count)
        yield


@pytest.fixture(scope="module")
def root(few, tmp_path_factory):
    root = tmp_path_factory.mktemp("cache") / "scenes"
    write_detection_scenes(root)
    return root


def annotations(root, split):
    return root / "annotations" / f"instances_{split}2017.json"


def test_files_have_the_layout_of_coco(root):
    files = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    assert files == {
        *(f"train2017/{number:012d}.jpg" for number in range(1, 13)),
        *(f"val2017/{number:012d}.jpg" for number in range(13, 19)),
        *(f"annotations/instances_{split}2017.json" for split in FEW),
    }


@pytest.mark.parametrize("split", FEW)
def test_boxes_and_areas_match_pycocotools(few, split):
    for _, scene in scenes.draw_scenes(split):
        for number, annotation in enumerate(annotate(scene), 1):
            mask = masks.encode(np.asfortranarray(scene.owners == number, dtype=np.uint8))
            assert annotation["area"] == masks.area(mask)
            assert annotation["bbox"] == masks.toBbox(mask).tolist()


@pytest.mark.parametrize("split", FEW)
def test_pycocotools_reads_what_was_drawn(root, split):
    coco = COCO(annotations(root, split))
    drawn = list(scenes.draw_scenes(split))
    assert coco.getImgIds() == [number for number, _ in drawn]
    assert [coco.cats[digit + 1]["name"] for digit in range(10)] == list("0123456789")
    assert len(coco.anns) == sum(len(scene.stickers) for _, scene in drawn)
    for number, scene in drawn:
        entry = coco.imgs[number]
        image = np.array(Image.open(root / f"{split}2017" / entry["file_name"]))
        assert image.shape == (entry["height"], entry["width"], 3)
        # JPEG keeps the camera noise roughly, and the channel order.
        assert np.abs(image.astype(float) - scene.image).mean() < 4
        labels = [int(coco.cats[a["category_id"]]["name"]) for a in coco.imgToAnns[number]]
        assert labels == [sticker.digit.label for sticker in scene.stickers]


def test_ground_truth_boxes_reach_average_precision_1(root):
    coco = COCO(annotations(root, "train"))
    found = [{**annotation, "score": 1.0} for annotation in coco.dataset["annotations"]]
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1.0


def test_annotations_have_the_same_bytes_everywhere(root, few, tmp_path):
    write_detection_scenes(tmp_path / "again")
    for split in FEW:
        assert (
            annotations(root, split).read_bytes()
            == annotations(tmp_path / "again", split).read_bytes()
        )
    # Another value means other scenes; results measured on them must then be measured again.
    digest = hashlib.sha256(annotations(root, "train").read_bytes()).hexdigest()
    assert digest == "a9d7f551c6c48ceb89a72671187259dd4d6f273367d63cc38c37c86b5c3f1aa1"


def test_second_call_does_nothing(tmp_path, monkeypatch):
    (tmp_path / "scenes").mkdir()
    monkeypatch.setattr(demo_detection, "draw_scenes", lambda split: pytest.fail("drawn again"))
    write_detection_scenes(tmp_path / "scenes")
    assert list((tmp_path / "scenes").iterdir()) == []


def test_interrupted_write_leaves_nothing(few, tmp_path, monkeypatch):
    def interrupted(split):
        if split == "val":
            raise KeyboardInterrupt
        yield from scenes.draw_scenes(split)

    monkeypatch.setattr(demo_detection, "draw_scenes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_detection_scenes(tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []


def test_data_module_prepares_and_reads(few, tmp_path, caplog):
    data = DetectionScenes(
        str(tmp_path / "scenes"),
        96,
        4,
        DetectionAugmentation(flip=0),
        num_classes=10,
        num_workers=0,
    )
    assert data.writes_root
    with caplog.at_level("INFO", logger=demo_detection.__name__):
        data.prepare()
    assert "demonstration data" in caplog.text
    assert "data=coco data.root=/path" in caplog.text
    data.check_files("fit")
    data.setup("fit")
    assert data.class_names == ["background", *"0123456789"]
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (4, 3, 96, 96)
    file = json.loads(annotations(data.root, "val").read_text())
    first = [a for a in file["annotations"] if a["image_id"] == 13]
    size = [file["images"][0][side] for side in ("width", "height")]
    batch = next(iter(data.val_dataloader()))
    labels = batch.labels[0][batch.labels[0] >= 0]
    assert labels.tolist() == [a["category_id"] for a in first]
    left, top, width, height = np.array([a["bbox"] for a in first]).T
    corners = np.stack([left, top, left + width, top + height], 1) * 96 / [*size, *size]
    boxes = batch.boxes[0, : len(first)]
    assert torch.allclose(boxes, torch.tensor(corners, dtype=torch.float32), atol=1e-3)
