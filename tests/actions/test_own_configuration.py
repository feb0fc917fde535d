"""`action=test ckpt=RUN` and `action=export ckpt=RUN` need nothing else, for all three tasks."""

import json

import pytest

from running import TINY, run

# By task: where its images are, the size, and settings that are not the defaults.
TASKS = {
    "classification": ("image_folder", [64, 64], ("data=imagefolder", "recipe.multi_scale=null")),
    "detection": (
        "coco_folder",
        [64, 96],
        (
            *("task=detection", "data=coco_format", "data.keep_aspect=true"),
            *("task.score_threshold=0.05", "task.nms_iou=0.3"),
        ),
    ),
    "segmentation": (
        "voc_folder",
        [96, 64],
        (
            *("task=segmentation", "data=voc_format", "data.evaluation=keep_aspect"),
            *("task.enlarge=bilinear", "task.mirror=true"),
        ),
    ),
}


SOME_SLOWLY = [
    "segmentation",
    *(pytest.param(task, marks=pytest.mark.slow) for task in ("classification", "detection")),
]


@pytest.mark.parametrize("task", SOME_SLOWLY)
def test_a_run_is_evaluated_and_exported_as_it_was_trained(task, request, tmp_path):
    fixture, size, overrides = TASKS[task]
    root = request.getfixturevalue(fixture)
    given = f"recipe.image_size=[{size[0]},{size[1]}]"
    run([*TINY, *overrides, given, f"data.root={root}"], tmp_path / "run")
    command = [f"ckpt={tmp_path / 'run'}", "data.num_workers=0"]  # no process is needed to read it
    run(["action=test", *command], tmp_path / "test")
    trained, again = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "test")
    )
    metrics = {name for name in trained if name.startswith("val/")}
    assert len(metrics) > 3
    assert {name: again[name] for name in metrics} == {name: trained[name] for name in metrics}
    groups = ("task", "backbone", "head", "data", "recipe", "seed")
    assert {name: again[name] for name in groups} == {name: trained[name] for name in groups}
    exported = run(["action=export", *command], tmp_path / "export")
    assert exported["export/size"] == size
    (file,) = (tmp_path / "export").glob("*.onnx")
    assert f"{task}-{size[0]}x{size[1]}" in file.name
