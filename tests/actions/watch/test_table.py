"""Text of the table of runs."""

import dataclasses
import io
import os

import pytest
from rich.console import Console

from parcnet_train.actions.watch.states import Watcher
from parcnet_train.actions.watch.table import cells, note_of, sparkline, table_of
from watched_runs import lock, plant, plant_all, progress_of, results_of


def text_of(root, height=None, width=400):
    console = Console(file=io.StringIO(), width=width)
    console.print(table_of(Watcher([root]).read(), root, console, height))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([3.0], "▅"),
        ([1.0, 1.0], "▅▅"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7, 0], "█▁"),
        ([0, 0, 1, 1], "▁▁██"),
    ],
)
def test_sparkline_goes_from_the_lowest_to_the_highest_value(values, line):
    assert sparkline(values) == line


def test_many_values_are_averaged_in_groups():
    assert sparkline([0, 2, 6, 10], width=2) == "▁█"  # means of 1 and 8
    assert sparkline([5, 5, 0, 2, 9, 9], width=3) == sparkline([5, 1, 9])
    assert len(sparkline(range(1000))) == 16
    assert sparkline(range(1000)) == "▁▁▂▂▃▃▄▄▅▅▆▆▇▇██"


def test_cells_of_every_state(tmp_path):
    plant_all(tmp_path)
    runs = {run.folder.name: run for run in Watcher([tmp_path]).read()}
    texts = {name: list(cells(run).values()) for name, run in runs.items()}
    assert texts["running"] == [
        *("running", "running", "2.5/8", "top1 0.5000", "0.7500", "▁█▅", "123", "1:02:03"),
    ]
    assert texts["finished"] == [
        *("finished", "finished", "8/8", "top1 0.5000", "0.7500", "▁█▅", "321", ""),
    ]
    assert texts["failed"] == ["failed", "failed", *[""] * 6]
    silent = dataclasses.replace(runs["running"], silent=3723.4)
    assert note_of(silent) == "it has written no progress for 1:02:00"


def test_table_names_runs_states_and_reasons(tmp_path):
    runs = plant_all(tmp_path)
    plant(tmp_path / "detection" / "xs" / "other", results=results_of(monitor="val/map"))
    text = text_of(tmp_path)
    assert text.splitlines()[0] == (
        f"6 runs below {tmp_path}: 1 running, 2 failed, 1 stopped, 2 finished"
    )
    headings = [line for line in text.splitlines() if "/" in line.split(" ")[0] and ":" not in line]
    assert [line.strip() for line in headings] == ["classification/parcnet_s-demo", "detection/xs"]
    group = runs["running"].parent.relative_to(tmp_path)
    for column in ("run", "state", "epoch", "metric", "best", "trend", "images/s", "left"):
        assert column in text
    assert f"{group}/failed: the loss is not finite" in text
    assert f"{group}/killed: its process ended without results" in text


def test_a_folder_without_runs_says_so(tmp_path):
    assert text_of(tmp_path).strip() == f"There is no run below {tmp_path}"


def test_rows_beyond_the_height_of_the_terminal_are_counted(tmp_path):
    plant_all(tmp_path)
    other = plant(tmp_path / "detection" / "xs" / "other", progress=progress_of())
    lock(other, pid=os.getpid())
    lines = text_of(tmp_path, height=12).splitlines()
    assert len(lines) == 11  # and one for the cursor
    # Running ones come first, whatever folder they are in.
    assert [line.split()[0] for line in lines[2:7]] == [
        *("classification/parcnet_s-demo", "running", "killed", "failed", "detection/xs"),
    ]
    assert lines[7].split()[0] == "other"
    assert lines[8].strip() == "and 2 more"
    assert [line.rpartition(":")[0].rpartition("/")[2] for line in lines[9:]] == [
        *("killed", "failed"),
    ]


def test_a_terminal_of_few_lines_shows_one_run(tmp_path):
    plant_all(tmp_path)
    text = text_of(tmp_path, height=1)
    assert "and 4 more" in text
    assert "1:02:03" in text


def test_names_of_folders_are_no_markup_and_print_as_one_line(tmp_path):
    plant(tmp_path / "runs" / "[red]a\nb", results=results_of())
    assert text_of(tmp_path).splitlines()[2].startswith("[red]a\\nb  finished")


def test_a_narrow_terminal_cuts_off_no_number(tmp_path):
    plant_all(tmp_path)
    plant(tmp_path / "sweeps" / "x" / ("long_name_" * 9), results=results_of())
    text = text_of(tmp_path, width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "top1 0.5000" in text
    assert "1:02:03" in text
    assert "trend" not in text


def test_a_console_without_unicode_gets_no_sparkline(tmp_path):
    plant_all(tmp_path)
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, "ascii"), width=150)
    console.print(table_of(Watcher([tmp_path]).read(), tmp_path, console))
    console.file.flush()
    assert b"top1 0.5000" in raw.getvalue()
    assert b"trend" not in raw.getvalue()
