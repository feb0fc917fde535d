"""Comparison of runs: rows of Table 2, and other runs."""

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
