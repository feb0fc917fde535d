"""The average of the weights: its decay, its buffers, and what is evaluated beside it."""

import copy
import logging
import types

import pytest
import pytorch_lightning as pl
import torch

from numbers_task import NumbersData, NumbersTask, train
from parcnet_train.callbacks.averaging import EMA
from parcnet_train.callbacks.steps import EpochLength
from parcnet_train.schedule import Position
from parcnet_train.tasks.base import Step


class States(pl.Callback):
    """Remembers the weights and their average, before the first step and after each."""

    def __init__(self, ema):
        self.ema = ema
        self.weights, self.averages = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not self.weights:
            self.note(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not trainer.fit_loop._should_accumulate():
            self.note(pl_module)

    def note(self, task):
        self.weights.append(copy.deepcopy(task.model.state_dict()))
        self.averages.append(copy.deepcopy(self.ema._average_model.module.model.state_dict()))


def states(ema, reference_batch=8, accumulate=2, **settings):
    """Weights and averages of two epochs of 10 samples, in batches of 4."""
    noted = States(ema)
    task, data = NumbersTask(reference_batch), NumbersData(10, 4)
    settings = {"max_epochs": 2, "accumulate_grad_batches": accumulate, **settings}
    train(task, data, [EpochLength(), ema, noted], **settings)
    return noted.weights, noted.averages


# An epoch has a step of 8 samples and one of the 4 that are left.
SEEN, SHARES = [0, 1, 10 / 8, 18 / 8], [1, 0.5, 1, 0.5]
WARM = [min(0.25, (1 + t) / (10 + t)) ** s for t, s in zip(SEEN, SHARES, strict=True)]
COLD = [0.25**share for share in SHARES]
STATISTICS = ("1.running_mean", "1.running_var")


@pytest.mark.parametrize("buffers", ["copy", "average"])
@pytest.mark.parametrize(("warmup", "decays"), [(True, WARM), (False, COLD)])
def test_average_follows_its_formula(warmup, decays, buffers):
    weights, averages = states(EMA(0.25, warmup=warmup, buffers=buffers))
    assert len(weights) == 5
    expected = weights[0]
    for decay, now, average in zip(decays, weights[1:], averages[1:], strict=True):
        for name, value in now.items():
            copied = name == "1.num_batches_tracked" or (name in STATISTICS and buffers == "copy")
            of_step = 0 if copied else decay
            expected[name] = of_step * expected[name] + (1 - of_step) * value
            torch.testing.assert_close(
                average[name], expected[name].to(value.dtype), rtol=1e-12, atol=0
            )


def decay(ema, seen, share=1.0):
    return ema.decay_of(Step(Position(0, 0, 1), range(1), share, seen))


def test_decay_rises_to_the_configured_one_and_stays():
    ema = EMA(0.9995)
    expected = {0: 1 / 10, 1: 2 / 11, 0.5: 1.5 / 10.5, 17980: 17981 / 17990}
    assert {seen: decay(ema, seen) for seen in expected} == expected
    assert decay(ema, 17991) == decay(ema, 10**6) == 0.9995
    assert decay(EMA(0.9995, warmup=False), 0) == 0.9995


def test_steps_of_half_a_batch_decay_together_as_one():
    for ema in (EMA(0.5), EMA(0.5, warmup=False)):
        assert decay(ema, 3, 0.5) ** 2 == pytest.approx(decay(ema, 3))


@pytest.mark.parametrize(
    ("ema", "share"),
    [(EMA(0.9995, warmup=False), 100 * 0.9995**3), (EMA(0.99, warmup=False), 100 * 0.99**3)],
)
def test_initial_weights_that_stay_in_the_average_give_a_warning(ema, share, caplog):
    with caplog.at_level(logging.WARNING):
        states(ema)
    (message,) = [each for each in caplog.messages if "recipe.ema" in each]
    assert f"recipe.ema.decay={ema.decay}" in message
    assert f"{share:.3g} %" in message
    assert "recipe.ema.warmup=true" in message


@pytest.mark.parametrize("ema", [EMA(0.9995), EMA(0.2, warmup=False)])
def test_initial_weights_that_leave_the_average_give_none(ema, caplog):
    with caplog.at_level(logging.WARNING):
        states(ema)
    assert "recipe.ema" not in caplog.text


def test_average_is_on_the_device_of_the_network():
    ema, task = EMA(0.5), NumbersTask(8)
    ema._average_model = torch.optim.swa_utils.AveragedModel(task, use_buffers=True)
    task.steps = lambda: iter(())
    task.batch_sampler = None
    moved = copy.deepcopy(task).to("meta")
    moved.steps = task.steps
    ema.on_train_start(types.SimpleNamespace(), moved)
    devices = {tensor.device.type for tensor in [*ema.averaged[0], *ema.copied[0]]}
    assert devices == {"meta"}
