"""The scripts beside exported files give the answers of `action=predict`, without this package."""

import ast
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch

from lively import lively, used_to_images
from parcnet_train.deploy.exportable import Decoding
from parcnet_train.deploy.standalone.write import write_script, write_timer
from standalone import answers, assert_equal_to_predict, exported, pictures, run_script

SIZES = ((64, 64), (96, 64))
KEEP = {"evaluation": "keep_aspect"}
TASKS = ("classification", "detection", "segmentation")
FORMS = (
    *("onnx", "openvino", "mnn", "ncnn"),
    pytest.param("litert", marks=pytest.mark.runtimes),
    pytest.param("executorch", marks=pytest.mark.runtimes),
)

SAMPLE = [
    ("onnx", "parcnet_xs", "detection", SIZES[0], {}, {"decoding": Decoding()}),
    ("openvino", "mobilevit_xxs", "segmentation", SIZES[1], KEEP, {"argmax": True}),
    ("mnn", "parcnet_xs", "classification", SIZES[1], {}, {"preprocess": True}),
    ("onnx", "parcnet_xs", "segmentation", SIZES[0], {"evaluation": "windows", "channels": 4}, {}),
]
MORE = [
    ("openvino", "parcnet_xs", "detection", SIZES[1], {"keep_aspect": True}, {}),
    ("ncnn", "mobilevit_xxs", "detection", SIZES[1], {"channels": 1}, {}),
]


@pytest.mark.parametrize(
    ("form", "backbone", "task", "size", "data", "options"),
    [*SAMPLE, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE)],
)
def test_a_script_answers_as_predict_does(form, backbone, task, size, data, options, tmp_path):
    made = exported(form, backbone, task, size, tmp_path, data, **options)
    paths = pictures(tmp_path, channels=data.get("channels", 3))
    assert_equal_to_predict(made, task, paths, tmp_path)


def test_joined_modules_define_no_name_twice(tmp_path):
    """The later definition would replace the other one for all modules of a script."""
    about = {"channels": 3, "parcnet_train_version": "1"}
    scripts = [write_timer(tmp_path)]
    scripts += [write_script(tmp_path / "a.onnx", task, {"task": task, **about}) for task in TASKS]
    for script in scripts:
        found = Counter()
        for node in ast.parse(script.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] += 1
            elif isinstance(node, ast.Assign):
                names = (each for target in node.targets for each in ast.walk(target))
                found.update(each.id for each in names if isinstance(each, ast.Name))
        assert len(found) > 10, script
        assert [name for name, count in found.items() if count > 1] == [], script


def test_networks_of_these_tests_see_their_images():
    """Otherwise, images that are prepared wrongly would give the same answers."""
    network = used_to_images(lively("parcnet_xs"), SIZES[0])
    with torch.no_grad():
        logits = network(torch.stack([torch.zeros(3, *SIZES[0]), torch.rand(3, *SIZES[0])]))
    assert (logits[0] - logits[1]).abs().max() > 0.5 * logits.std()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    return exported("onnx", "parcnet_xs", "classification", SIZES[0], folder)


def test_unreadable_images_are_named_and_the_others_answered(classifier, tmp_path):
    good, *_ = pictures(tmp_path, 1)
    names = ("empty.png", "torn.jpg", "array.npy", "archive.npy")
    empty, torn, array, archive = (tmp_path / name for name in names)
    empty.touch()
    torn.write_bytes(b"\xff\xd8torn")
    np.save(array, np.zeros((0, 8, 3), np.uint8))
    archive.write_bytes(b"PK\x03\x04torn")
    unreadable = [empty, torn, array, archive, tmp_path / "missing.jpg"]
    finished = run_script(classifier.script, [*unreadable, good], folder=tmp_path)
    assert finished.returncode == 1
    (answer,) = finished.stdout.splitlines()
    assert json.loads(answer)["file"] == str(good)
    errors = finished.stderr.splitlines()
    for path in unreadable:
        assert any(line.startswith(f"error: {path}: ") for line in errors), path
    assert "Traceback" not in finished.stderr


def test_a_missing_file_is_one_line(classifier, tmp_path):
    finished = run_script(classifier.script, ["a.jpg", "--file", "none.onnx"], folder=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: none.onnx does not exist. Fix: ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--threads", "0"], "argument --threads: 0: expected at least 1"),
        (["--threads", "100000"], "argument --threads: 100000: this machine has "),
        (["--top", "-1"], "argument --top: -1: expected at least 1"),
        (["--file", "broken.onnx"], "error: broken.onnx cannot be opened: "),
        (["empty"], "empty: this folder has no image; expected files in .bmp .jpeg"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line(arguments, problem, classifier, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    named = [] if arguments == ["empty"] else pictures(tmp_path, 1)
    done = run_script(classifier.script, [*named, *arguments], folder=tmp_path)
    assert done.returncode != 0
    assert problem in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_images_of_a_folder_are_answered_in_order(classifier, tmp_path):
    (tmp_path / "images" / "more").mkdir(parents=True)
    paths = sorted([*pictures(tmp_path / "images", 3), *pictures(tmp_path / "images" / "more", 1)])
    (tmp_path / "images" / "notes.txt").write_text("no image")
    done = run_script(classifier.script, [tmp_path / "images"], folder=tmp_path)
    assert done.returncode == 0
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == list(map(str, paths))


def test_masks_do_not_replace_images(tmp_path):
    made = exported("onnx", "mobilenetv2", "segmentation", (64, 64), tmp_path)
    image = next(path for path in pictures(tmp_path, 2) if path.suffix == ".png")
    before = image.read_bytes()
    done = run_script(made.script, [image, "--output", tmp_path], folder=tmp_path)
    assert done.returncode == 1
    assert "the mask would replace " in done.stderr
    assert image.read_bytes() == before


def test_masks_of_equal_names_do_not_overwrite_each_other(tmp_path):
    made = exported("onnx", "parcnet_xs", "segmentation", SIZES[0], tmp_path)
    content = pictures(tmp_path, 1)[0].read_bytes()
    paths = [tmp_path / name for name in ("a.jpg", "other/A.jpg", "a_2.jpg")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    found = answers(made.script, paths, folder=tmp_path)
    assert len({each["mask"].casefold() for each in found}) == 3
    assert all((tmp_path / each["mask"]).is_file() for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("backbone", "task", "size"),
    list(itertools.product(("parcnet_xs", "mobilevit_xxs"), TASKS, SIZES)),
)
def test_every_script_answers_as_predict_does(form, backbone, task, size, tmp_path):
    made = exported(form, backbone, task, size, tmp_path)
    assert_equal_to_predict(made, task, pictures(tmp_path), tmp_path)


@pytest.mark.runtimes
@pytest.mark.parametrize(
    ("backbone", "task", "options"),
    [
        ("parcnet_xs", "classification", {"preprocess": True}),
        ("parcnet_xs", "detection", {"preprocess": True, "decoding": Decoding()}),
        ("mobilevit_xxs", "segmentation", {"preprocess": True, "argmax": True}),
    ],
)
def test_scripts_of_litert_feed_pixels(backbone, task, options, tmp_path):
    made = exported("litert", backbone, task, SIZES[1], tmp_path, **options)
    assert_equal_to_predict(made, task, pictures(tmp_path), tmp_path)
