"""Comparison of runs: rows of Table 2, and other runs."""

import pytest

from parcnet_train.errors import ConfigError
from reporting import BASELINE, BETTER, of_row, report
from run_folders import provenance_of, results_of, write_row, write_run


def test_mixed_recipes_are_flagged_in_all_formats(tmp_path, capsys):
    write_row(tmp_path / "runs", 1, BASELINE[:2], {"lr": 0.004})
    write_row(tmp_path / "runs", 7, BETTER[:2], {"packages": {"torch": "2.11.0"}})
    results, rows = report(tmp_path / "runs", tmp_path / "report")
    why = "recipe.optimizer.lr: 0.004 (row 1), 0.002 (row 7)"
    assert results["mixed"] == ["classification"]
    assert (of_row(rows, 7)["mixed_recipes"], of_row(rows, 7)["differs"]) == ("True", why)
    assert of_row(rows, 8)["mixed_recipes"] == "False"
    shown = capsys.readouterr().out
    for text in (
        shown,
        (tmp_path / "report" / "table.md").read_text(),
        (tmp_path / "report" / "compare.html").read_text(),
    ):
        assert "MIXED RECIPES" in text
        assert why in text
        assert "packages.torch: 2.13.0 (row 1), 2.11.0 (row 7)" in text
    assert text.index("MIXED RECIPES") < text.index("Table 2, detection")


def test_other_runs_are_grouped_by_configuration(tmp_path):
    for name, lr, seed in (("a", 0.1, 0), ("b", 0.1, 1), ("c", 0.2, 0), ("d", 0.2, 0)):
        told = provenance_of(seed, lr=lr)
        results = results_of(7, seed, 0.5, ablation=None)
        write_run(tmp_path / "runs" / name, results, told, ended=ord(name))
    for name in ("best", "last"):
        results = results_of(7, 0, 0.5, action="test", checkpoint=name)
        write_run(tmp_path / "runs" / name, results)
    results, rows = report(tmp_path / "runs", tmp_path / "report")
    assert [(row["differs"], row["n"]) for row in rows] == [
        ("recipe.optimizer.lr=0.1", "2"),
        ("recipe.optimizer.lr=0.2", "1"),
        ("checkpoint=best", "1"),
        ("checkpoint=last", "1"),
    ]
    (line,) = results["superseded"]
    assert "recipe.optimizer.lr=0.2, seed 0: 2 runs of one configuration" in line
    assert "d, not c" in line


@pytest.fixture
def two_sets(tmp_path):
    """Runs of two data sets: a baseline in one of them, three seeds each."""
    for row, data, metrics in (
        (1, "imagefolder", BASELINE),
        (7, "imagefolder", BETTER),
        (7, "demo", BETTER),
    ):
        write_row(tmp_path / "runs" / data, row, metrics, ablation=None, data=data)
    return tmp_path


def test_other_runs_are_compared_with_a_baseline_on_the_same_data(two_sets, capsys):
    _, rows = report(two_sets / "runs", two_sets / "report", "mobilevit_s")
    found = {(row["name"].split("backbone=")[1], row["verdict"]): row for row in rows}
    same = {"imagefolder": "higher", "demo": "baseline not run"}
    for (name, verdict), row in found.items():
        is_baseline = name.startswith("mobilevit_s")
        data = name.split("data=")[1].split()[0]
        assert verdict == ("baseline" if is_baseline else same[data])
        assert (row["difference"] != "") == (verdict == "higher")
    (higher,) = (row for row in rows if row["verdict"] == "higher")
    # The seeds differ by 10, 10 and 10.5 points.
    assert float(higher["difference"]) == pytest.approx(30.5 / 3)
    assert higher["shared_seeds"] == "0 1 2"
    for name in ("table.md", "compare.html"):
        text = (two_sets / "report" / name).read_text()
        assert "difference to baseline" in text
        assert "relative to the baseline on the same data" in text
    assert "difference to baseline" in capsys.readouterr().out


def test_a_baseline_must_be_one_group_of_runs(two_sets):
    with pytest.raises(
        ConfigError, match=r"^report\.baseline=resnet50: no run .* Fix: name one of .*"
    ):
        report(two_sets / "runs", two_sets / "report", "resnet50")
    again = provenance_of(0, lr=0.5)
    results = results_of(1, 0, 0.5, ablation=None, data="imagefolder")
    write_run(two_sets / "runs" / "again", results, again)
    with pytest.raises(ConfigError, match=r"^report\.baseline=mobilevit_s: several groups of runs"):
        report(two_sets / "runs", two_sets / "report", "mobilevit_s")


def test_rows_of_table_2_need_no_baseline(tmp_path):
    write_row(tmp_path / "runs", 1, BASELINE)
    with pytest.raises(
        ConfigError, match=r"^report\.baseline=mobilevit_s: all runs are rows of .* Fix"
    ):
        report(tmp_path / "runs", tmp_path / "report", "mobilevit_s")
