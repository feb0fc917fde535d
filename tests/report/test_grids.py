"""Tables of reports as raw numbers."""

import statistics

import pytest

from parcnet_train.report.grids import change_cell
from parcnet_train.report.paired import Difference
from parcnet_train.report.paper.tables import TABLE_2
from reporting import BETTER, of_row


def test_csv_has_all_rows_of_the_paper_and_unrounded_numbers(made_report):
    _, _, rows = made_report
    assert [row["row"] for row in rows] == [*map(str, range(1, 14)), ""]
    assert [float(row["metric_paper"]) for row in rows[:13]] == [row.metric for row in TABLE_2]
    seventh = of_row(rows, 7)
    assert (seventh["kernel"], seventh["mf"], seventh["pe"]) == ("ParC", "Y", "Y")
    assert float(seventh["metric_mean"]) == pytest.approx(100 * statistics.fmean(BETTER))
    assert float(seventh["metric_std"]) == pytest.approx(100 * statistics.stdev(BETTER))
    assert (seventh["n"], seventh["seeds"], seventh["parameters"]) == ("3", "0 1 2", "5000003")
    assert float(seventh["difference"]) == pytest.approx(61 / 6)
    assert float(seventh["difference_low"]) > 0
    assert (seventh["verdict"], seventh["mixed_recipes"]) == ("higher", "False")
    # Two seeds with equal differences give no estimate of the noise.
    assert of_row(rows, 4)["verdict"] == "not distinguishable from noise"
    assert of_row(rows, 4)["shared_seeds"] == "0 1"
    assert of_row(rows, 1)["verdict"] == "baseline"
    assert (of_row(rows, 2)["verdict"], of_row(rows, 2)["metric_mean"]) == ("not run", "")
    assert (of_row(rows, 9)["verdict"], of_row(rows, 9)["metric_std"]) == ("baseline not run", "")
    assert (rows[-1]["table"], rows[-1]["n"], rows[-1]["metric_mean"]) == ("other", "2", "90.0")


def test_difference_of_one_seed_has_no_interval():
    assert change_cell(Difference(-1.5, None, None, (0,))) == "-1.50"
    assert change_cell(Difference(0.25, -0.125, 0.625, (0, 1, 2))) == "+0.25 [-0.12, +0.62]"
    assert change_cell(None) == ""
