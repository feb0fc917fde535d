"""A row of Table 2 is trained as its network, or not under its name."""

import re

import pytest

import running
from parcnet_train.errors import ConfigError
from parcnet_train.report.paper.rows import refuse_other_network


@pytest.mark.parametrize("row", [1, 4, 10, 13])
def test_a_row_with_another_recipe_and_other_data_is_that_row(row):
    task_data = {10: "demo_detection", 13: "demo_segmentation"}.get(row, "demo")
    overrides = (f"ablation=table2_row{row}", f"data={task_data}", "debug=tiny")
    refuse_other_network(running.composed(*overrides))


def test_without_a_row_any_network_is_trained():
    refuse_other_network(running.composed("backbone=parcnet_xs"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            # A kernel of another length changes the cost, not what rounds to 5.0 million.
            ["ablation=table2_row2", "backbone.kernel_share=0.5"],
            "ablation=table2_row2: this network has 4,979,872 parameters and 1,641,512,448 "
            "multiply-adds (1000 classes, 256x256 pixels); the paper prints 5.0 M parameters in "
            "that row, which has 1,632,878,080 multiply-adds. Leave out what changes backbone, "
            "head or task, or leave out ablation=table2_row2",
        ),
        (["ablation=table2_row7", "backbone=parcnet_xs"], "has 2,185,384 parameters"),
        (
            ["ablation=table2_row13", "backbone.output_stride=8"],
            "has 5,816,397 parameters and ",
        ),
        (
            ["ablation=table2_row10", "backbone.kernel_resize=crop"],
            "ablation=table2_row10: this network does not run on the paper's images of 320x320 "
            "pixels (backbone.kernel_resize=crop: a feature map of 40 pixels is longer than the",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_another_network_is_not_trained_under_the_name_of_a_row(overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        refuse_other_network(running.composed(*overrides))


def test_it_is_refused_before_data_are_read_and_anything_is_written(tmp_path):
    output = tmp_path / "run"
    overrides = ("ablation=table2_row7", "backbone=parcnet_xs", "debug=tiny")
    with pytest.raises(ConfigError, match="ablation=table2_row7: this network has"):
        running.run((*overrides, f"paths.cache={tmp_path / 'cache'}"), output)
    assert list(output.iterdir()) == []
    assert not (tmp_path / "cache").exists()
