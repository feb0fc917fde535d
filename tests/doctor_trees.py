"""Small clean data sets of all tasks, for tests that plant defects in them."""

import io
import json

import cv2
import numpy as np
import PIL.Image

from parcnet_train.data.segmentation.palette import write_mask
from voc_files import write_classes, write_list

CLASSES = ("ant", "bee", "cat")
SIZE = (120, 160)  # height, width
COUNTS = {"train": 8, "val": 3}  # images per class; of the other tasks, three times as many


def photo(seed, size=SIZE):
    """Return an image with coarse and fine structure, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 225, (5, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return (smooth + rng.normal(0, 12, (*size, 3))).clip(0, 255).astype(np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def turned(path, image, orientation=6):
    """Write a JPEG file with an EXIF orientation."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(image).save(path, exif=exif)


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoiled(path):
    """Overwrite some bytes in the middle of a JPEG file, which decoders then read in part."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 30] = b"\xff" * 30
    path.write_bytes(content)


def png_of(size):
    """Return the content of a PNG file whose header declares a size."""
    stream = io.BytesIO()
    PIL.Image.new("L", (8, 8)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = size[1].to_bytes(4, "big") + size[0].to_bytes(4, "big")
    return bytes(content)


def write_folders(root):
    """Write class folders: 8 training and 3 validation images per class."""
    seed = 0
    for split, count in COUNTS.items():
        for name in CLASSES:
            for number in range(count):
                seed += 1
                save(root / split / name / f"{number}.jpg", photo(seed))
    return root


def boxes_of(number):
    """Return two boxes that the anchors fit, one in each half of the image."""
    rng = np.random.default_rng(number)
    for left in (5, 85):
        width, height = rng.integers(40, 60, 2).tolist()
        yield [left + number % 7, 10 + number % 5, width, height]


def coco_document(split):
    """Return annotations of 24 or 9 images, with two objects each."""
    images, annotations = [], []
    for number in range(3 * COUNTS[split]):
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]}
        )
        for box in boxes_of(number):
            entry = {"id": len(annotations), "image_id": number, "bbox": box}
            category = 1 + len(annotations) % len(CLASSES)
            annotations.append({**entry, "category_id": category, "area": box[2] * box[3] * 0.7})
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_boxes(root):
    """Write a data set in COCO's layout."""
    for number, split in enumerate(COUNTS):
        document = coco_document(split)
        for image in document["images"]:
            path = root / f"{split}2017" / image["file_name"]
            save(path, photo(1000 * number + image["id"]))
        write_document(root, split, document)
    return root


def write_document(root, split, document):
    file = root / "annotations" / f"instances_{split}2017.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def mask_of(classes=3):
    """Return a mask with a band of columns per class."""
    columns = np.arange(SIZE[1]) * classes // SIZE[1]
    return np.repeat(columns[None], SIZE[0], axis=0).astype(np.uint8)


def write_masks(root):
    """Write a data set in VOC's layout, with names t0 to t23 and v0 to v8."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, (split, count) in enumerate(COUNTS.items()):
        names = [f"{split[0]}{n}" for n in range(3 * count)]
        for n, name in enumerate(names):
            save(root / "JPEGImages" / f"{name}.jpg", photo(1000 * number + n))
            write_mask(root / "SegmentationClass" / f"{name}.png", mask_of())
        write_list(root, split, names)
    write_classes(root, CLASSES)
    return root
