"""A training named after a row of Table 2 has the network of that row."""

import re
from functools import partial

import pytest

import running
from parcnet_train.build import build_model
from parcnet_train.errors import ConfigError
from parcnet_train.report.paper.rows import refuse_other_network


def refuse(config):
    refuse_other_network(config["choices"]["ablation"], partial(build_model, config))


@pytest.mark.parametrize("row", [1, 4, 10, 13])
def test_row_accepts_other_recipes_and_data(row):
    task_data = {10: "demo_detection", 13: "demo_segmentation"}.get(row, "demo")
    overrides = (f"ablation=table2_row{row}", f"data={task_data}", "debug=tiny")
    refuse(running.composed(*overrides))


def test_without_row_every_network_is_accepted():
    refuse(running.composed("backbone=parcnet_xs"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            # Another kernel length changes the multiply-adds, not the rounded parameters.
            ["ablation=table2_row2", "backbone.kernel_share=0.5"],
            "ablation=table2_row2: this network has 4,979,872 parameters and 1,641,512,448 "
            "multiply-adds (1000 classes, 256x256 pixels); expected 5.0 M parameters",
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
def test_row_refuses_another_network(overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        refuse(running.composed(*overrides))


def test_row_is_checked_before_anything_is_read_or_written(tmp_path):
    output = tmp_path / "run"
    overrides = ("ablation=table2_row7", "backbone=parcnet_xs", "debug=tiny")
    with pytest.raises(ConfigError, match="ablation=table2_row7: this network has"):
        running.run((*overrides, f"paths.cache={tmp_path / 'cache'}"), output)
    assert list(output.iterdir()) == []
    assert not (tmp_path / "cache").exists()
