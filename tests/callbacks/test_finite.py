"""Losses that are not finite, with `recipe.on_nan=skip`; test_steps.py has those that stop."""

import logging
import math

import pytest
import torch

from killing import LAST, differing, run_killed_and_resumed
from numbers_task import NumbersData, NumbersTask, train
from parcnet_train.callbacks.finite import MOST_IN_A_ROW, FiniteLoss, SkipStep
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import TrainingError
from parcnet_train.tasks.classification import ClassificationTask
from running import TINY, run

BAD = 2  # batch of each epoch whose loss is not finite


class Poisoned(NumbersTask):
    """Task whose loss and BatchNorm see infinite numbers in one batch of every epoch."""

    bad = (BAD,)

    def training_step(self, batch, batch_idx):
        if batch_idx in self.bad:
            batch = batch._replace(images=batch.images * math.inf)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_skipped_step_changes_nothing(accumulate, caplog):
    """Training matches a plain loop without the step that has the bad batch."""
    data, skip = NumbersData(24, 4, accumulate=accumulate), SkipStep()
    task, plain = Poisoned(4 * accumulate, lr=0.01, min_lr=0.01), NumbersTask(8)
    with caplog.at_level(logging.WARNING):
        trainer = train(
            task,
            data,
            [skip, FiniteLoss(1, reads_steps=False)],
            max_epochs=2,
            accumulate_grad_batches=accumulate,
        )
    for epoch in range(2):
        batches = data.batches(epoch)
        for first in range(0, len(batches), accumulate):
            if BAD in range(first, first + accumulate):
                continue
            window = batches[first : first + accumulate]
            loss = torch.cat([plain.losses(batch) for batch in window]).mean()
            plain.zero_grad()
            loss.backward()
            for parameter in plain.parameters():
                parameter.data -= 0.01 * parameter.grad
    for name, value in plain.model.state_dict().items():
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(task.model.state_dict()[name], value, rtol=1e-12, atol=1e-14)
    assert skip.count == 2
    first = BAD // accumulate
    expected = f"step {first} (counted from 0) is skipped, since its gradient is not finite; "
    assert f"{expected}steps skipped so far: 1" in caplog.text
    assert "steps skipped so far: 2" in caplog.text
    assert trainer.callback_metrics["train/loss_epoch"].isfinite()


def test_a_network_without_batch_norm_can_skip_a_step():
    task, skip = Poisoned(4, lr=0.01), SkipStep()
    task.model = torch.nn.Linear(3, 1).double()
    train(task, NumbersData(16, 4), [skip], max_epochs=1)
    assert skip.count == 1
    assert all(each.isfinite().all() for each in task.model.parameters())


def test_a_training_whose_steps_are_all_skipped_stops():
    task = Poisoned(4, lr=0.01)
    task.bad = range(1000)
    data = NumbersData(4 * (MOST_IN_A_ROW + 5), 4)
    with pytest.raises(TrainingError, match=f"at the {MOST_IN_A_ROW} steps before it; the earlier"):
        train(task, data, [SkipStep()], max_epochs=1)


STEPS = [*TINY, "recipe.on_nan=skip", "trainer.limit_train_batches=4", "trainer.max_epochs=2"]


@pytest.fixture
def poisoned(monkeypatch):
    step = ClassificationTask.training_step

    def training_step(task, batch, batch_idx):
        loss = step(task, batch, batch_idx)
        return loss * math.nan if batch_idx == BAD else loss

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)


def test_skipped_steps_are_counted_in_the_results_also_after_a_resume(poisoned, tmp_path):
    overrides = [*STEPS, "checkpoint.every_n_steps=1"]
    straight = run(overrides, tmp_path / "straight")
    assert straight["skipped_steps"] == 2
    assert straight["steps"] == 8
    resumed = run_killed_and_resumed(overrides, tmp_path / "killed", 5)
    for key in ("skipped_steps", "steps", "train/loss", "val/loss"):
        assert resumed[key] == straight[key], key
    ends = [read_checkpoint(tmp_path / name / LAST) for name in ("straight", "killed")]
    for name in ("state_dict", "current_model_state", "optimizer_states"):
        assert list(differing(ends[0][name], ends[1][name])) == []


def test_without_it_the_run_stops_and_the_results_have_no_count(poisoned, tmp_path):
    with pytest.raises(TrainingError, match="the loss is not finite at step 2"):
        run([*STEPS, "recipe.on_nan=stop"], tmp_path)
    few = ["recipe.on_nan=stop", "trainer.limit_train_batches=2", "trainer.max_epochs=1"]
    results = run([*STEPS, *few], tmp_path / "good")
    assert results["skipped_steps"] is None
