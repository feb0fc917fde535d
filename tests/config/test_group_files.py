"""Values of the files of `conf/`, read without Hydra."""

import pytest

from parcnet_train.config.compose import CONF, compose_plain
from parcnet_train.config.group_files import files_of, summary_of, values_of_file
from parcnet_train.config.keys import flatten


@pytest.mark.parametrize(
    ("group", "choice"),
    [("backbone", "parc_resnet50"), ("recipe", "coco_200e_released"), ("data", "huggingface")],
)
def test_files_have_the_values_that_hydra_composes(group, choice):
    task = "detection" if group == "recipe" else "classification"
    composed = flatten(compose_plain([f"task={task}", f"{group}={choice}"]).values[group])
    read = flatten(values_of_file(CONF / group / f"{choice}.yaml"))
    plain = {key: value for key, value in read.items() if "${" not in str(value) and value != "???"}
    assert len(plain) > 5
    assert plain == {key: composed[key] for key in plain}


def test_what_is_chosen_without_an_override_comes_first():
    assert [file.stem for file in files_of(CONF, "data")][:2] == ["demo", "demo_detection"]
    assert files_of(CONF, "backbone")[0].stem == "parcnet_s"


def test_numbers_in_names_are_sorted_as_numbers():
    names = [file.stem for file in files_of(CONF, "ablation") if "table2" in file.stem]
    assert names == [f"table2_row{number}" for number in range(1, 14)]


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("# @package _global_\n# One,\n# two. Three.\n#   python\na: 1 # four\n", "One, two."),
        ("# Version 1.5 of it\na: 1\n", "Version 1.5 of it"),
        ("a: 1\n", ""),
    ],
)
def test_a_file_is_described_by_the_first_sentence_of_its_comment(text, summary, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    assert summary_of(tmp_path / "a.yaml") == summary
