"""Sets of annotation tools with anything wrong in them are converted as a whole, or refused."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from fuzzing import ends_well, folder, fuzz, hostile_tree, read_tree, write_tree
from parcnet_train.data.prepare import convert as conversion
from preparing import COLORS, converted, png_in_base64

SIZE = (8, 10)
COUNT = 4
BOX = (2, 1, 7, 6)
XML = (
    "<annotation><filename>{name}.jpg</filename><size><width>10</width><height>8</height></size>"
    "<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>2</ymin>"
    "<xmax>7</xmax><ymax>6</ymax></bndbox><polygon><x1>3</x1><y1>2</y1><x2>7</x2><y2>2</y2>"
    "<x3>7</x3><y3>6</y3></polygon></object></annotation>"
)


def encoded(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def picture(number, **options):
    exif = Image.Exif()
    if options.get("turned"):
        exif[0x0112] = 6
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


LABELS = ["cat", "dog"] * (COUNT // 2)
NAMES = [f"{number}{label}" for number, label in enumerate(LABELS)]
PAIRS = list(zip(NAMES, LABELS, strict=True))
PICTURES = {name: picture(n, turned=n == COUNT - 1) for n, name in enumerate(NAMES)}


def voc_xml():
    tree = {f"JPEGImages/{name}.jpg": PICTURES[name] for name in NAMES}
    for name, label in PAIRS:
        tree[f"Annotations/{name}.xml"] = XML.format(name=name, label=label).encode()
    return {**tree, "ImageSets/Main/train.txt": "\n".join(NAMES[:2]).encode()}


def yolo(line):
    tree = {f"images/train/{name}.jpg": PICTURES[name] for name in NAMES}
    for name, label in PAIRS:
        tree[f"labels/train/{name}.txt"] = line.format(int(label == "dog")).encode()
    return {**tree, "data.yaml": b"path: .\ntrain: images/train\nnc: 2\nnames: [cat, dog]\n"}


def labelme():
    tree = {f"{name}.jpg": PICTURES[name] for name in NAMES[:-1]}
    mask = png_in_base64(np.ones((4, 4), np.uint8))
    square = [[2, 1], [7, 1], [7, 6], [2, 6]]
    for name, label in PAIRS:
        shapes = [
            {"label": label, "points": square, "group_id": None, "shape_type": "polygon"},
            {"label": label, "points": square[:2], "group_id": 1, "shape_type": "circle"},
            {"label": label, "points": square[:3], "group_id": 1, "shape_type": "linestrip"},
            {"label": label, "points": square[::2], "shape_type": "mask", "mask": mask},
        ]
        content = {"shapes": shapes, "imagePath": f"{name}.jpg", "flags": {}, "imageData": None}
        content |= {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        if name == NAMES[-1]:
            content["imageData"] = base64.b64encode(PICTURES[name]).decode()
        tree[f"{name}.json"] = json.dumps(content).encode()
    return tree


def coco_export():
    left, top, right, bottom = BOX
    outlines = [
        [[left, top, right, top, right, bottom]],
        {"size": [*SIZE], "counts": [17, 5, 3, 5, 50]},
        {"size": [*SIZE], "counts": "a0530000000g0"},
    ]
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    document["categories"].append({"id": 2, "name": "dog"})
    for number, (name, label) in enumerate(PAIRS, 1):
        sizes = {"height": SIZE[0], "width": SIZE[1]}
        document["images"].append({"id": number, "file_name": f"{name}.jpg", **sizes})
        box = [left, top, right - left, bottom - top]
        for outline in outlines:
            entry = {"id": len(document["annotations"]), "image_id": number, "bbox": box}
            entry |= {"category_id": 1 + (label == "dog"), "segmentation": outline, "iscrowd": 0}
            document["annotations"].append(entry)
    tree = {f"train/{name}.jpg": PICTURES[name] for name in NAMES}
    return {**tree, "train/_annotations.coco.json": json.dumps(document).encode()}


def csv():
    tree = {f"images/{name}.jpg": PICTURES[name] for name in NAMES}
    rows = "".join(f"{name}.jpg,{label},train\n" for name, label in PAIRS)
    return {**tree, "labels.csv": f"filename,label,split\n{rows}".encode()}


def csv_flags():
    tree = {f"train/{name}.jpg": PICTURES[name] for name in NAMES}
    rows = "".join(f"{name}.jpg,{label == 'cat':d},{label == 'dog':d}\n" for name, label in PAIRS)
    return {**tree, "train/_classes.csv": f"filename, cat, dog\n{rows}".encode()}


def color_masks():
    tree = {f"JPEGImages/{name}.jpg": PICTURES[name] for name in NAMES}
    for name, label in PAIRS:
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[1:6, 2:7] = COLORS[label]
        tree[f"SegmentationClass/{name}.png"] = encoded(mask, "PNG")
    lines = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in COLORS.items())
    tree["labelmap.txt"] = f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{lines}".encode()
    return {**tree, "ImageSets/Segmentation/default.txt": "\n".join(NAMES).encode()}


def split_folders():
    return {f"{label}/{name}.jpg": PICTURES[name] for name, label in PAIRS}


def split_masks():
    tree = {f"JPEGImages/{name}.jpg": PICTURES[name] for name in NAMES}
    for name, label in PAIRS:
        mask = np.full(SIZE, 1 + (label == "dog"), np.uint8)
        tree[f"SegmentationClass/{name}.png"] = encoded(mask, "PNG")
    return {**tree, "classes.txt": b"background\ncat\ndog\n"}


SETS = {
    "voc_xml": ("voc_xml", voc_xml()),
    "yolo": ("yolo", yolo("{0} 0.5 0.5 0.4 0.4\n{0} 0.1 0.1 0.2 0.2\n")),
    "yolo polygons": ("yolo", yolo("{} 0.1 0.1 0.9 0.1 0.9 0.9\n")),
    "labelme": ("labelme", labelme()),
    "coco_export": ("coco_export", coco_export()),
    "csv": ("csv", csv()),
    "csv flags": ("csv", csv_flags()),
    "color_masks": ("color_masks", color_masks()),
    "split folders": ("split", split_folders()),
    "split masks": ("split", split_masks()),
}
TASKS = {
    "yolo": ["detection"],
    "csv": ["classification"],
    "csv flags": ["classification"],
    "split folders": ["classification"],
    "color_masks": ["segmentation"],
    "split masks": ["segmentation"],
}
options = st.fixed_dictionaries(
    {
        "crowds": st.sampled_from(["crowd", "object"]),
        "link": st.sampled_from(["copy", "hard", "symbolic"]),
        "keep": st.booleans(),
        "near_duplicates": st.sampled_from([None, 8]),
        "val": st.sampled_from([0.25, 0.5]),
    }
)


@pytest.mark.parametrize("name", SETS)
@fuzz(30, st.data())
def test_sets_are_converted_or_refused(name, data):
    source, tree = SETS[name]
    tree = data.draw(hostile_tree(tree))
    task = data.draw(st.sampled_from(TASKS.get(name, ["detection", "segmentation"])))
    settings = data.draw(options)
    with folder() as root:
        write_tree(root / "in", tree)
        before = read_tree(root / "in")
        output = root / "out"

        def convert():
            return converted(source, root / "in", output, task, **settings).was_complete

        error = ends_well(convert, root / "in")
        assert read_tree(root / "in") == before
        if error is None:
            assert (output / conversion.RECORD).is_file()
            assert not list(output.rglob("*.partial"))
            again = ends_well(convert, root)
            assert again is None, again
        else:
            assert [path.name for path in root.iterdir()] == ["in"], error


@pytest.mark.parametrize("name", SETS)
def test_unchanged_sets_are_converted(name):
    source, tree = SETS[name]
    for task in TASKS.get(name, ["detection", "segmentation"]):
        with folder() as root:
            write_tree(root / "in", tree)
            assert not converted(source, root / "in", root / "out", task).was_complete
