"""`action=profile`: what it prints and leaves, and that every key is documented."""

import json
import re
import sys

from torch import nn

from documentation import RESULTS
from parcnet_train.actions import profile
from parcnet_train.benchmarks import operator
from parcnet_train.build import build_model, meta_device
from parcnet_train.report.paper.comparison import Compared, compare
from running import configure, run


def is_documented(key):
    """Whether the page has a key, whose changing parts are named there."""
    key = re.sub(r"^stage/[^/]+/", "stage/<name>/", key)
    key = re.sub(r"^table\d/row\d+/", "<table>/row<n>/", key)
    speed = r"(milliseconds|milliseconds_min|milliseconds_max|ratio)$"
    key = re.sub(
        r"^operator/\d+x\d+x\d+x\d+/\w+/\w+/\w+/\w+/\w+/" + speed,
        r"operator/<shape>/<layout>/<dtype>/<axis>/<pass>/<algorithm>/\1",
        key,
    )
    key = re.sub(
        r"^train_step/[^/]+/\w+/\w+/" + speed,
        r"train_step/<network>/<layout>/<dtype>/\1",
        key,
    )
    return f"`{key}`" in RESULTS


def test_a_composed_network(tmp_path, capsys):
    overrides = ["action=profile", "backbone=parcnet_s", "data=imagenet"]
    results = run(overrides, tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["parameters"] == 5_037_088
    assert results["weight_bytes"] == 4 * 5_037_088 + statistics_of(network("parcnet_s"))
    assert round(results["multiply_adds"] / 1e6) == 1657
    assert (results["image_size"], results["batch_size"]) == ([256, 256], 1)
    assert (results["backbone"], results["num_classes"]) == ("parcnet_s", 1000)
    # Of the authors' implementation: conv_1 and layer_1, layer_2 to layer_5, the classifier.
    parameters = [464 + 3968, 86_528, 594_800, 1_587_456, 2_019_192, 103_680 + 641_000]
    names = ["1", "2", "3", "4", "5", "head"]
    assert [results[f"stage/{name}/parameters"] for name in names] == parameters
    assert results["stage/3/output_shapes"] == [[1, 96, 32, 32]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json"]
    out = capsys.readouterr().out
    assert "parcnet_s, 1 x 3 x 256 x 256, 1000 classes" in out
    assert re.search(r"total .*1 x 1000 .*5,037,088 .*1,657.3 M", out)
    assert "19.3 MiB" in out


def network(backbone):
    values, _ = configure([f"backbone={backbone}"])
    with meta_device():
        return build_model(values, 1000)


def statistics_of(model):
    """Bytes of a mean and a variance per channel of every BatchNorm, and of its counter."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return sum(2 * 4 * norm.num_features + 8 for norm in norms)


def test_size_batch_and_classes(tmp_path):
    overrides = ["action=profile", "backbone=mobilevit_xxs", "profile.image_size=[64,96]"]
    overrides += ["profile.batch_size=3", "profile.num_classes=7"]
    results = run(overrides, tmp_path)
    assert results["stage/head/output_shapes"] == [[3, 7]]
    assert results["stage/5/output_shapes"] == [[3, 80, 2, 3]]
    assert results["image_size"] == [64, 96]


def test_a_detector(tmp_path):
    overrides = ["action=profile", "task=detection", "backbone=parcnet_s"]
    overrides += ["profile.image_size=320", "profile.num_classes=81"]
    results = run(overrides, tmp_path)
    # Authors' implementation.
    assert results["parameters"] == 5_197_282
    assert round(results["multiply_adds"] / 1e6) == 2747
    assert results["stage/head/output_shapes"] == [[1, 3232, 81], [1, 3232, 4], [3232, 4]]


def count_only(monkeypatch, *numbers):
    """Counts a few rows of a table; tests/report/paper/test_comparison.py counts them all."""

    def compare_few(rows):
        left_out = (Compared(row, None, "not counted") for row in rows)
        return [compare([e.row])[0] if e.row.number in numbers else e for e in left_out]

    monkeypatch.setattr(profile, "compare", compare_few)


def test_a_network_for_segmentation(tmp_path):
    overrides = ["action=profile", "task=segmentation", "backbone=parcnet_s"]
    overrides += ["profile.image_size=512", "profile.num_classes=21"]
    results = run(overrides, tmp_path)
    # Authors' implementation.
    assert results["parameters"] == 5_816_397
    assert round(results["multiply_adds"] / 1e6) == 9754
    assert results["stage/5/output_shapes"] == [[1, 160, 32, 32]]
    assert results["stage/head/output_shapes"] == [[1, 21, 512, 512]]


def test_a_comparison(tmp_path, capsys, monkeypatch):
    count_only(monkeypatch, 2, 4, 13)
    results = run(["action=profile", "profile.compare=table2"], tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["table2/row4/parameters"] == 5_321_824
    assert results["table2/row4/parameters_paper"] == 5_300_000
    assert (results["table2/row4/metric"], results["table2/row4/metric_paper"]) == ("val/top1", 76)
    assert results["table2/row13/parameters"] == 5_816_397
    assert results["table2/row13/parameters_paper"] == 5_800_000
    assert len([key for key in results if key.endswith("/parameters")]) == 13
    out = capsys.readouterr().out
    assert len(re.findall(r"^│ +\d+ │", out, re.MULTILINE)) == 13
    assert re.search(
        r"│ +2 │ ParC-Net-S +│ BK 1/4 +│ Y +│ Y +│ N +│ +5.0 M │ +4,961,696 │ +-0.8 %", out
    )
    assert "row 10: Figure 6 prints 28.8" in out


def test_flops_are_compared_as_the_paper_counts_them(tmp_path, capsys, monkeypatch):
    count_only(monkeypatch, 2, 10)
    results = run(["action=profile", "profile.compare=table3"], tmp_path)
    assert results["table3/row2/flops"] == 2 * results["table3/row2/multiply_adds"]
    assert results["table3/row2/flops_paper"] == 3_500_000_000
    assert results["table3/row4/milliseconds_paper"] == 98
    assert results["table3/row10/model"] == "ParC-ConvNext-T (0.5x W)"
    out = capsys.readouterr().out
    assert out.startswith("Paper, Table 3")
    assert re.search(r"│ +2 │.* 3.5 G │ 3.31 G │ -5.3 % │ RK3288 │ 353 ms │ top1 78.6", out)
    assert "row 2: FLOPs are 2 x multiply-adds; channel attention is counted" in out


def test_every_key_is_documented(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    count_only(monkeypatch, 9)
    monkeypatch.setattr(operator, "SHAPES", ((1, 2, 3, 4),))
    fast = ["benchmark.repeats=1", "benchmark.batch_size=2", "benchmark.image_size=32"]
    keys = set()
    for overrides in (
        ["action=profile", "profile.image_size=64"],
        ["action=profile", "profile.compare=table1"],
        ["action=benchmark", *fast],
        ["action=benchmark", "benchmark.target=train_step", *fast],
    ):
        keys |= run(["backbone=mobilevit_xxs", *overrides], tmp_path).keys()
    assert [key for key in sorted(keys) if not is_documented(key)] == []
