"""What a configured training consists of, against the training itself and numbers by hand."""

import collections

import pytest
import torch

from parcnet_train.actions.fit import fit
from parcnet_train.benchmarks.plan.timeline import EPOCH, EVALUATION, FETCH, SAVE, Timeline
from parcnet_train.benchmarks.plan.work import Training
from running import MULTI_SCALE, TINY, composed

DIGITS = ("trainer.accelerator=cpu", "trainer.limit_train_batches=10", "trainer.max_epochs=6")


def work(*overrides, devices=1):
    return Training(composed(*TINY, *DIGITS, *overrides)).work(devices)


@pytest.mark.parametrize(
    ("overrides", "during"),
    [
        ((), 6),
        (("trainer.val_check_interval=0.5",), 12),
        (("trainer.val_check_interval=7",), 9),  # after 7, 14 ... 56 steps and at the end
        (("trainer.val_check_interval=30",), 2),
        (("trainer.check_val_every_n_epoch=4",), 2),
        (("trainer.check_val_every_n_epoch=3",), 2),
        (("trainer.max_steps=25",), 3),
    ],
)
def test_evaluations_follow_the_schedule(overrides, during):
    assert work(*overrides).evaluations == during + 1  # and the best checkpoint


def test_steps_end_at_max_steps():
    found = work("trainer.max_steps=25")
    assert (found.epochs, found.updates, sum(found.steps.values())) == (3, 25, 25)


def test_accumulation_has_fewer_updates():
    found = work("trainer.accumulate_grad_batches=4")
    assert (found.updates, sum(found.steps.values())) == (6 * 3, 60)


def test_several_devices_share_the_images():
    whole = ("trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0")
    one, four = work(*whole), work(*whole, devices=4)
    assert four.global_batch == 4 * one.global_batch
    steps = [sum(each.steps.values()) for each in (one, four)]
    assert steps[1] == pytest.approx(steps[0] / 4, rel=0.1)
    assert four.evaluated == -(-one.evaluated // 4)


def test_checkpoints_are_the_last_and_at_most_the_best():
    assert work().checkpoints == 6 + 6
    assert work("checkpoint.keep_best=3").checkpoints == 6 + 2 * 6
    assert work("checkpoint.every_n_steps=20").checkpoints == 6 + 6 + 3


def test_counts_are_those_of_the_training(tmp_path):
    overrides = (
        *MULTI_SCALE,
        "trainer.limit_train_batches=4",
        "trainer.max_epochs=2",
    )
    overrides += (
        "recipe.batch_size=8",
        "trainer.val_check_interval=0.5",
        "task.pictures=0",
        "trainer.accelerator=cpu",
    )
    config = composed(*TINY, *overrides)
    config["paths"]["output"] = str(tmp_path)
    expected = Training(config).work(1)
    timeline = Timeline(torch.device("cpu"))
    fit({**config, "logger": {}}, timeline)
    found = collections.Counter(span.name for span in timeline.spans)
    assert found[EPOCH] == expected.epochs == 2
    assert found[FETCH] == sum(expected.steps.values()) == 8
    assert found[EVALUATION] == expected.evaluations - 1 == 4
    assert expected.epochs < found[SAVE] <= expected.checkpoints


def test_short_training_is_a_part_of_the_whole():
    training = Training(composed(*TINY, *DIGITS, "trainer.devices=2", "trainer=ddp"))
    short = training.shortened(epochs=2, batches=3)
    assert short.epochs == 2
    trainer = short.config["trainer"]
    assert (trainer["limit_train_batches"], trainer["limit_val_batches"]) == (3, 2)
    assert (trainer["devices"], short.config["logger"]) == (1, {})
    assert training.config["trainer"]["limit_train_batches"] == 10


def test_gradients_are_those_of_trained_parameters():
    whole = Training(composed(*TINY)).gradient_bytes()
    frozen = Training(composed(*TINY, "recipe.finetuning.freeze_stages=all")).gradient_bytes()
    assert 0 < frozen < whole
    assert whole % 4 == 0
