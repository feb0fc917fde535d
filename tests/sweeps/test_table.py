"""Text of the table, and the log lines without a terminal."""

import io
import json
import logging

import pytest
from rich.console import Console

from parcnet_train.sweeps.table import (
    BEFORE,
    FAILED,
    FINISHED,
    RUNNING,
    STOPPED,
    Display,
    Row,
    cells,
    line,
)


@pytest.fixture
def row(tmp_path):
    return Row("seed=0", tmp_path)


def write_progress(row, **values):
    told = {"epoch": 1.5, "epochs": 8, "metric": "val/top1", "value": None, "seconds_left": None}
    (row.folder / "progress.json").write_text(json.dumps({**told, **values}))
    row.refresh()


def test_unknown_values_are_empty(row):
    assert cells(row) == ("seed=0", "waiting", "", "", "")
    row.state = RUNNING
    row.refresh()  # there is still no file
    assert cells(row) == ("seed=0", "running", "", "", "")
    write_progress(row)
    assert cells(row) == ("seed=0", "running", "1.5/8", "", "")
    (row.folder / "progress.json").write_text('{"epoch": ')
    row.refresh()
    assert line(row) == "seed=0: running"


def test_running_and_stopped_row(row):
    row.state = RUNNING
    write_progress(row, epoch=2, value=0.51239, seconds_left=3723.4)
    assert cells(row) == ("seed=0", "running", "2/8", "top1 0.5124", "1:02:03")
    assert line(row) == "seed=0: running, epoch 2/8, top1 0.5124, 1:02:03 left"
    row.state = STOPPED
    assert line(row) == "seed=0: stopped, epoch 2/8, top1 0.5124"


@pytest.mark.parametrize("state", [FINISHED, BEFORE])
def test_finished_row_shows_its_results(row, state):
    results = {"monitor": "val/map", "val/map": 0.25, "epochs": 8}
    (row.folder / "results.json").write_text(json.dumps(results))
    row.state = state
    row.refresh()
    assert line(row) == f"seed=0: {state}, epoch 8/8, map 0.2500"
    (row.folder / "results.json").write_text("{}")  # an action without a metric
    row.refresh()
    assert line(row) == f"seed=0: {state}"


@pytest.mark.parametrize(("state", "shown"), [(FINISHED, "pruned"), (BEFORE, "already pruned")])
def test_pruned_row_shows_how_far_it_was(row, state, shown):
    results = {"monitor": "val/map", "val/map": 0.25, "epochs": 2, "pruned": True}
    (row.folder / "results.json").write_text(json.dumps(results))
    row.state = state
    write_progress(row, epoch=2, epochs=8)
    assert line(row) == f"seed=0: {shown}, epoch 2/8, map 0.2500"


def test_log_has_one_line_per_change(row, caplog):
    caplog.set_level(logging.INFO)
    with Display([row], Console(file=io.StringIO())) as display:
        display.update()
        row.state = RUNNING
        for epoch in (0, 0.4, 0.9, 1.0, 1.0):
            write_progress(row, epoch=epoch)
            display.update()
        row.state = FAILED
    assert [record.message for record in caplog.records] == [
        "seed=0: running, epoch 0/8",
        "seed=0: running, epoch 1/8",
        "seed=0: failed, epoch 1/8",
    ]


def test_terminal_shows_one_table(row, caplog):
    caplog.set_level(logging.INFO)
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100, legacy_windows=False)
    with Display([row, Row("head=[a]", row.folder)], console) as display:
        row.state = RUNNING
        write_progress(row, value=0.5)
        display.update()
    text = terminal.getvalue()
    for word in ("job", "state", "epoch", "metric", "time left", "1.5/8", " top1 0.5000"):
        assert word in text
    assert "head=[a]" in text
    assert caplog.records == []
