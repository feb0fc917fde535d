"""Points of the figures in the paper."""

from parcnet_train.report.paper.figures import PAPER_FIGURES
from parcnet_train.report.paper.tables import TABLE_2, TASKS


def test_points_match_table_2():
    for task, figure in PAPER_FIGURES.items():
        metric = TASKS[task][0]
        (baseline,) = (
            row for row in TABLE_2 if row.metric_name == metric and row.columns[0][1] == "Baseline"
        )
        points = {name: numbers for name, *numbers in figure.points}
        assert points["MobileViT-S"] == [baseline.parameters, round(baseline.metric + 1e-9, 1)]
    assert points["ParC-Net-S"] == [5.8, 79.7]


# Copied from the paper, arXiv 2203.03952, Figures 6 (b) and 7 (b): percent of networks that have an
# experiment.
PRINTED = {
    "detection": {
        "MobileNetV2": 22.1,
        "MobileViT-XS": 24.8,
        "ResNet50": 25.2,
        "MobileViT-S": 27.7,
        "ParC-Net-S": 28.8,
    },
    "segmentation": {
        "MobileViT-XXS": 73.6,
        "MobileNetV2": 75.7,
        "MobileViT-XS": 77.1,
        "MobileViT-S": 79.1,
        "ParC-Net-S": 79.7,
    },
}


def test_points_are_as_printed():
    for task, printed in PRINTED.items():
        points = {name: percent for name, _, percent in PAPER_FIGURES[task].points}
        assert {name: points[name] for name in printed} == printed
