"""Every row of the paper's tables and figures can be checked, trained and evaluated."""

import math
import shutil

import pytest

from running import configure, run
from test_experiments import COMPARED, experiment_of

DEMO = {"imagenet": "demo", "coco": "demo_detection", "voc": "demo_segmentation"}
METRICS = {"imagenet": "val/top1", "coco": "val/map", "voc": "val/miou"}
ROWS = sorted({experiment_of(row) for row in COMPARED})


def tiny(experiment, size):
    """The overrides of a training of two steps on the demonstration data."""
    data = DEMO[experiment.partition("_")[0]]
    chosen = [f"experiment={experiment}", f"data={data}", "recipe.multi_scale=null", "debug=tiny"]
    return [*chosen, f"recipe.image_size={size}"]


def smallest_size(experiment):
    """64 pixels, or the only size that the network takes."""
    faults = configure(tiny(experiment, 64))[1]
    only = [fault.rpartition("Fix: recipe.image_size=")[2] for fault in faults]
    return only[0] if only else "64"


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ROWS)
def test_every_row_is_checked_trained_and_evaluated(experiment, tmp_path):
    overrides = tiny(experiment, smallest_size(experiment))
    assert configure([*overrides, "action=check"])[1] == []
    results = run(overrides, tmp_path)
    assert results["steps"] == 2
    metric = results[METRICS[experiment.partition("_")[0]]]
    assert math.isfinite(metric)
    shutil.rmtree(tmp_path / "checkpoints")  # those of all rows would fill 25 GB


def test_sizes_of_rows_follow_from_the_networks():
    assert smallest_size("imagenet_deit_tiny") == "224"
    assert smallest_size("imagenet_mobilenetv3") == "64"
