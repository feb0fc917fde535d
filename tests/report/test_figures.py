"""Figures of reports."""

import re

import cv2
import numpy as np

from parcnet_train.report.paper.tables import TASKS
from reporting import BASELINE, PNG, report
from run_folders import write_row


def test_figures_exist_for_all_tasks_with_runs(made_report):
    sizes = {path.name: cv2.imread(str(path)).shape for path in made_report[0].glob("*.png")}
    assert set(sizes) == {
        *(f"accuracy_{task}.png" for task in TASKS),
        "curves_classification.png",
        "curves_detection.png",
    }
    # Each of our data sets has its own panel.
    widths = [sizes[f"accuracy_{task}.png"][1] for task in TASKS]
    assert widths == [3 * 840, 2 * 840, 840]
    curves = cv2.imread(str(made_report[0] / "curves_detection.png"))
    assert np.ptp(curves.reshape(-1, 3), axis=1).max() > 100


def test_unreadable_curves_give_a_warning(tmp_path, caplog):
    write_row(tmp_path / "runs", 1, BASELINE)
    path = tmp_path / "runs" / "row1-1" / "csv" / "version_0" / "metrics.csv"
    path.write_text("epoch,step,val/top1\n0,zero,0.5\n")
    report(tmp_path / "runs", tmp_path / "report")
    assert re.search("row1-1: .*csv/ cannot be read", caplog.text)
    assert (tmp_path / "report" / "curves_classification.png").read_bytes().startswith(PNG)
