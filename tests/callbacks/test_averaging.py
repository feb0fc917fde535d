"""The average of the weights: decay, buffers, and the comparison with raw weights."""

import copy
import logging
import types
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from numbers_task import NumbersData, NumbersTask, train
from parcnet_train.callbacks.averaging import EMA
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.optim.schedule import Position
from parcnet_train.tasks.base import Step
from parcnet_train.visualize.curves import read_epochs, read_series
from running import TINY, run


class States(pl.Callback):
    """A callback that stores weights and averages, before the first step and after each."""

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
    """Return weights and averages of two epochs of 10 samples, in three batches of 4."""
    noted = States(ema)
    task, data = NumbersTask(reference_batch), NumbersData(10, 4, accumulate=accumulate)
    own = {"accumulate_grad_batches": accumulate, "limit_train_batches": 3}
    train(task, data, [ema, noted], max_epochs=2, **own, **settings)
    return noted.weights, noted.averages


# An epoch has a step of 8 samples, and one that the limit cuts to 4.
SEEN, SHARES = [0, 1, 10 / 8, 18 / 8], [1, 0.5, 1, 0.5]
WARM = [min(0.25, (1 + t) / (10 + t)) ** s for t, s in zip(SEEN, SHARES, strict=True)]
COLD = [0.25**share for share in SHARES]
STATISTICS = ("1.running_mean", "1.running_var")


@pytest.mark.parametrize("buffers", ["copy", "average"])
@pytest.mark.parametrize(("warmup", "decays"), [(True, WARM), (False, COLD)])
def test_average_matches_its_formula(warmup, decays, buffers):
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


def test_decay_warms_up_to_the_configured_value():
    ema = EMA(0.9995)
    expected = {0: 1 / 10, 1: 2 / 11, 0.5: 1.5 / 10.5, 17980: 17981 / 17990}
    assert {seen: decay(ema, seen) for seen in expected} == expected
    assert decay(ema, 17991) == decay(ema, 10**6) == 0.9995
    assert decay(EMA(0.9995, warmup=False), 0) == 0.9995


def test_two_half_batches_decay_like_one_batch():
    for ema in (EMA(0.5), EMA(0.5, warmup=False)):
        assert decay(ema, 3, 0.5) ** 2 == pytest.approx(decay(ema, 3))


@pytest.mark.parametrize(
    ("ema", "share"),
    [(EMA(0.9995, warmup=False), 100 * 0.9995**3), (EMA(0.99, warmup=False), 100 * 0.99**3)],
)
def test_a_run_too_short_for_its_decay_gives_a_warning(ema, share, caplog):
    with caplog.at_level(logging.WARNING):
        states(ema)
    (message,) = [each for each in caplog.messages if "recipe.ema" in each]
    assert f"recipe.ema.decay={ema.decay}" in message
    assert f"{share:.3g} %" in message
    assert "recipe.ema.warmup=true" in message


@pytest.mark.parametrize("ema", [EMA(0.9995), EMA(0.2, warmup=False)])
def test_a_run_long_enough_for_its_decay_gives_no_warning(ema, caplog):
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


class Metrics(pl.Callback):
    """A callback that stores the logged metrics of every evaluation, and the raw weights' loss."""

    def __init__(self, data):
        self.batches = list(data.val_dataloader())
        self.logged, self.expected = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})
        with torch.inference_mode():
            plain = copy.deepcopy(pl_module).eval()
            losses = torch.cat([plain.losses(batch) for batch in self.batches])
        self.expected.append(losses.mean().item())


@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_comparing_raw_weights_does_not_change_the_training(buffers):
    ends, logged = [], []
    for compare in (False, True):
        task, data = NumbersTask(8, lr=0.02), NumbersData(10, 4)
        metrics = Metrics(data)
        ema = EMA(0.5, warmup=False, buffers=buffers, compare=compare)
        noted = States(ema)
        train(task, data, [ema, noted, metrics], max_epochs=3)
        ends.append([*noted.weights, *noted.averages])
        logged.append(metrics.logged)
    without, compared = logged
    raw = [values.pop("val/raw/loss") for values in compared]
    assert raw == pytest.approx(metrics.expected, rel=1e-6)
    assert compared == without
    assert all(values["val/loss"] != each for values, each in zip(compared, raw, strict=True))
    for one, other in zip(*ends, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_metrics_of_raw_weights_are_in_log_loggers_and_results(tmp_path, caplog):
    """The metric of the raw weights is logged in a training and in a test of its checkpoint."""
    settings = [*TINY, "recipe.ema.decay=0.9", "recipe.ema.warmup=false", "trainer.max_epochs=2"]
    settings += ["recipe.schedule.warmup_steps=0", "trainer.limit_val_batches=8"]
    with caplog.at_level(logging.INFO):
        fitted = run([*settings, "recipe.ema.compare=true"], tmp_path / "fit")
    assert caplog.text.count("val/raw/top1") == 2
    by_epoch = read_epochs(tmp_path / "fit" / "csv", "val/raw/top1")
    assert by_epoch[fitted["checkpoint_epoch"]] == pytest.approx(fitted["val/raw/top1"], rel=1e-6)
    test = ["action=test", "trainer.limit_val_batches=8", "data.num_workers=0"]
    file = tmp_path / "raw.ckpt"
    checkpoint = read_checkpoint(Path(fitted["checkpoint"]))
    torch.save({**checkpoint, "state_dict": checkpoint["current_model_state"]}, file)
    raw = run([*test, "recipe.ema.compare=false", f"ckpt={file}"], tmp_path / "raw")
    assert fitted["val/raw/top1"] == raw["val/top1"]
    assert "val/raw/top1" not in raw
    tested = run([*test, f"ckpt={fitted['run_dir']}"], tmp_path / "test")
    assert {name: tested[name] for name in ("val/raw/top1", "val/top1", "val/loss")} == {
        name: fitted[name] for name in ("val/raw/top1", "val/top1", "val/loss")
    }


@pytest.mark.parametrize(
    ("task", "data", "metric"),
    [("detection", "coco", "val/raw/map"), ("segmentation", "voc", "val/raw/miou")],
)
def test_every_task_can_compare_raw_weights(task, data, metric, request, tmp_path):
    overrides = [f"task={task}", "debug=tiny", "backbone=parcnet_xs", "backbone.depths=[1,1,1]"]
    overrides += ["trainer=cpu", f"data={data}_format", "trainer.limit_train_batches=1"]
    overrides += [f"data.root={request.getfixturevalue(f'{data}_folder')}", "task.pictures=0"]
    # Without decay, the average equals the weights.
    overrides += ["recipe.ema.decay=0", "recipe.ema.compare=true"]
    results = run(overrides, tmp_path / "run")
    name = metric.replace("raw/", "")
    assert results[metric] == results[name]
    series = read_series(tmp_path / "run" / "csv")
    assert series[metric] == series[name]


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.9), (25, 1 - 0.1 * (2 + 2**0.5) / 4), (50, 0.95), (100, 1.0), (101, 1.0)],
)
def test_decay_rises_along_half_a_cosine(epoch, expected):
    ema = EMA(0.9, warmup=False, final_decay=1.0)
    step = Step(Position(0, epoch, 100), range(1), 1.0, 0.0)
    assert ema.decay_of(step) == pytest.approx(expected, rel=1e-12)
    half = Step(Position(0, epoch, 100), range(1), 0.5, 0.0)  # two of them decay as one would
    assert ema.decay_of(half) ** 2 == pytest.approx(expected, rel=1e-12)
