"""The check of checkpoints and pretrained weights."""

import re
import shutil

import pytest
import torch

from faults import assert_one_is, is_like
from parcnet_train.build import build_data
from parcnet_train.checkpoints.checkpoints import check_same_classes
from parcnet_train.errors import CheckpointError, DataError
from pretraining import MOBILEVIT, tiny_faults
from running import TINY, configure, faults_of


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["action=test"], "ckpt has no value; action=test needs"),
        (["ckpt=nowhere.ckpt"], "ckpt=nowhere.ckpt: … does not exist; … `last`"),
        (
            ["action=profile", "ckpt=last"],
            "ckpt=last: action=profile does not read a checkpoint",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


def test_a_file_that_is_not_there_or_no_checkpoint(tmp_path):
    (fault,) = tiny_faults("backbone.pretrained=/nowhere.ckpt")
    assert is_like(fault, "backbone.pretrained=/nowhere.ckpt: … cannot be read: No such file")
    (fault,) = tiny_faults(f"backbone.pretrained={tmp_path}")
    assert is_like(fault, "directory; expected a checkpoint file … best.ckpt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "bare.pt")
    (fault,) = tiny_faults(f"backbone.pretrained={tmp_path / 'bare.pt'}")
    bare = f"backbone.pretrained={tmp_path / 'bare.pt'}:"
    assert is_like(fault, f"{bare} … not a checkpoint of … scripts/convert_weights.py")
    (fault,) = tiny_faults("backbone.pretrained=3")  # 3 is a path
    assert is_like(fault, "backbone.pretrained=3: … cannot be read: No such file")
    (fault,) = tiny_faults("+backbone.pretraind=a")
    assert fault == "backbone.pretraind: ParCNet has no such argument; did you mean pretrained?"


def test_a_network_that_is_only_counted_needs_no_weights():
    assert tiny_faults("action=profile", "backbone.pretrained=/nowhere.ckpt") == []


def test_another_architecture_is_named_with_every_difference(converted, best):
    first, *lines = tiny_faults(f"backbone.pretrained={converted}")
    held = "task=classification backbone=mobilevit_xxs head=classifier"
    ours = "task=classification backbone=parcnet_xs head=classifier data=demo"
    assert is_like(first, f"backbone.pretrained={converted}: … {held}, … this run has {ours};")
    assert "missing: stages.2.1.blocks.0.mixer.height_first.first.weight" in lines
    assert "unexpected: stages.2.1.blocks.0.qkv.{weight,bias}" in lines
    assert "wrong shape: stages.0.1.expand.conv.weight is 32x16x1x1, expected 64x16x1x1" in lines
    _, *lines = tiny_faults(f"backbone.pretrained={best}", "backbone.stem_kernel=5")
    assert lines == ["wrong shape: stages.0.0.conv.weight is 16x3x3x3, expected 16x3x5x5"]
    first, *_ = tiny_faults(f"backbone.pretrained={best}", "backbone.stem_kernel=5")
    assert first.endswith("Fix: add backbone.stem_kernel=3")
    (fault,) = tiny_faults("action=test", f"ckpt={best}", "backbone.fusion=concat")
    assert fault.endswith("add backbone.fusion=add")
    # A network that refuses its arguments is told once.
    (fault,) = tiny_faults(f"backbone.pretrained={converted}", "backbone.widths=[191,2,2]")
    assert "even numbers" in fault


def test_training_does_not_go_on_from_weights_alone(converted):
    (fault,) = configure([*MOBILEVIT, f"ckpt={converted}"])[1]
    way_out = f"backbone.pretrained={converted} … action=test"
    assert is_like(fault, f"ckpt={converted}: … contains only weights; … {way_out}")


def test_classes_are_compared_before_anything_is_written(converted, best, image_folder):
    overrides = ["data=imagefolder", f"data.root={image_folder}", "action=test"]
    (fault,) = tiny_faults(*overrides, f"ckpt={best}")
    assert is_like(fault, f"ckpt={best}: … has 10 classes, … the data set has 3")
    (fault,) = configure([*MOBILEVIT, *overrides, f"ckpt={converted}"])[1]
    assert is_like(fault, f"ckpt={converted}: … has 1000 classes, … the data set has 3")


def renamed(root, names):
    """Give the class folders of `val` other names, in their order."""
    for folder, name in zip(sorted((root / "val").iterdir()), names, strict=True):
        folder.rename(folder.with_name(name))


def test_evaluated_classes_are_those_of_the_checkpoint(best, image_folder):
    set_of = [*TINY, "data=imagefolder", f"data.root={image_folder}", "action=test"]
    wanted = "task.evaluated_classes=folders"
    renamed(image_folder, ["cow", "3", "7"])
    values, (fault,) = configure([*set_of, f"ckpt={best}", wanted])
    message = "task.evaluated_classes=folders: 1 of 3 class folders … are no class … network: cow;"
    assert is_like(fault, message)
    with pytest.raises(DataError) as caught:  # as the action does
        build_data(values)
    assert str(caught.value) == fault
    (fault,) = faults_of(*set_of, f"ckpt={best}", "task.evaluated_classes=[3,17]")
    assert is_like(fault, "task.evaluated_classes: the network has no class 17; expected … 10 cl")
    (fault,) = faults_of(*set_of, wanted)
    assert is_like(fault, "ckpt has no value; action=test needs")


def test_data_with_some_of_the_classes_name_the_key(best, image_folder):
    set_of = ["data=imagefolder", f"data.root={image_folder}", "action=test", f"ckpt={best}"]
    shutil.rmtree(image_folder / "train")
    renamed(image_folder, ["1", "3", "7"])
    (fault,) = tiny_faults(*set_of)
    assert is_like(fault, "10 classes, … has 3. Fix: … action=test task.evaluated_classes=folders")


def test_numbered_folders_of_unnamed_classes_are_not_taken_in_the_order_of_text(tmp_path):
    checkpoint = {
        "class_names": [str(number) for number in range(11)],
        "names_classes": False,
        "choices": {"task": "classification"},
    }
    check_same_classes(checkpoint, [f"n{number:02}" for number in range(11)], tmp_path)
    numbers = sorted(checkpoint["class_names"])
    assert numbers[:3] == ["0", "1", "10"]
    with pytest.raises(
        CheckpointError, match=r"class '2' that is '10' .*evaluated_classes=folders"
    ):
        check_same_classes(checkpoint, numbers, tmp_path)


def test_columns_of_a_table_are_no_class_folders(best, huggingface_folder):
    (fault,) = tiny_faults(
        *("action=test", f"ckpt={best}", "data=huggingface", f"data.root={huggingface_folder}"),
        "task.evaluated_classes=folders",
    )
    assert is_like(fault, "task.evaluated_classes: HuggingFaceData … Fix: data=imagefolder")


def test_a_checkpoint_of_another_architecture_names_both(trained, tmp_path):
    output, _ = trained
    for overrides in (["action=test"], []):
        _, (message,) = configure([*TINY, "backbone=mobilevit_xxs", *overrides, f"ckpt={output}"])
        assert "the checkpoint has task=classification backbone=parcnet_xs" in message
        assert "this run has task=classification backbone=mobilevit_xxs" in message
        assert "add backbone=parcnet_xs" in message


def test_same_backbone_of_another_size_names_the_weight(trained, tmp_path):
    _, (message,) = configure([*TINY, "backbone.depths=[2,3,2]", f"ckpt={trained[0]}"])
    assert re.search(r"first at .* add backbone\.depths=\[1,1,1\]$", message)
