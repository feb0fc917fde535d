"""What an action on a checkpoint takes over from it, and what was typed."""

import logging

import pytest
import torch

from parcnet_train.actions.command import plain_of_job
from parcnet_train.config.compose import choices, compose_config, compose_plain
from parcnet_train.config.stored import read_stored, typed_differences
from parcnet_train.errors import ConfigError
from parcnet_train.runs.releases import OURS
from releasing import change, config_of, release, write_checkpoint
from running import composed, configure

SEGMENTATION = (
    *("task=segmentation", "backbone=parcnet_xs", "data=voc_format", "data.root=streets"),
    *("recipe.image_size=96", "data.evaluation=keep_aspect", "task.enlarge=bilinear", "seed=7"),
    *("trainer.precision=bf16-mixed", "data.num_workers=3", "recipe.batch_size=3"),
)
DETECTION = (
    *("task=detection", "backbone=mobilevit_xs", "data=coco_format", "data.root=cells"),
    *("recipe.image_size=[96,128]", "data.keep_aspect=true", "task.score_threshold=0.2"),
    *("task.nms_iou=0.3", "recipe.ema=null", "head.smallest_anchor=0.2"),
)


@pytest.fixture
def checkpoint(tmp_path):
    """A function that writes a checkpoint without weights, as a run of some overrides has it."""

    def write(*overrides, name="some.ckpt", **changes):
        plain = compose_plain(overrides)
        assert plain.faults == []
        content = {
            **{"state_dict": {}, "class_names": ["a", "b"], "epoch": 0},
            **{"config": plain.values, "choices": plain.values["choices"]},
        }
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**content, **changes}, path)
        return path

    return write


def taken_over(path, *overrides, action="test"):
    """The plain configuration of an action on a checkpoint."""
    plain = compose_plain([f"action={action}", f"ckpt={path}", *overrides])
    assert plain.faults == []
    return plain.values


@pytest.mark.parametrize(
    ("overrides", "action"),
    [
        (SEGMENTATION, "test"),
        (DETECTION, "export"),
        (SEGMENTATION, "average"),
        (DETECTION, "benchmark"),
    ],
    ids=["test", "export", "average", "benchmark"],
)
def test_the_configuration_is_that_of_the_checkpoint(overrides, action, checkpoint):
    trained, found = composed_values(overrides), taken_over(checkpoint(*overrides), action=action)
    for section in ("task", "backbone", "head", "recipe", "seed"):
        assert found[section] == trained[section]
    workers = {"num_workers": 8}  # how to compute is the command line's
    assert found["data"] == {**trained["data"], **workers}
    for group in ("task", "backbone", "head", "data", "recipe"):
        assert found["choices"][group] == trained["choices"][group]
    assert found["trainer"]["precision"] == "auto"
    assert found["action"] == action


def composed_values(overrides):
    return compose_plain(overrides).values


def test_typed_values_win_and_what_follows_them_follows(checkpoint):
    path = checkpoint(*SEGMENTATION)
    found = taken_over(path, "recipe.image_size=64", "task.enlarge=nearest", "data.root=other")
    assert found["recipe"]["image_size"] == found["data"]["image_size"] == 64
    assert found["task"]["enlarge"] == "nearest"
    assert found["data"]["root"] == "other"
    assert found["data"]["evaluation"] == "keep_aspect"  # not typed


def test_a_value_apart_from_its_interpolation_stays_apart(checkpoint):
    path = checkpoint(*SEGMENTATION, "data.batch_size=5")
    found = taken_over(path, "recipe.batch_size=2")
    assert (found["recipe"]["batch_size"], found["data"]["batch_size"]) == (2, 5)


def test_demonstration_data_are_looked_for_where_this_machine_has_them(checkpoint):
    path = checkpoint("backbone=parcnet_xs", "paths.cache=/there")
    assert taken_over(path, "paths.cache=/here")["data"]["root"] == "/here/digits"


def test_what_was_typed_and_differs_is_told_once_each(checkpoint):
    path = checkpoint(*SEGMENTATION)
    typed = [
        *("recipe.image_size=64", "task.enlarge=bilinear", "data.num_workers=1"),
        *("data.root=other", "recipe.batch_size=2", "trainer.precision=32-true"),
    ]
    lines = typed_differences(taken_over(path, *typed), read_stored(str(path)), typed)
    assert [line.split()[0] for line in lines] == ["data.root=other", "recipe.image_size=64"]
    assert "streets" in lines[0]
    assert "96" in lines[1]


def test_a_job_logs_what_differs(checkpoint, tmp_path, caplog):
    path = checkpoint(*SEGMENTATION)
    typed = ["action=test", f"ckpt={path}", "task.enlarge=nearest", "recipe.image_size=64"]
    groups = ["task=segmentation", "data=voc_format"]  # as the entry adds them
    overrides = [*groups, *typed]
    config, faults = compose_config(overrides)
    assert faults == []
    config.hydra.runtime.output_dir = str(tmp_path)
    with caplog.at_level(logging.WARNING):
        plain = plain_of_job(config, config.hydra)
    assert plain.values["paths"]["output"] == str(tmp_path)
    size, line = caplog.messages
    assert size.startswith("recipe.image_size=64")
    assert line.startswith("task.enlarge=nearest")
    assert "bilinear" in line


def test_another_typed_group_replaces_its_section(checkpoint):
    path = checkpoint("backbone=parcnet_xs", "recipe.image_size=96")
    typed = ["data=imagefolder", "data.root=flowers"]
    found = taken_over(path, *typed)
    assert found["data"]["root"] == "flowers"
    assert found["data"]["num_classes"] is None
    assert found["data"]["image_size"] == 96
    assert found["choices"]["data"] == "imagefolder"
    assert found["recipe"]["epochs"] == 8  # the demonstration's
    lines = typed_differences(found, read_stored(str(path)), typed)
    assert any(line.startswith("data.root=flowers") for line in lines)


def test_the_group_that_the_checkpoint_has_keeps_its_values(checkpoint):
    path = checkpoint(*DETECTION)
    found = taken_over(path, "task=detection", "data=coco_format", "backbone=mobilevit_xs")
    assert found["data"]["keep_aspect"] is True
    assert found["task"]["nms_iou"] == 0.3


def test_a_typed_debug_config_has_its_values(checkpoint):
    path = checkpoint("backbone=parcnet_xs", "recipe.image_size=96", "recipe.label_smoothing=0.3")
    found = taken_over(path, "debug=tiny")
    assert found["recipe"]["image_size"] == 64
    assert found["trainer"]["limit_val_batches"] == 2
    assert found["recipe"]["label_smoothing"] == 0.3


def test_a_typed_experiment_names_all_parts(checkpoint):
    path = checkpoint("backbone=parcnet_xs", "recipe.image_size=96")
    found = taken_over(path, "experiment=imagenet_mobilevit_s", "data.root=imagenet")
    assert found["choices"]["backbone"] == "mobilevit_s"
    assert found["choices"]["data"] == "imagenet"


def test_the_experiment_of_a_checkpoint_is_kept(checkpoint):
    path = checkpoint("experiment=coco_parcnet_s", "data.root=coco", "ablation=table2_row10")
    found = taken_over(path)
    assert found["choices"]["experiment"] == "coco_parcnet_s"
    assert found["choices"]["ablation"] == "table2_row10"
    again = taken_over(path, "experiment=coco_parcnet_s", "ablation=table2_row10")
    assert again["recipe"] == found["recipe"]
    assert again["backbone"] == found["backbone"]


def test_a_resumed_training_obeys_the_command_line(checkpoint):
    path = checkpoint("backbone=parcnet_xs", "recipe.image_size=96")
    assert taken_over(path, action="fit")["recipe"]["image_size"] == 32


def test_values_that_came_with_a_version_have_their_defaults(checkpoint):
    plain = compose_plain(SEGMENTATION).values
    del plain["task"]["mirror"]
    plain["recipe"]["old"] = 3
    found = taken_over(checkpoint(*SEGMENTATION, config=plain))
    assert found["task"]["mirror"] is False
    assert found["recipe"]["old"] == 3


@pytest.mark.parametrize(
    ("section", "node"),
    [
        ("data", {"_target_": "logging.FileHandler", "filename": "opened"}),
        (
            "task",
            {"_target_": "parcnet_train.distributed.launch.launch", "command": ["touch", "opened"]},
        ),
        ("task", {"mirror": "${oc.create:{_target_:logging.FileHandler,filename:opened}}"}),
        ("data", {"names": [{"_target_": "logging.FileHandler", "filename": "opened"}]}),
    ],
    ids=str,
)
def test_a_checkpoint_has_nothing_called_that_is_not_ours(
    section, node, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = compose_plain(SEGMENTATION).values
    config[section] = node if "_target_" in node else {**config[section], **node}
    path = checkpoint(*SEGMENTATION, config=config)
    with pytest.raises(
        ConfigError, match=rf"ckpt=.*some\.ckpt: its {section}.*expected a class of"
    ):
        taken_over(path)
    assert not (tmp_path / "opened").exists()


def test_transforms_of_ones_own_are_left_out(checkpoint):
    config = compose_plain(["backbone=parcnet_xs"]).values
    for section in ("recipe", "data"):
        config[section]["augmentation"]["extra"] = [{"_target_": "mine.Rain", "p": 0.1}]
    found = taken_over(checkpoint("backbone=parcnet_xs", config=config))
    assert found["recipe"]["augmentation"]["extra"] == []
    assert found["data"]["augmentation"]["extra"] == []


def test_an_optimizer_of_ones_own_is_no_hindrance(checkpoint):
    config = compose_plain(["backbone=parcnet_xs"]).values
    config["recipe"]["optimizer"] = {"_target_": "mine.Lion", "lr": 0.1}
    found = taken_over(checkpoint("backbone=parcnet_xs", config=config))
    assert found["recipe"]["optimizer"]["_target_"] == "torch.optim.AdamW"


def test_a_class_that_was_typed_is_trusted(checkpoint):
    config = compose_plain(SEGMENTATION).values
    config["data"]["_target_"] = "mine.Streets"
    path = checkpoint(*SEGMENTATION, config=config)
    typed = "data._target_=mine.Streets"
    assert taken_over(path, typed)["data"]["_target_"] == "mine.Streets"


def test_sizes_of_a_benchmark_are_those_of_its_checkpoint(checkpoint):
    from parcnet_train.build import benchmarked_size

    found = taken_over(checkpoint(*DETECTION), action="benchmark")
    assert benchmarked_size(found) == ("recipe.image_size", [96, 128])
    typed = taken_over(checkpoint(*DETECTION), "benchmark.image_size=64", action="benchmark")
    assert benchmarked_size(typed) == ("benchmark.image_size", 64)
    without = composed("action=benchmark")
    assert benchmarked_size(without) == ("benchmark.image_size", 256)


@pytest.fixture
def three_runs(checkpoint, tmp_path):
    """Runs of two tasks, the newest one first by name."""
    runs = {
        "segmentation/parcnet_xs-voc_format/2024-01-03_00-00-00": SEGMENTATION,
        "detection/mobilevit_xs-coco_format/2024-01-02_00-00-00": DETECTION,
        "classification/parcnet_xs-demo/2024-01-01_00-00-00": ("backbone=parcnet_xs",),
    }
    for folder, overrides in runs.items():
        for file in ("best", "last"):
            checkpoint(*overrides, name=f"runs/{folder}/checkpoints/{file}.ckpt")
        (tmp_path / "runs" / folder / ".hydra").mkdir()
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("typed", "action", "task"),
    [
        ([], "test", "segmentation"),
        ([], "predict", "segmentation"),
        (["task=detection"], "fit", "detection"),
        (["backbone=mobilevit_xs"], "test", "detection"),
        (["data=demo"], "export", "classification"),
        (["experiment=imagenet_parcnet_s"], "test", None),
    ],
    ids=str,
)
def test_last_is_the_newest_run_of_what_was_typed(typed, task, action, three_runs):
    config, faults = compose_config(
        [f"action={action}", "ckpt=last", f"paths.runs={three_runs}", *typed]
    )
    if task is None:
        assert any("ckpt=last" in f.message and "imagenet" in f.message for f in faults)
        return
    file = "last.ckpt" if action == "fit" else "best.ckpt"
    assert faults == []
    assert config.ckpt.startswith(f"{three_runs}/{task}/")
    assert config.ckpt.endswith(f"/{file}")
    if action == "test":
        assert choices(config.hydra)["task"] == task


def test_a_run_that_is_not_there_is_one_fault(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, faults = configure(["action=test", "ckpt=last", f"paths.runs={tmp_path}"])
    assert len(faults) == 1
    assert "ckpt=last" in faults[0]
    assert str(tmp_path) in faults[0]


def test_a_checkpoint_of_another_task_than_was_typed_is_refused(checkpoint):
    path = checkpoint(*DETECTION)
    _, faults = configure(["action=test", "task=segmentation", f"ckpt={path}"])
    assert any("task=detection" in fault and str(path) in fault for fault in faults)


def test_a_release_is_read_again_when_only_its_configuration_changed(tmp_path):
    path = write_checkpoint(tmp_path / "a.ckpt", "classification", "recipe.image_size=32")
    _, folder = release(path, tmp_path / "run")
    assert read_stored(str(folder)).config["seed"] != 123456
    config = config_of(folder)[OURS]["config"]
    change(folder, config={**config, "seed": 123456})
    assert read_stored(str(folder)).config["seed"] == 123456
