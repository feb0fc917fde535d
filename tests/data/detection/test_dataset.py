"""Images with boxes: samples, batches, and memory of workers."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from coco_files import TRAIN, VAL, write_annotations, write_images
from parcnet_train.data.batches import PADDING
from parcnet_train.data.detection import dataset as boxed_images
from parcnet_train.data.detection.coco import CocoAnnotations, read_annotations
from parcnet_train.data.detection.dataset import BoxedImage, BoxedImages, collate, visible_boxes
from parcnet_train.data.detection.transforms import (
    DetectionAugmentation,
    DetectionEvalTransform,
    DetectionTrainTransform,
)
from parcnet_train.data.samplers import SampleKey
from parcnet_train.errors import DataError, UnreadableError


def make_set(root, split="train", on_error="stop", transform=None, **settings):
    annotations = read_annotations(root / "annotations" / f"instances_{split}2017.json")
    transform = transform or (lambda view, key: view)
    return BoxedImages(annotations, root / f"{split}2017", transform, on_error, **settings)


def key(sample, size=(32, 32)):
    return SampleKey(sample, 0, size)


def test_sample_has_the_image_and_boxes_of_its_entry(coco_folder):
    dataset = make_set(coco_folder)
    assert len(dataset) == 4
    for number, entry in enumerate(TRAIN["images"]):
        sample = dataset[key(number)]
        path = coco_folder / "train2017" / entry["file_name"]
        expected = torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
        assert torch.equal(sample.image, expected.permute(2, 0, 1))
        assert sample.sample == number
    first = dataset[key(0)]
    assert first.boxes.tolist() == [[5.5, 6, 35.5, 26]]
    assert (first.boxes.dtype, first.labels.dtype) == (torch.float32, torch.int64)
    assert first.placement.tolist() == [1, 1, 0, 0]
    assert first.placement.dtype == torch.float32


def test_crowds_and_boxes_without_area_are_no_targets(coco_folder):
    dataset = make_set(coco_folder)
    second, third, fourth = (dataset[key(number)] for number in (1, 2, 3))
    # One extends beyond the 30x50 pixels, one has no width.
    assert second.boxes.tolist() == [[3, 4, 13, 24], [20, 30, 30, 50]]
    assert second.labels.tolist() == [2, 1]
    assert third.boxes.shape == fourth.boxes.shape == (0, 4)
    assert len(dataset.annotations.boxes) == 5  # all of them, for evaluations


def test_images_are_counted_by_the_classes_of_their_objects(coco_folder):
    """Of ant, one image has only a crowd, and one has two boxes, one without area."""
    dataset = make_set(coco_folder, annotated_only=True)
    assert dataset.images_by_class() == [1, 1, 1]
    seen = [{*dataset[key(number)].labels.tolist()} for number in range(len(dataset))]
    assert [sum(label in each for each in seen) for label in (1, 2, 3)] == [1, 1, 1]


def test_box_outside_its_image_is_no_target(tmp_path):
    boxes = [[60, 0, 10, 10], [-20, -20, 20, 30], [-5, -5, 10, 10], [0, 0, 1e9, 1e9]]
    entries = [{"image_id": 30, "category_id": 2, "bbox": box} for box in boxes]
    file = write_annotations(tmp_path, "train", {**TRAIN, "annotations": entries})
    clipped, is_object = visible_boxes(read_annotations(file))
    assert is_object.tolist() == [False, False, True, True]
    assert clipped[2:].tolist() == [[0, 0, 5, 5], [0, 0, 60, 40]]


def test_training_set_has_the_annotated_images_including_crowds(coco_folder):
    dataset = make_set(coco_folder, annotated_only=True)
    files = [dataset.path(int(image)).name for image in dataset.images]
    assert files == ["a.png", "b.jpg", "c.png"]
    assert dataset[key(2)].image.shape == (3, 64, 64)


def test_training_set_without_boxes_is_refused(coco_folder):
    write_annotations(coco_folder, "train", {**TRAIN, "annotations": []})
    with pytest.raises(DataError, match="train2017: the annotations have no image with a box"):
        make_set(coco_folder, annotated_only=True)


UNUSABLE = {
    "crowds": {"bbox": [1, 2, 10, 10], "iscrowd": 1},
    "outside": {"bbox": [500, 500, 10, 10]},
    "no area": {"bbox": [1, 2, 0, 10]},
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
def test_training_set_without_objects_is_refused(coco_folder, entry):
    entries = [{"image_id": 10, "category_id": 2, **entry}] * 3
    write_annotations(coco_folder, "train", {**TRAIN, "annotations": entries})
    with pytest.raises(DataError, match=r"train2017.* no object to learn from: of 3 boxes"):
        make_set(coco_folder, annotated_only=True)
    assert len(make_set(coco_folder)) == 4  # fine for an evaluation


def test_unreadable_image_raises_or_is_skipped(coco_folder):
    (coco_folder / "train2017" / "b.jpg").write_bytes(b"no image")
    message = r"train2017/b\.jpg cannot be read as an image .*data\.on_error=skip"
    with pytest.raises(DataError, match=message):
        make_set(coco_folder)[key(1)]
    assert make_set(coco_folder, on_error="skip")[key(1)] is None


def test_image_with_too_many_pixels_raises_or_is_skipped(coco_folder):
    assert make_set(coco_folder, max_pixels=50 * 30)[key(1)] is not None
    with pytest.raises(UnreadableError, match=r"b\.jpg .*30x50.*data\.max_pixels=1499"):
        make_set(coco_folder, max_pixels=1499)[key(1)]
    assert make_set(coco_folder, on_error="skip", max_pixels=1499)[key(1)] is None


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_image_of_another_size_than_its_entry_is_refused(coco_folder, on_error):
    cv2.imwrite(str(coco_folder / "train2017" / "b.jpg"), np.zeros((30, 51, 3), np.uint8))
    with pytest.raises(DataError) as raised:
        make_set(coco_folder, on_error=on_error)[key(1)]
    message = str(raised.value)
    assert message.startswith(f"{coco_folder}/train2017/b.jpg has 51x30 pixels")
    assert "image id 10 of the annotations has 30x50" in message


def test_exif_orientation_is_applied(coco_folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated clockwise when displayed
    path = coco_folder / "train2017" / "b.jpg"
    Image.new("RGB", (50, 30)).save(path, exif=exif)
    assert make_set(coco_folder)[key(1)].image.shape == (3, 50, 30)
    Image.new("RGB", (30, 50)).save(path, exif=exif)
    with pytest.raises(DataError, match=r"has 50x30 pixels.*swap .*EXIF"):
        make_set(coco_folder)[key(1)]


def test_padding_sample_is_black_and_reads_no_file(coco_folder, monkeypatch):
    monkeypatch.setattr(boxed_images, "read_image", None)
    place = make_set(coco_folder)[key(PADDING, (24, 40))]
    assert (place.image.shape, place.image.dtype) == ((3, 24, 40), torch.uint8)
    assert not place.image.any()
    assert place.boxes.shape == (0, 4)
    assert place.sample == PADDING


def boxed(count, sample, value=1):
    """Return a sample with a number of boxes."""
    return BoxedImage(
        torch.full((4, 5, 3), value, dtype=torch.uint8).permute(2, 0, 1),
        torch.arange(4.0 * count).reshape(count, 4),
        torch.arange(1, count + 1),
        sample,
        torch.tensor([2.0, 3.0, 4.0, 5.0]),
    )


def test_boxes_are_padded_in_a_batch():
    batch = collate([boxed(1, 7), boxed(3, 2), boxed(0, 9)])
    assert batch.images.shape == (3, 3, 4, 5)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.tolist() == [[1, -1, -1], [1, 2, 3], [-1, -1, -1]]
    assert batch.boxes.shape == (3, 3, 4)
    assert batch.boxes[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert not batch.boxes[0, 1:].any()
    assert not batch.boxes[2].any()
    assert batch.samples.tolist() == [7, 2, 9]
    assert batch.placements.tolist() == [[2, 3, 4, 5]] * 3
    dtypes = [tensor.dtype for tensor in batch[1:]]
    assert dtypes == [torch.float32, torch.int64, torch.int64, torch.float32, torch.int64]
    assert batch.skipped == 0


def test_batch_without_boxes_has_one_padding_box():
    batch = collate([boxed(0, 0), boxed(0, 1)])
    assert batch.boxes.tolist() == [[[0] * 4]] * 2
    assert batch.labels.tolist() == [[-1], [-1]]


def test_unreadable_samples_are_padded_or_replaced():
    samples = [boxed(1, 7), None, boxed(2, 3, value=9)]
    batch = collate(samples)
    assert batch.samples.tolist() == [7, 3, PADDING]
    assert batch.skipped == 1
    assert batch.images.flatten(1).float().mean(dim=1).tolist() == [1, 9, 0]
    assert batch.labels.tolist() == [[1, -1], [1, 2], [-1, -1]]
    filled = collate(samples, fill=True)
    assert filled.samples.tolist() == [7, 3, 7]
    assert filled.labels.tolist() == [[1, -1], [1, 2], [1, -1]]
    assert filled.skipped == 1
    with pytest.raises(DataError, match="all 2 images of a batch are unreadable"):
        collate([None, None])


def test_data_set_holds_only_arrays(coco_folder):
    augmentation = DetectionAugmentation()
    for split, transform in (
        ("train", DetectionTrainTransform(augmentation, 0, False)),
        ("val", DetectionEvalTransform(False)),
    ):
        dataset = make_set(coco_folder, split, transform=transform)
        length = len(dataset.annotations)
        boxes = len(dataset.annotations.boxes)
        names = dataset.annotations.class_names
        for value in (*vars(dataset).values(), *vars(dataset.annotations).values()):
            if isinstance(value, np.ndarray):
                assert value.dtype != object
                assert len(value) in (length, length + 1, boxes, len(names))
            elif value is not names:
                assert not hasattr(value, "__len__") or isinstance(value, (str, CocoAnnotations))


def test_images_may_be_in_subfolders(tmp_path):
    entry = {"id": 1, "file_name": "deep/er/x.png", "height": 8, "width": 9}
    document = {**VAL, "images": [entry], "annotations": []}
    write_annotations(tmp_path, "val", document)
    (tmp_path / "val2017" / "deep" / "er").mkdir(parents=True)
    write_images(tmp_path, "val", document)
    assert make_set(tmp_path, "val")[key(0)].image.shape == (3, 8, 9)
