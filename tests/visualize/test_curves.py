import csv

import pytest

from parcnet_train.visualize.curves import read_series

COLUMNS = ("epoch", "step", "train/loss_step", "train/lr", "val/loss", "val/top1")


def write(folder, version, rows):
    """Write a file as Lightning's CSVLogger does: one column per metric, empty if not logged."""
    path = folder / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def losses(start, stop, value):
    return [{"epoch": 0, "step": step, "train/loss_step": value} for step in range(start, stop)]


@pytest.fixture
def run(tmp_path):
    rows = [{**row, "train/lr": 0.1} for row in losses(0, 10, 2.5)]
    validation = [
        {"epoch": 0, "step": 4, "val/loss": 2.0, "val/top1": 0.25},
        {"epoch": 1, "step": 9, "val/loss": 1.5, "val/top1": 0.5},
    ]
    write(tmp_path / "csv", 0, rows + validation)
    return tmp_path


def test_row_that_a_full_disk_has_cut_is_left_out(run):
    before = read_series(run / "csv")
    (file,) = run.rglob("metrics.csv")
    with file.open("a", newline="") as stream:
        stream.write("0,1")
    assert read_series(run / "csv") == before


def test_series_have_steps_and_values_of_each_metric(run):
    series = read_series(run / "csv")
    assert set(series) == {"train/loss_step", "train/lr", "val/loss", "val/top1"}
    assert series["train/loss_step"] == (list(range(10)), [2.5] * 10)
    assert series["val/top1"] == ([4, 9], [0.25, 0.5])


def test_zero_counts_as_a_value(tmp_path):
    write(tmp_path, 0, [{"epoch": 0, "step": 0, "val/top1": 0.0}])
    assert read_series(tmp_path)["val/top1"] == ([0], [0.0])


def test_steps_are_sorted(tmp_path):
    write(tmp_path, 0, losses(5, 7, 1.0) + losses(2, 4, 2.0))
    assert read_series(tmp_path)["train/loss_step"] == ([2, 3, 5, 6], [2.0, 2.0, 1.0, 1.0])


def test_resumed_run_replaces_from_its_first_step(run):
    write(run / "csv", 1, [*losses(6, 9, 1.0), {"epoch": 1, "step": 8, "val/loss": 0.5}])
    series = read_series(run / "csv")
    assert series["train/loss_step"] == (list(range(9)), [2.5] * 6 + [1.0] * 3)
    assert series["val/loss"] == ([4, 8], [2.0, 0.5])
    assert series["val/top1"] == ([4], [0.25])  # the resumed run did not reach step 9


def test_first_step_of_a_resumed_run_is_replaced_too(run):
    write(run / "csv", 1, losses(4, 6, 1.0))
    series = read_series(run / "csv")
    assert series["train/lr"][0] == [0, 1, 2, 3]
    assert "val/loss" not in series


def test_versions_are_ordered_as_numbers(tmp_path):
    for version in (10, 2, 0):
        write(tmp_path, version, losses(0, 3, float(version)))
    assert read_series(tmp_path)["train/loss_step"] == ([0, 1, 2], [10.0] * 3)


@pytest.mark.parametrize("content", ["", "epoch,step,train/loss_step\n"], ids=["empty", "header"])
def test_resumed_run_that_logged_nothing_replaces_nothing(run, content):
    expected = read_series(run / "csv")
    (run / "csv" / "version_1").mkdir()
    (run / "csv" / "version_1" / "metrics.csv").write_text(content)
    assert read_series(run / "csv") == expected


def test_folder_without_files_has_no_series(tmp_path):
    assert read_series(tmp_path) == {}
