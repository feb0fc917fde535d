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
