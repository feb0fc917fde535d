"""The progress file and the logged rows of a training."""

import itertools
import json
import re

import pytest
import torch
from pytorch_lightning.loggers import Logger

from numbers_task import NumbersData, NumbersTask, train
from parcnet_train import terminal
from parcnet_train.callbacks import progress
from parcnet_train.callbacks.progress import EveryMinute, Progress, ProgressBar, compared
from parcnet_train.callbacks.saving import BestCheckpoint
from running import TINY, run


def test_progress_is_written_within_epochs_and_after_each(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "WRITING_SECONDS", 0)
    told = []

    def note(path, content):
        told.append(json.loads(content))
        path.write_bytes(content)

    monkeypatch.setattr(progress, "write_whole", note)
    results = run([*TINY, "trainer.max_epochs=2"], tmp_path)
    assert told[-1] == json.loads((tmp_path / "progress.json").read_text())
    assert [each["epoch"] for each in told] == [0, 0.5, 1, 1, 1.5, 2, 2]
    assert {(each["epochs"], each["metric"]) for each in told} == {(2, "val/top1")}
    assert [each["value"] is None for each in told] == [True] * 3 + [False] * 4
    assert told[-1]["value"] == results["val/top1"]
    assert told[0]["seconds_left"] is None
    assert all(each["seconds_left"] > 0 for each in told[1:5])
    assert told[-1]["seconds_left"] == 0
    assert all(each["images_per_second"] > 0 for each in (told[1], told[2], told[-1]))
    assert told[0]["images_per_second"] is None


@pytest.mark.parametrize(
    ("value", "best", "mode", "words"),
    [
        (0.75, None, "max", "the first evaluation"),
        (0.75, 0.5, "max", "better than the best so far, 0.5000 (+0.25)"),
        (0.25, 0.5, "max", "worse than the best so far, 0.5000 (-0.25)"),
        (0.25, 0.5, "min", "better than the best so far, 0.5000 (-0.25)"),
        (0.75, 0.5, "min", "worse than the best so far, 0.5000 (+0.25)"),
        (0.5, 0.5, "max", "equal to the best so far, 0.5000"),
        (0.50001, 0.5, "max", "better than the best so far, 0.5000 (+1e-05)"),
        (float("nan"), 0.5, "max", "not a number"),
    ],
)
def test_evaluations_are_compared_with_the_best_one(value, best, mode, words):
    assert compared(value, best, mode) == words


class PlannedTask(NumbersTask):
    """A task whose evaluations have planned values."""

    def __init__(self, values, mode):
        super().__init__(8)
        self.values, self.mode = iter(values), mode

    def validation_metrics(self):
        return {**super().validation_metrics(), self.monitor: torch.tensor(next(self.values))}


def best_of(folder, mode, monitor="val/loss"):
    return BestCheckpoint(folder, filename="best", monitor=monitor, mode=mode, save_top_k=1)


@pytest.mark.parametrize(
    ("mode", "words", "bests"),
    [
        ("max", ["first", "better", "worse", "equal", "better"], [1, 3, 3, 3, 4]),
        ("min", ["first", "worse", "worse", "worse", "worse"], [1, 1, 1, 1, 1]),
    ],
)
def test_each_evaluation_has_one_line_with_a_verdict(mode, words, bests, tmp_path, caplog):
    caplog.set_level("INFO")
    told = []

    class Kept(Progress):
        def on_validation_end(self, trainer, task):
            super().on_validation_end(trainer, task)
            told.append(json.loads(self.file.read_text()))

    task = PlannedTask([1.0, 3.0, 2.0, 3.0, 4.0], mode)
    callbacks = [Kept(1, tmp_path / "progress.json"), best_of(tmp_path, mode)]
    train(task, NumbersData(8, 4), callbacks, max_epochs=5)
    verdict = re.compile(r"^epoch \d/5: last loss .* left; val/loss: (?:the )?(\w+)")
    found = [match[1] for record in caplog.records if (match := verdict.match(record.message))]
    assert found == words
    assert [each["best"] for each in told] == bests
    assert [each["value"] for each in told] == [1, 3, 2, 3, 4]


def test_bar_shows_time_left_loss_metric_rate_and_pace(tmp_path):
    shown = []

    class Kept(Progress):
        def on_validation_end(self, trainer, task):
            super().on_validation_end(trainer, task)
            shown.append((ProgressBar().get_metrics(trainer, task), dict(self.row)))

    task = PlannedTask([0.75, 0.25], "max")
    task.monitor = "val/top1"
    callbacks = [Kept(1, tmp_path / "progress.json"), best_of(tmp_path, "max", "val/top1")]
    train(task, NumbersData(8, 4), callbacks, max_epochs=2)
    for (bar, row), value in zip(shown, ("0.7500", "0.2500"), strict=True):
        assert list(bar) == ["left", "loss", "top1", "lr", "images/s", "best"]
        assert re.fullmatch(r"\d+:\d\d:\d\d", bar["left"])
        assert (bar["top1"], bar["best"]) == (value, "0.7500")
        assert float(bar["loss"]) == pytest.approx(row["train/loss_step"], rel=0.001)
        assert float(bar["lr"]) == pytest.approx(row["train/lr"], rel=0.05)


def test_line_per_minute_has_the_metric_and_the_best_one(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    minutes = itertools.count(step=61.0)
    monkeypatch.setattr(terminal, "clock", lambda: next(minutes))
    task = PlannedTask([0.75, 0.25, 0.5], "max")
    callbacks = [
        *(Progress(1, tmp_path / "progress.json"), EveryMinute(), best_of(tmp_path, "max")),
    ]
    train(task, NumbersData(4, 4), callbacks, max_epochs=3)
    lines = [record.message for record in caplog.records if ", batch 1/1, " in record.message]
    assert len(lines) == 3
    assert "val/loss" not in lines[0]
    assert "images/s, val/loss 0.7500 (best 0.7500), 0:" in lines[1]
    assert "images/s, val/loss 0.2500 (best 0.7500), 0:" in lines[2]


def test_progress_is_not_written_at_every_step(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(progress, "write_whole", lambda path, content: told.append(content))
    monkeypatch.setattr(progress, "WRITING_SECONDS", 60)
    run(TINY, tmp_path)
    assert len(told) == 2


class Rows(Logger):
    """A logger that stores what is logged."""

    name, version = "rows", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_hyperparams(self, params):
        pass


@pytest.mark.parametrize(
    ("accumulate", "expected"),
    [(1, [[0], [1], [2]]), (2, [[0, 1], [2]]), (3, [[0, 1, 2]]), (40, [[0, 1, 2]])],
)
def test_logged_and_shown_loss_is_the_mean_of_the_step(accumulate, expected, tmp_path):
    """The logged loss is the mean over the batches of a step."""
    task, data, rows = NumbersTask(8, lr=1e-30), NumbersData(12, 4), Rows()
    losses = [task.losses(batch).mean().item() for batch in data.batches(0)]
    shown = Progress(1, tmp_path / "progress.json")
    train(task, data, [shown], logger=rows, max_epochs=1, accumulate_grad_batches=accumulate)
    logged = [row["train/loss_step"] for _, row in rows.rows if "train/loss_step" in row]
    means = [sum(losses[batch] for batch in step) / len(step) for step in expected]
    assert logged == pytest.approx(means, rel=1e-12)
    assert (
        shown.row["train/loss_step"] == logged[-1]
    )  # the row of the bar and of the line of an epoch
