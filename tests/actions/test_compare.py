"""`action=compare`: what it says of made-up runs, in all formats."""

import re
import statistics
import subprocess
import sys

import pytest

from reporting import BASELINE, BETTER
from run_folders import results_of, write_row, write_run
from running import configure, run


def test_results_name_everything(made_report):
    output, results, _ = made_report
    assert (results["rows"], results["runs"], results["others"]) == ([1, 4, 7, 9], 12, 1)
    assert results["mixed"] == []
    assert results["left_out"] == ["bad: results.json is not valid JSON"]
    assert len(results["superseded"]) == 1
    assert results["table2/row7/mean"] == pytest.approx(100 * statistics.fmean(BETTER))
    assert (results["table2/row7/n"], results["table2/row7/verdict"]) == (3, "higher")
    assert results["table2/row9/std"] is None
    files = [results[f"table_{kind}"] for kind in ("md", "csv")] + [results["compare_html"]]
    files += results["figures"]
    assert {str(path) for path in output.iterdir()} == {*files, str(output / "results.json")}


def test_neither_data_nor_weights_are_needed(tmp_path):
    overrides = ["action=compare", f"report.runs={tmp_path}", "data=imagenet"]
    assert configure([*overrides, "backbone.pretrained=/nowhere"])[1] == []
    (fault,) = configure([*overrides, "ckpt=last"])[1]
    assert fault.startswith("ckpt=last: action=compare does not read a checkpoint")


def test_runs_of_no_row_of_table_2_have_no_legend_of_it(tmp_path):
    write_row(tmp_path / "runs", 1, [0.5, 0.75], ablation=None)
    folder = tmp_path / "out"
    run(["action=compare", f"report.runs={tmp_path / 'runs'}"], folder)
    for name in ("compare.html", "table.md"):
        text = (folder / name).read_text()
        assert "2 runs" in text
        assert str(tmp_path) not in text.partition("</h1>")[0]
        assert "first row of the table" not in text


def test_trainings_that_ended_early_are_named(tmp_path, capsys):
    reason = "callbacks.pruning: MedianPruner ended the trial at validation 1, with val/top1 0.1"
    write_run(tmp_path / "runs" / "whole", results_of(1, 0, 0.5, stopped=None))
    write_run(tmp_path / "runs" / "early", results_of(1, 1, 0.1, stopped=reason, pruned=True))
    folder = tmp_path / "out"
    run(["action=compare", f"report.runs={tmp_path / 'runs'}"], folder)
    page, table = ((folder / name).read_text() for name in ("compare.html", "table.md"))
    assert "Ended before their last epoch:" in page
    assert page.count(reason) == capsys.readouterr().out.count(f"  early: {reason}\n") == 1
    assert f"- early: {reason}\n" in table
    assert "- whole: " not in table


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
    write_row(tmp_path / "runs", 1, BASELINE)
    command = [sys.executable, "-m", "parcnet_train", "action=compare"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Table 2, segmentation" not in done.stdout  # nothing of it was run
    assert re.search(r"│ +1 │ Baseline .*│ 51.00 ± 1.00 │ 3 │ +│ baseline +│", done.stdout)
    (folder,) = (tmp_path / "runs" / "compare").iterdir()
    assert (folder / "compare.html").is_file()
