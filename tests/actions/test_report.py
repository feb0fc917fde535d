"""`action=report`: what it says of made-up runs, in all formats."""

import csv
import json
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from parcnet_train.actions import report as action
from parcnet_train.report.paper.figures import PAPER_FIGURES
from parcnet_train.report.paper.tables import TABLE_2, TASKS
from run_folders import provenance_of, results_of, write_row, write_run
from running import configure

PNG = b"\x89PNG\r\n\x1a\n"
BASELINE, BETTER = (0.50, 0.52, 0.51), (0.60, 0.62, 0.615)


def report(folder, output):
    """The action on a folder, and the rows of its CSV table."""
    config = {"action": "report", "paths": {"output": str(output)}, "report": {"runs": str(folder)}}
    results = action.report(config)
    assert results == json.loads((output / "results.json").read_text())
    with (output / "table.csv").open(newline="") as stream:
        return results, list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of four rows, one of them of one seed, and of other runs; its folder too."""
    folder, output = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("report")
    write_row(folder, 1, BASELINE, {})
    write_row(folder, 4, BETTER[:2], {})
    write_row(folder, 7, BETTER, {})
    write_run(folder / "again", results_of(7, 0, 0.1), provenance_of(0), ended=1)
    write_row(folder, 9, (0.25,))
    for seed in (0, 1):
        results = results_of(7, seed, 0.9, backbone="parcnet_xs", ablation=None, data="a|<b>")
        write_run(folder / f"xs{seed}", results)
    write_run(folder / "bad", "{")
    results, rows = report(folder, output)
    return output, results, rows


def of_row(rows, number):
    (row,) = (row for row in rows if row["row"] == str(number))
    return row


def test_csv_has_all_rows_of_the_paper_and_raw_numbers(made):
    _, _, rows = made
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
    # Two seeds whose differences are equal say nothing of noise.
    assert of_row(rows, 4)["verdict"] == "not told apart from noise"
    assert of_row(rows, 4)["shared_seeds"] == "0 1"
    assert of_row(rows, 1)["verdict"] == "baseline"
    assert (of_row(rows, 2)["verdict"], of_row(rows, 2)["metric_mean"]) == ("not run", "")
    assert (of_row(rows, 9)["verdict"], of_row(rows, 9)["metric_std"]) == ("baseline not run", "")
    assert (rows[-1]["table"], rows[-1]["n"], rows[-1]["metric_mean"]) == ("other", "2", "90.0")


def test_markdown_has_a_table_per_task(made):
    text = (made[0] / "table.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        *(f"Table 2, {task}" for task in TASKS),
        "Other runs",
    ]
    assert len(re.findall(r"^\| \d+ \|", text, re.MULTILINE)) == 13
    assert re.search(
        r"^\| 7 \| ParC \| Y \| Y \| Y \| 5.0 M \| 5,000,003 \| 78.63 \| 61.17 ± 1.04 \| 3 \| "
        r"\+10.17 \\\[\+9.45, \+10.88\\\] \| higher \|$",
        text,
        re.MULTILINE,
    )
    assert "| 8 | Baseline | - | - | - | 5.7 M |  | 27.7 | not run | 0 |  |  |" in text
    assert "Ours: data=demo, recipe=imagenet\\_300e, epochs=2. The paper's: ImageNet-1K" in text
    assert "row 7, seed 0: 2 runs of one configuration; the newest counts, row7-0" in text
    assert "bad: results.json is not JSON" in text
    assert "data=a\\|\\<b> " in text
    assert "MIXED" not in text
    for name in re.findall(r"\]\((.*\.png)\)", text):
        assert (made[0] / name).read_bytes().startswith(PNG)


class Cells(HTMLParser):
    """Text of the cells of a page, by row; faults where tags are not closed."""

    def __init__(self):
        super().__init__()
        self.rows, self.open, self.images = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        elif tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_is_one_whole_page_with_the_same_cells(made):
    text = (made[0] / "table.html").read_text()
    page = Cells()
    page.feed(text)
    assert page.open == []
    by_row = {cells[0]: cells for cells in page.rows if cells[0].isdigit()}
    assert len(by_row) == 13
    assert by_row["7"][7:10] == ["78.63", "61.17 ± 1.04", "3"]
    assert by_row["7"][11] == "higher"
    assert "task=classification backbone=parcnet_xs data=a|<b>" in page.rows[-1][0]
    assert len(page.images) == 5
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert "://" not in text
    assert "<b>" not in text


def test_results_name_everything(made):
    output, results, _ = made
    assert (results["rows"], results["runs"], results["others"]) == ([1, 4, 7, 9], 12, 1)
    assert results["mixed"] == []
    assert results["left_out"] == ["bad: results.json is not JSON"]
    assert len(results["superseded"]) == 1
    assert results["table2/row7/mean"] == pytest.approx(100 * statistics.fmean(BETTER))
    assert (results["table2/row7/n"], results["table2/row7/verdict"]) == (3, "higher")
    assert results["table2/row9/std"] is None
    files = [results[f"table_{kind}"] for kind in ("md", "csv", "html")] + results["figures"]
    assert {str(path) for path in output.iterdir()} == {*files, str(output / "results.json")}


def test_figures_show_ours_where_there_are_any(made):
    sizes = {path.name: cv2.imread(str(path)).shape for path in made[0].glob("*.png")}
    assert set(sizes) == {
        *(f"accuracy_{task}.png" for task in TASKS),
        *("curves_classification.png", "curves_detection.png"),
    }
    # A panel of its own for each of our data.
    widths = [sizes[f"accuracy_{task}.png"][1] for task in TASKS]
    assert widths == [3 * 840, 2 * 840, 840]
    curves = cv2.imread(str(made[0] / "curves_detection.png"))
    assert np.ptp(curves.reshape(-1, 3), axis=1).max() > 100


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
        *(shown, (tmp_path / "report" / "table.md").read_text()),
        (tmp_path / "report" / "table.html").read_text(),
    ):
        assert "MIXED RECIPES" in text
        assert why in text
        assert "packages.torch: 2.13.0 (row 1), 2.11.0 (row 7)" in text
    assert text.index("MIXED RECIPES") < text.index("Table 2, detection")


def test_other_runs_are_told_apart_by_what_differs(tmp_path):
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
    assert "the newest counts, d, and not c" in line


def test_curves_that_cannot_be_read_are_named(tmp_path, caplog):
    write_row(tmp_path / "runs", 1, BASELINE)
    path = tmp_path / "runs" / "row1-1" / "csv" / "version_0" / "metrics.csv"
    path.write_text("epoch,step,val/top1\n0,zero,0.5\n")
    report(tmp_path / "runs", tmp_path / "report")
    assert re.search("row1-1: no learning curve, csv/ cannot be read", caplog.text)
    assert (tmp_path / "report" / "curves_classification.png").read_bytes().startswith(PNG)


def test_a_folder_that_is_not_there_is_a_fault():
    _, faults = configure(["action=report", "report.runs=/nowhere/at/all"])
    assert faults == [
        "report.runs=/nowhere/at/all: there is no such folder; name one that holds runs"
    ]


def test_neither_data_nor_weights_are_needed(tmp_path):
    overrides = ["action=report", f"report.runs={tmp_path}", "data=imagenet"]
    assert configure([*overrides, "backbone.pretrained=/nowhere"])[1] == []
    (fault,) = configure([*overrides, "ckpt=last"])[1]
    assert fault.startswith("ckpt=last: action=report reads none")


def test_published_points_agree_with_table_2():
    for task, figure in PAPER_FIGURES.items():
        metric = TASKS[task][0]
        (baseline,) = (
            row for row in TABLE_2 if row.metric_name == metric and row.columns[0][1] == "Baseline"
        )
        points = {name: numbers for name, *numbers in figure.points}
        assert points["MobileViT-S"] == [baseline.parameters, round(baseline.metric + 1e-9, 1)]
    assert points["ParC-Net-S"] == [5.8, 79.7]


def test_from_the_command_line(tmp_path):
    write_row(tmp_path / "runs", 1, BASELINE)
    command = [sys.executable, "-m", "parcnet_train", "action=report"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Table 2, segmentation" not in done.stdout  # nothing of it was run
    assert re.search(r"│ +1 │ Baseline .*│ 51.00 ± 1.00 │ 3 │ +│ baseline +│", done.stdout)
    (folder,) = (tmp_path / "runs" / "report").iterdir()
    assert (folder / "table.html").is_file()
