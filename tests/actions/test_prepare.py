"""`action=prepare`, as a command and as a whole."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as outlines
from pycocotools.coco import COCO

import parcnet_train
from documentation import DOCS
from parcnet_train.build import build_data
from parcnet_train.errors import ConfigError, DataError
from preparing import COLORS, boxed, document, picture, text
from running import TINY, composed, configure, run

CODE = """
import sys
from parcnet_train.__main__ import main
sys.argv = ["parcnet_train", *sys.argv[1:]]
main()
print("torch" in sys.modules)
"""


def class_folders(root, count=8):
    for number in range(count):
        picture(root / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    return root


def overrides(source, path, output, *more):
    return [
        "action=prepare",
        f"prepare.source={source}",
        f"prepare.input={path}",
        f"prepare.output={output}",
        *more,
    ]


def test_results_and_the_command_to_train(tmp_path, capsys):
    class_folders(tmp_path / "pets")
    output = tmp_path / "out"
    results = run(
        overrides("split", tmp_path / "pets", output, "prepare.split.val=0.25"), tmp_path / "run"
    )
    assert results["prepare/task"] == "classification"
    assert results["prepare/images/train"] == 6
    assert results["prepare/images/val"] == 2
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    said = capsys.readouterr().out
    assert "train images" in said
    assert said.splitlines()[-1] == (
        "python -m parcnet_train task=classification data=imagefolder "
        f"data.root={output} recipe=finetune"
    )


def test_unusual_paths_are_quoted(tmp_path, capsys):
    class_folders(tmp_path / "pets")
    output = str(tmp_path / "my pets")
    run(overrides("split", tmp_path / "pets", f"'{output}'"), tmp_path / "run")
    line = capsys.readouterr().out.splitlines()[-1]
    command = shlex.split(line)
    assert command[-2:] == [f"data.root='{output}'", "recipe=finetune"]
    assert composed(*command[3:])["data"]["root"] == output


def test_classes_from_a_file_and_seed_of_the_run(tmp_path):
    class_folders(tmp_path / "pets", 20)
    text(tmp_path / "names.txt", "dog\ncat\nbird\n")
    sets = []
    for seed in (0, 1):
        more = (f"prepare.classes={tmp_path}/names.txt", f"seed={seed}")
        output = tmp_path / f"out{seed}"
        run(overrides("split", tmp_path / "pets", output, *more), tmp_path / f"run{seed}")
        sets.append(sorted(path.name for path in output.glob("val/*/*")))
    assert sets[0] != sets[1]
    record = json.loads((tmp_path / "out0" / "prepare.json").read_text())
    assert record["classes"] == ["dog", "cat", "bird"]


def test_file_of_classes_that_is_no_text_is_named_by_its_key(tmp_path):
    class_folders(tmp_path / "pets")
    (tmp_path / "names.txt").write_bytes(b"\xff")
    given = overrides(
        "split", tmp_path / "pets", tmp_path / "o", f"prepare.classes={tmp_path}/names.txt"
    )
    with pytest.raises(DataError, match=r"^prepare\.classes: \S+names\.txt is not UTF-8 text"):
        run(given, tmp_path / "run")


def test_official_archives_go_to_their_own_functions(tmp_path):
    for source, words in (
        ("imagenet", "lacks ILSVRC2012_img_train.tar"),
        ("coco", "contains neither annotations_trainval2017.zip"),
        ("voc", "VOCtrainval_11-May-2012.tar does not exist"),
    ):
        with pytest.raises(DataError, match=words):
            run(overrides(source, tmp_path, tmp_path / "out"), tmp_path / f"run_{source}")
    three = f"[{tmp_path},{tmp_path},{tmp_path}]"
    with pytest.raises(ConfigError, match="expected two paths"):
        run(overrides("voc", three, tmp_path / "out"), tmp_path / "run")


def test_command_needs_no_torch_and_reports_faults_in_lines(tmp_path):
    class_folders(tmp_path / "pets")

    def command(*given):
        return subprocess.run(
            [sys.executable, "-c", CODE, *given, f"hydra.run.dir={tmp_path}/run"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = command(*overrides("split", "pets", "out"))
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert (tmp_path / "out" / "prepare.json").is_file()
    done = command(*overrides("yolo", "no", "out", "prepare.link=soft"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: prepare.link=soft: expected one of copy, hard, symbolic",
    ]
    done = command("action=prepare", "prepare.input=no")
    assert [line.split(";")[0] for line in done.stderr.splitlines()] == [
        "error: prepare.source has no value",
        "error: prepare.output has no value",
        "error: prepare.input=no: it does not exist",
    ]


# Sets in the formats of four tools, each from its files to an exported network, by the lines of the
# page. The tests add only what makes a training small.

COUNT = 24
XML = """<annotation><folder>in</folder><filename>{name}.jpg</filename><size><width>64</width>
<height>64</height><depth>3</depth></size><segmented>0</segmented><object><name>{label}</name>
<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin>
<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object></annotation>"""


def drawn(folder, number):
    image, label, box = boxed(number)
    picture(folder / f"{number:02d}.jpg", image=image)
    return f"{number:02d}", label, box


def write_voc_xml(root):
    for number in range(COUNT):
        name, label, (left, top, right, bottom) = drawn(root / "JPEGImages", number)
        box = (left + 1, top + 1, right, bottom)
        text(root / "Annotations" / f"{name}.xml", XML.format(name=name, label=label, box=box))


def write_yolo(root):
    text(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [cat, dog]\n",
    )
    for number in range(COUNT):
        folder = "valid" if number % 4 == 3 else "train"
        name, label, (left, top, right, bottom) = drawn(root / folder / "images", number)
        numbers = (
            (left + right) / 128,
            (top + bottom) / 128,
            (right - left) / 64,
            (bottom - top) / 64,
        )
        line = " ".join(f"{value:.6f}" for value in numbers)
        text(root / folder / "labels" / f"{name}.txt", f"{int(label == 'dog')} {line}\n")


def write_labelme(root):
    for number in range(COUNT):
        name, label, (left, top, right, bottom) = drawn(root, number)
        shape = {
            "label": label,
            "points": [[left, top], [right, top], [right, bottom], [left, bottom]],
            "group_id": None,
            "shape_type": "polygon",
            "flags": {},
        }
        content = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.jpg"}
        content |= {"imageData": None, "imageHeight": 64, "imageWidth": 64}
        document(root / f"{name}.json", content)


def write_cvat_masks(root):
    lines = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in COLORS.items())
    text(root / "labelmap.txt", f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{lines}")
    names = []
    for number in range(COUNT):
        name, label, (left, top, right, bottom) = drawn(root / "JPEGImages", number)
        mask = cv2.rectangle(
            boxed(number)[0] * 0, (left, top), (right - 1, bottom - 1), COLORS[label], cv2.FILLED
        )
        picture(root / "SegmentationClass" / f"{name}.png", image=mask)
        names.append(name)
    text(root / "ImageSets" / "Segmentation" / "default.txt", "".join(f"{n}\n" for n in names))


SETS = {
    "voc_xml": (write_voc_xml, "val/map"),
    "yolo": (write_yolo, "val/map"),
    "labelme": (write_labelme, "val/miou"),
    "color_masks": (write_cvat_masks, "val/miou"),
}
SMALL = (
    "backbone=parcnet_xs",
    "backbone.depths=[1,1,1]",
    "recipe.image_size=64",
    "recipe.batch_size=6",
    "recipe.epochs=2",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
)


def commands_of_page(source):
    """Return the page's commands for a source, each as a list of overrides."""
    text_of = (DOCS / "guides" / "own_data.md").read_text("utf-8")
    block = text_of.split("```")[1]
    first, second, *others = (
        line.split()[3:]
        for line in block.splitlines()
        if line.startswith("python -m parcnet_train")
    )
    pattern = rf"^\|.*\| `(prepare\.source={source}(?: .*)?)` \| `(.*)` \|$"
    added, chosen = re.search(pattern, text_of, re.MULTILINE).groups()
    first = [word for word in first if not word.startswith("prepare.source=")]
    second = [word for word in second if not word.startswith(("task=", "data="))]
    return [[*first, *added.split()], [*second, *chosen.split()], *others]


def test_page_has_commands_for_every_set():
    for source in SETS:
        first, second, *others = commands_of_page(source)
        assert {"action=prepare", f"prepare.source={source}", "prepare.input=SET"} <= {*first}
        assert {"data.root=READY", "recipe=finetune"} <= {*second}
        assert [words[0] for words in others] == ["action=test", "action=export"]


@pytest.mark.slow
@pytest.mark.parametrize("source", SETS)
def test_set_of_a_tool_becomes_an_exported_network(tmp_path, monkeypatch, source):
    write, metric = SETS[source]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "SET")
    first, second, third, fourth = commands_of_page(source)
    prepared = parcnet_train.run(*first)
    assert {*prepared["prepare/command"].split(), "recipe=finetune"} == {*second}
    trained = parcnet_train.run(*second, *SMALL)
    assert 0 <= trained[metric] <= 1
    assert parcnet_train.run(*third)[metric] == pytest.approx(trained[metric], abs=1e-6)
    assert Path(parcnet_train.run(*fourth)["export/file"]).is_file()


def run_lengths(mask, compressed):
    """Return a mask as COCO's run lengths, as text or as numbers."""
    runs = outlines.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": list(mask.shape), "counts": runs["counts"].decode()}
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=2))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0).tolist()}


def write_coco_outlines(root):
    """Write polygons and run lengths that overlap, as Roboflow exports them; cat has id 5."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("valid", 2)):
        images, annotations = [], []
        for number in range(count):
            height, width = 40 + number, 60 - number
            name = f"{split}{number}.png"
            picture(root / split / name, number, (height, width))
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            shapes = [np.zeros((height, width), np.uint8) for _ in range(3)]
            for shape in shapes:
                center, axes = random.integers(8, 38, 2).tolist(), random.integers(5, 14, 2)
                cv2.ellipse(shape, center, axes.tolist(), 30, 0, 360, 1, cv2.FILLED)
            polygons = [(random.random((5, 2)) * (width, height)).ravel().tolist() for _ in "ab"]
            for category, crowd, outline in (
                (5, 0, polygons),
                (2, 0, run_lengths(shapes[0], compressed=True)),
                (5, 0, run_lengths(shapes[1], compressed=False)),
                (2, 1, run_lengths(shapes[2], compressed=False)),
            ):
                known = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append({**known, "segmentation": outline, "iscrowd": crowd})
        content = {"images": images, "annotations": annotations}
        categories = [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}]
        document(root / split / "_annotations.coco.json", {**content, "categories": categories})


def decoded(file):
    """Return the masks of a COCO file as pycocotools decodes them, by the name of the image."""
    coco, masks = COCO(file), {}
    for image in coco.dataset["images"]:
        mask = masks[Path(image["file_name"]).stem] = np.zeros((image["height"], image["width"]))
        for entry in coco.imgToAnns[image["id"]]:
            value = 255 if entry["iscrowd"] else {2: 1, 5: 2}[entry["category_id"]]
            mask[coco.annToMask(entry) == 1] = value
    return masks


@pytest.mark.slow
def test_polygons_and_run_lengths_become_masks_of_a_training(tmp_path):
    source, output = tmp_path / "set", tmp_path / "out"
    write_coco_outlines(source)
    task = "prepare.task=segmentation"
    prepared = run(overrides("coco_export", source, output, task), tmp_path / "prepared")
    training = [
        *prepared["prepare/command"].split(),
        *TINY,
        "trainer=cpu",
        "trainer.limit_train_batches=1",
    ]
    data = build_data(configure(training, tmp_path / "run")[0])
    assert data.class_names == ["background", "dog", "cat"]
    for split, dataset in (("train", data.make_train_set()), ("valid", data.make_val_set())):
        expected = decoded(source / split / "_annotations.coco.json")
        read = {dataset.path(n).stem: dataset.read(n).mask for n in range(len(dataset))}
        assert read.keys() == expected.keys()
        for name, mask in read.items():
            np.testing.assert_array_equal(mask, expected[name])
            assert {0, 1, 2, 255} <= {*mask.ravel().tolist()}
    results = run(training, tmp_path / "run")
    assert results["steps"] == 1
    for name in ("val/miou", "val/iou/dog", "val/iou/cat"):
        assert 0 <= results[name] <= 1
