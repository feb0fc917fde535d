"""The scripts beside exported files give the answers of `action=predict`, without this package."""

import itertools

import pytest

from standalone import assert_equal_to_predict, exported, pictures

SIZES = ((64, 64), (96, 64))
TASKS = ("classification", "detection", "segmentation")
FORMS = ("onnx", "openvino", "mnn")

SAMPLE = [
    ("onnx", "parcnet_xs", "detection", SIZES[0], None),
    ("openvino", "mobilevit_xxs", "segmentation", SIZES[1], {"evaluation": "keep_aspect"}),
    ("mnn", "parcnet_xs", "classification", SIZES[1], None),
    ("openvino", "parcnet_xs", "detection", SIZES[1], {"keep_aspect": True}),
    ("onnx", "parcnet_xs", "segmentation", SIZES[0], {"evaluation": "windows"}),
]


@pytest.mark.parametrize(("form", "backbone", "task", "size", "data"), SAMPLE)
def test_a_script_answers_as_predict_does(form, backbone, task, size, data, tmp_path):
    made = exported(form, backbone, task, size, tmp_path, data)
    assert_equal_to_predict(made, task, pictures(tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "backbone", "task", "size"),
    list(itertools.product(FORMS, ("parcnet_xs", "mobilevit_xxs"), TASKS, SIZES)),
)
def test_every_script_answers_as_predict_does(form, backbone, task, size, tmp_path):
    made = exported(form, backbone, task, size, tmp_path)
    assert_equal_to_predict(made, task, pictures(tmp_path), tmp_path)
