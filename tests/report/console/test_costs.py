"""Tables of `action=profile`."""

from parcnet_train.models.profiling.counts import Counts, Stage
from parcnet_train.report.console.costs import differ, print_comparison, print_stages
from parcnet_train.report.paper.comparison import Compared
from parcnet_train.report.paper.tables import TABLES


def cells_of(text):
    lines = [line for line in text.splitlines() if line[:1] == "│"]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def test_every_stage_has_a_row_and_the_whole_comes_last(capsys):
    first = Stage(1234, 2_500_000, "stem", ((1, 8, 4, 4),), 3_000_000, 2**20)
    total = Stage(5678, 5_000_000, "total", ((1, 10),), 4_000_000, None)
    print_stages("a network", [first], total, 3 * 2**20)
    out = capsys.readouterr().out
    assert cells_of(out) == [
        ["stem", "1 x 8 x 4 x 4", "1,234", "2.5 M", "3.00 M", "1.0 MiB"],
        ["total", "1 x 10", "5,678", "5.0 M", "4.00 M", ""],
    ]
    assert "the weights take another 3.0 MiB" in out


def test_ours_stand_beside_the_papers(capsys):
    row = TABLES["table2"][6]
    absent = TABLES["table2"][7]
    compared = [Compared(row, Counts(5_037_088, 1_657_000_000)), Compared(absent, None, "-")]
    print_comparison("table2", compared)
    found, missing = cells_of(capsys.readouterr().out)[-2:]
    assert found[:2] == ["7", row.model]
    assert [cell for cell in found if cell in ("5.0 M", "5,037,088", "+0.7 %", "1,657 M")] == [
        "5.0 M",
        "5,037,088",
        "+0.7 %",
        "1,657 M",
    ]
    assert "-" in missing


def test_differences_are_in_percent_of_the_papers():
    assert [differ(101, 100), differ(50, 100)] == ["+1.0 %", "-50.0 %"]
