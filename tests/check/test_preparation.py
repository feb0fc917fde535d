"""Settings of action=prepare, checked without torch."""

import pytest

from parcnet_train.check.preparation import wrong_prepare
from running import composed


def faults(tmp_path, *overrides):
    usual = (f"prepare.input={tmp_path}", "prepare.output=out", "prepare.source=yolo")
    keys = [each.split("=")[0] for each in overrides]
    kept = [each for each in usual if each.split("=")[0] not in keys]
    config = composed()
    for override in (*kept, *overrides):
        key, _, value = override.partition("=")
        node = config
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = None if value == "null" else float(value) if last == "test" else value
    return list(wrong_prepare(config))


def test_complete_settings_have_no_fault(tmp_path):
    assert faults(tmp_path) == []


CASES = {
    "prepare.source=null": (
        "prepare.source",
        "prepare.source has no value; expected one of imagenet",
    ),
    "prepare.input=null": ("prepare.input", "prepare.input has no value; expected the folder"),
    "prepare.output=null": ("prepare.output", "prepare.output has no value; expected the folder"),
    "prepare.input=no/such": ("prepare.input", "prepare.input=no/such: it does not exist"),
    "prepare.palette=p": ("prepare.palette", "expected prepare.source=color_masks"),
    "prepare.coco=c": ("prepare.coco", "expected prepare.source=voc"),
    "prepare.classes=no.txt": ("prepare.classes", "prepare.classes=no.txt: it does not exist"),
    "prepare.split.test=0.9": ("prepare.split.val", "nothing is left for the training"),
    "prepare.split.group_by=(": ("prepare.split.group_by", "it is not a regular expression"),
}


@pytest.mark.parametrize("override", CASES)
def test_faults_name_the_key_and_the_fix(tmp_path, override):
    key, words = CASES[override]
    (fault,) = faults(tmp_path, override)
    assert fault.key == key
    assert words in fault.message


def test_only_voc_has_two_inputs(tmp_path):
    config = composed()
    config["prepare"] |= {"source": "yolo", "input": [str(tmp_path)] * 2, "output": "out"}
    (fault,) = wrong_prepare(config)
    assert "prepare.source=yolo reads one folder or file" in fault.message
    config["prepare"]["source"] = "voc"
    assert list(wrong_prepare(config)) == []


def test_some_sources_are_folders(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text("")
    (fault,) = faults(tmp_path, f"prepare.input={file}", "prepare.source=voc_xml")
    assert fault.key == "prepare.input"
    assert "it is a file; prepare.source=voc_xml reads a folder" in fault.message
