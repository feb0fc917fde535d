"""The progress file and the logged rows of a training."""

import json

import pytest
from pytorch_lightning.loggers import Logger

from numbers_task import NumbersData, NumbersTask, train
from parcnet_train.callbacks import progress
from parcnet_train.callbacks.progress import Progress
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
