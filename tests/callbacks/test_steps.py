"""When a training is validated and ends, also after a resume."""

import csv
import json
import logging
import math

import pytest
import torch
from pytorch_lightning.callbacks import Callback

import test_resume
from numbers_task import NumbersData, NumbersTask, train
from parcnet_train.actions import fit as training
from parcnet_train.build import make
from parcnet_train.callbacks.finite import FiniteLoss
from parcnet_train.callbacks.steps import steps_of_shares
from parcnet_train.data.samplers import MultiScale
from parcnet_train.errors import CheckpointError, TrainingError
from parcnet_train.tasks.classification import ClassificationTask
from running import TINY, run

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
# Two epochs of six steps.
STEPS = [*TINY, "trainer.limit_train_batches=6", "trainer.max_epochs=2"]


class Killed(BaseException):
    """An end like SIGKILL: nothing more is written."""


def read(folder, name):
    return torch.load(folder / name, weights_only=True)


def column(folder, name):
    """Return steps, counted from 1, and values of a logged metric."""
    found = {}
    for file in sorted(folder.glob("csv/version_*/metrics.csv")):
        with file.open() as stream:
            rows = [row for row in csv.DictReader(stream) if row.get(name)]
        found |= {int(row["step"]) + 1: float(row[name]) for row in rows}
    return found


def validated_after(folder):
    return sorted(column(folder, "val/loss"))


class Noted(Callback):
    """A callback that stores the steps that are validated, and the learning rate of each step."""

    def __init__(self):
        self.validated, self.rates = [], []

    def on_validation_end(self, trainer, pl_module):
        self.validated.append(trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


# Two epochs of six batches.
@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [6, 12]),
        ({"validated": (0.5, 1)}, [3, 6, 9, 12]),
        ({"validated": (0.34, 1)}, [2, 4, 8, 10, 12]),
        ({"validated": (0.01, 1)}, list(range(1, 13))),
        ({"validated": (4, 1)}, [4, 8, 12]),
        ({"validated": (5, 1)}, [5, 10, 12]),
        ({"validated": (100, 1)}, [12]),
        ({"validated": (1.0, 2)}, [12]),
        ({"validated": (0.5, 5)}, [12]),
        ({"max_steps": 9}, [6, 9]),
        ({"max_steps": 4}, [4]),
        ({"max_steps": 12}, [6, 12]),
        ({"max_steps": 9, "validated": (4, 1)}, [4, 8, 9]),
        ({"limit_train_batches": 4, "max_steps": 6}, [4, 6]),
        ({"limit_train_batches": 0.5, "max_steps": 5}, [3, 5]),
        # A step takes two batches, then four: there are three, then two steps per epoch.
        ({"accumulate_grad_batches": 2, "validated": (2, 1)}, [2, 4, 6]),
        ({"accumulate_grad_batches": 4, "validated": (0.5, 1)}, [1, 2, 3, 4]),
        ({"accumulate_grad_batches": 2, "max_steps": 4}, [3, 4]),
    ],
    ids=str,
)
def test_validation_follows_steps_or_shares_and_the_end(settings, steps):
    noted = Noted()
    trainer = train(NumbersTask(4), NumbersData(24, 4), [noted], max_epochs=2, **settings)
    assert noted.validated == steps
    assert trainer.global_step == steps[-1]


def test_steps_of_shares():
    assert steps_of_shares(1.0, 7) == {7}
    assert steps_of_shares(0.25, 10) == {2, 5, 8, 10}
    assert steps_of_shares(0.1, 3) == {1, 2, 3}
    assert steps_of_shares(0.3, 10) == {3, 6, 9}


def test_cosine_ends_at_max_steps():
    noted = Noted()
    train(NumbersTask(4, lr=0.01), NumbersData(24, 4), [noted], max_epochs=2, max_steps=8)
    expected = [0.005 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert noted.rates == pytest.approx(expected, rel=1e-6)


def test_max_steps_counts_the_steps_of_multi_scale_epochs():
    noted = Noted()
    data = NumbersData(90, 8, MultiScale(rule="balanced", smallest=1.0, largest=2.0, divisor=32))
    assert len({len(data.batches(epoch)) for epoch in range(4)}) > 1
    task = NumbersTask(8, lr=0.01)
    trainer = train(task, data, [noted], max_epochs=9, max_steps=50)
    assert trainer.global_step == noted.validated[-1] == 50
    assert 1 < task.total_epochs < trainer.max_epochs < 9
    assert noted.rates == sorted(noted.rates, reverse=True)
    assert 0 < noted.rates[-1] < 0.0001


def test_max_steps_beyond_the_epochs_gives_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        trainer = train(NumbersTask(4), NumbersData(24, 4), max_epochs=2, max_steps=15)
    assert trainer.global_step == 12
    assert "trainer.max_steps" in caplog.text
    assert "ends after its 2 epochs, 3 steps before this limit" in caplog.text
    assert "increase recipe.epochs" in caplog.text


@pytest.mark.slow
def test_a_run_that_reached_max_steps_resumes_with_more_steps(tmp_path):
    first = run([*STEPS, "trainer.max_steps=4"], tmp_path)
    resumed = [*STEPS, f"ckpt={tmp_path}"]
    again = run([*resumed, "trainer.max_steps=4"], tmp_path)
    assert (again["steps"], again["epochs"]) == (first["steps"], first["epochs"]) == (4, 1)
    assert again["val/loss"] == first["val/loss"]
    more = run([*resumed, "trainer.max_steps=7"], tmp_path)
    assert (more["steps"], more["epochs"]) == (7, 2)
    with pytest.raises(CheckpointError, match=r"7 steps, trainer\.max_steps=5"):
        run([*resumed, "trainer.max_steps=5"], tmp_path)


def slowly(*cases):
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def kill_after(monkeypatch, step):
    """Kill a training once after a step, before the step can be saved or validated."""
    hook = ClassificationTask.on_train_batch_start

    def kill(task, batch, batch_idx):
        if task.trainer.global_step == step:
            raise Killed
        hook(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "on_train_batch_start", kill)


@pytest.mark.parametrize(
    ("overrides", "killed_after", "resumes_at"),
    [
        pytest.param(
            ["trainer.val_check_interval=2", "checkpoint.every_n_steps=1"],
            4,
            4,
            marks=pytest.mark.slow,
        ),
        *slowly(
            (["trainer.val_check_interval=4", "checkpoint.every_n_steps=4"], 5, 4),
            (["trainer.max_steps=9", "checkpoint.every_n_steps=2"], 8, 8),
            (["trainer.val_check_interval=2", "checkpoint.every_n_steps=1"], 3, 3),
            (["trainer.val_check_interval=0.5", "checkpoint.every_n_steps=2"], 10, 10),
            (["trainer.val_check_interval=3", "checkpoint.keep_best=3"], 8, 6),
            (["trainer.check_val_every_n_epoch=2", "checkpoint.every_n_steps=2"], 8, 8),
            (["trainer.max_steps=3", "checkpoint.every_n_steps=2"], 2, 2),
        ),
    ],
    ids=str,
)
def test_a_resumed_run_validates_at_the_same_steps(
    overrides, killed_after, resumes_at, tmp_path, monkeypatch
):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run([*STEPS, *overrides], straight)
    with monkeypatch.context() as patch:
        kill_after(patch, killed_after)
        with pytest.raises(Killed):
            run([*STEPS, *overrides], resumed)
    assert read(resumed, LAST)["global_step"] == resumes_at
    run([*STEPS, *overrides, f"ckpt={resumed}"], resumed)
    assert validated_after(resumed) == validated_after(straight)
    for name in ("val/loss", "val/top1", "train/loss_step", "train/loss_epoch", "train/lr"):
        assert column(resumed, name) == column(straight, name), name
    for name in (BEST, LAST):
        ends = [test_resume.without_folder(read(f, name), f) for f in (straight, resumed)]
        for end in ends:
            del end["config"], end["loops"]
            for state in end["callbacks"].values():
                state.pop("current_score", None)
        assert list(test_resume.differing(*ends)) == []
    one, other = (json.loads((f / "results.json").read_text()) for f in (straight, resumed))
    same = ("val/top1", "val/loss", "train/loss", "epochs", "steps", "checkpoint_epoch")
    assert {key: one[key] for key in same} == {key: other[key] for key in same}


@pytest.mark.slow
def test_the_best_checkpoint_of_a_step_can_be_resumed(tmp_path):
    straight = run([*STEPS, "trainer.val_check_interval=6"], tmp_path / "straight")
    one = [*TINY, "trainer.limit_train_batches=6", "trainer.val_check_interval=6"]
    run([*one, "trainer.max_epochs=1", "recipe.epochs=2"], tmp_path / "first")
    best = tmp_path / "first" / BEST
    results = run([*STEPS, "trainer.val_check_interval=6", f"ckpt={best}"], tmp_path / "second")
    assert results["steps"] == straight["steps"] == 12
    assert validated_after(tmp_path / "second")[-1] == 12


def test_best_epochs_of_several_validations_have_unique_names(tmp_path):
    overrides = ["trainer.val_check_interval=2", "checkpoint.keep_best=4"]
    run([*STEPS, *overrides, "trainer.max_epochs=1"], tmp_path)
    files = sorted(file.name for file in (tmp_path / "checkpoints").glob("best_epoch*"))
    assert files == [f"best_epoch000_step00000{step}.ckpt" for step in (2, 4, 6)]


def test_a_run_without_its_best_checkpoint_writes_results(tmp_path, monkeypatch, caplog):
    train = training.train

    def and_lose_it(*arguments, **named):
        last = train(*arguments, **named)
        (tmp_path / BEST).unlink()
        return last

    monkeypatch.setattr(training, "train", and_lose_it)
    with caplog.at_level(logging.WARNING):
        results = run(TINY, tmp_path)
    assert results["status"] == "done"
    assert results["checkpoint"] == str(tmp_path / LAST)
    assert BEST in caplog.text


@pytest.mark.parametrize(
    ("values", "counts", "is_divergence"),
    [([math.nan], [1], True), ([math.inf, 1.0], [1, 1], True), ([math.nan], [0], False)],
)
def test_an_empty_validation_is_not_a_divergence(values, counts, is_divergence):
    metric = make({"_target_": "parcnet_train.tasks.metrics.ExactMean"})
    metric.update(torch.tensor(values), torch.tensor(counts))
    assert bool(metric.compute().isinf()) == is_divergence
    assert bool(metric.compute().isnan()) != is_divergence


class Validated(NumbersTask):
    """A task whose validation losses are given."""

    def __init__(self, loss, count):
        super().__init__(4)
        self.loss, self.count = loss, count

    def validation_step(self, batch, batch_idx):
        losses = torch.full((len(batch.images),), self.loss)
        self.val_metrics["val/loss"].update(losses, torch.full(losses.shape, self.count))
        self.val_metrics["val/skipped"].update(0)


def test_an_empty_validation_gives_one_warning(caplog):
    noted = Noted()
    with caplog.at_level(logging.WARNING):
        train(Validated(1.0, 0), NumbersData(8, 4), [FiniteLoss(1), noted], max_epochs=2)
    assert len(noted.validated) == 2
    (warning,) = (each.getMessage() for each in caplog.records)
    assert "val/loss" in warning
    assert "null" in warning
    assert "not finite" not in warning


def test_a_non_finite_validation_loss_stops_the_training():
    with pytest.raises(TrainingError, match=r"val/loss is not finite after epoch 0"):
        train(Validated(math.nan, 1), NumbersData(8, 4), [FiniteLoss(1)], max_epochs=2)
