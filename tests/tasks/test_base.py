"""The effective learning rate, epochs of several lengths, and the start of a resumed run."""

import csv
import logging
import math

import pytest
import torch

from killing import LAST, assert_same_end, run_killed, run_killed_and_resumed
from numbers_task import NumbersData, NumbersTask, train
from own_optimizers import lookahead
from parcnet_train.build import accumulation, images_of_step
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.data.samplers import MultiScale
from parcnet_train.visualize.curves import read_series
from running import MULTI_SCALE, TINY, composed, run

COSINE = ["recipe.schedule.warmup_steps=0", "recipe.schedule.min_lr=0", "recipe.optimizer.lr=0.01"]


def rates(folder):
    return read_series(folder / "csv")["train/lr"][1]


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (8, 1), (4, 2)])
def test_learning_rates_scale_with_the_batch_and_follow_samples(batch_size, accumulate, tmp_path):
    # An epoch has 16 samples, whatever the batch.
    settings = [f"recipe.batch_size={batch_size}", f"recipe.accumulate={accumulate}"]
    settings += [f"trainer.limit_train_batches={16 // batch_size}", "recipe.reference_batch=32"]
    run([*TINY, *COSINE, *settings], tmp_path)
    step = batch_size * accumulate
    expected = [
        0.01 * step / 32 * 0.5 * (1 + math.cos(math.pi * samples / 16))
        for samples in range(0, 16, step)
    ]
    assert rates(tmp_path) == pytest.approx(expected, rel=1e-6)


def test_learning_rate_per_epoch_is_constant_within_an_epoch(tmp_path):
    settings = ["recipe.schedule.per_epoch=true", "trainer.max_epochs=2"]
    run([*TINY, *COSINE, *settings, "recipe.reference_batch=4"], tmp_path)
    assert rates(tmp_path) == pytest.approx([0.01, 0.01, 0.005, 0.005], rel=1e-6)


@pytest.mark.parametrize(
    ("key", "batch_size", "devices", "expected"),
    [
        *(("reference_batch", *each) for each in ((128, 8, 1), (128, 1, 8), (32, 4, 8))),
        ("reference_batch", 500, 1, 2),  # 1,000 images, the nearest number
        *(("global_batch", *each) for each in ((128, 8, 1), (256, 4, 1), (128, 2, 4))),
        ("global_batch", 128, 3, 3),  # at most 128 images for each of 9 batches
    ],
)
def test_accumulate_auto_follows_the_wanted_batch(key, batch_size, devices, expected):
    recipe = [f"recipe.batch_size={batch_size}", f"recipe.{key}=1024"]
    config = composed("trainer=cpu", *recipe, "recipe.accumulate=auto")
    config["trainer"]["devices"] = devices
    assert accumulation(config) == expected
    own = batch_size * devices * expected
    assert images_of_step(config) == (1024 if key == "global_batch" else own)


def test_accumulate_auto_reaches_the_reference_batch(tmp_path):
    settings = ["recipe.accumulate=auto", "recipe.reference_batch=16", *COSINE]
    results = run([*TINY, *settings, "trainer.limit_train_batches=8"], tmp_path)
    assert results["steps"] == 2
    assert rates(tmp_path) == pytest.approx([0.01, 0.005], rel=1e-6)


@pytest.mark.parametrize(
    ("accumulate", "expected"),
    [(2, [2, 1, 2, 1]), (3, [3, 3]), (129, [3, 3])],  # batches of the steps
)
def test_learning_rate_scales_with_the_images_in_the_step(accumulate, expected):
    """Two epochs of three batches of 4, where the limit cuts the last step."""
    task, noted = NumbersTask(reference_batch=8, lr=0.01, min_lr=0.01), []
    task.on_before_optimizer_step = lambda optimizer: noted.append(optimizer.param_groups[0]["lr"])
    settings = {"accumulate_grad_batches": accumulate, "limit_train_batches": 3}
    train(task, NumbersData(12, 4, accumulate=accumulate), max_epochs=2, **settings)
    assert noted == pytest.approx([0.01 * batches * 4 / 8 for batches in expected], rel=1e-12)


def test_a_run_shorter_than_its_warm_up_warns_with_its_learning_rates(caplog):
    """Two epochs of 12 samples, each one step: 24 of the 800 samples of the warm-up."""
    task = NumbersTask(reference_batch=8, lr=0.01, warmup_steps=100)
    with caplog.at_level(logging.WARNING):
        train(task, NumbersData(12, 4, accumulate=3), max_epochs=2, accumulate_grad_batches=3)
    (message,) = [each for each in caplog.messages if "recipe.schedule.warmup_steps" in each]
    assert f"{0.01 * 12 / 8 * 24 / 800:.1e}" in message
    assert f"{0.01 * 12 / 8:.1e}" in message


@pytest.mark.parametrize("rule", [None, "released", "balanced"])
@pytest.mark.parametrize("accumulate", [1, 3, 5, 100])
def test_step_has_the_gradient_of_the_mean_over_its_images(accumulate, rule):
    """Training matches a plain loop, with several sizes, and a step that a limit cuts."""
    multi_scale = None if rule is None else MultiScale(rule, 0.5, 1.25, 3, 8)
    data = NumbersData(66, 4, multi_scale, accumulate)
    task, plain = NumbersTask(8, lr=0.01, min_lr=0.01), NumbersTask(8)
    settings = {"accumulate_grad_batches": accumulate, "limit_train_batches": 11}
    train(task, data, max_epochs=2, **settings)
    counts = set()
    for epoch in range(2):
        batches = data.batches(epoch)[:11]
        counts |= {len(batch.images) for batch in batches}
        for first in range(0, len(batches), accumulate):
            window = batches[first : first + accumulate]
            # BatchNorm uses the statistics of each batch.
            loss = torch.cat([plain.losses(batch) for batch in window]).mean()
            plain.zero_grad()
            loss.backward()
            for parameter in plain.parameters():
                # The learning rate is that of the base batch, whatever the sizes.
                parameter.data -= 0.01 * len(window) * 4 / 8 * parameter.grad
    assert rule is None or accumulate == 100 or len(counts) > 1
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(task.model.state_dict()[name], value, rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Run without interruption: two epochs of five batches."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, run(RESUMABLE, folder)


RESUMABLE = [*TINY, *MULTI_SCALE, *COSINE, "trainer.max_epochs=2", "trainer.limit_train_batches=5"]
RESUMABLE += ["checkpoint.every_n_steps=1", "recipe.batch_size=6", "recipe.reference_batch=6"]


SLOWLY = [pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 3, 4, 6, 7, 8, 9)]


@pytest.mark.parametrize("killed_behind", [5, *SLOWLY])
def test_a_run_killed_after_any_step_resumes_to_the_same_weights(killed_behind, straight, tmp_path):
    folder, results = straight
    resumed = run_killed_and_resumed(RESUMABLE, tmp_path, killed_behind)
    assert_same_end(folder, results, tmp_path, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("killed_behind", [4, 5, 8, 9])
def test_shortened_accumulation_steps_resume_exactly(killed_behind, tmp_path):
    """Epochs have five batches, two batches per step."""
    overrides = [*RESUMABLE, "recipe.accumulate=2"]
    straight, folder = run(overrides, tmp_path / "straight"), tmp_path / "killed"
    resumed = run_killed_and_resumed(overrides, folder, killed_behind)
    assert resumed["steps"] == 6
    assert_same_end(tmp_path / "straight", straight, folder, resumed)


@pytest.mark.slow
def test_a_checkpoint_that_counts_batches_resumes_exactly(straight, tmp_path):
    folder, results = straight
    run_killed(RESUMABLE, tmp_path, 7)
    checkpoint = torch.load(tmp_path / LAST, weights_only=True)
    position = checkpoint["position"]  # of this version; earlier ones had the number of the batch
    position["batch"] = position.pop("step")
    torch.save(checkpoint, tmp_path / LAST)
    assert_same_end(folder, results, tmp_path, run([*RESUMABLE, f"ckpt={tmp_path}"], tmp_path))


def test_a_resume_with_different_batches_restarts_the_epoch(tmp_path, caplog):
    run_killed(RESUMABLE, tmp_path, 8)
    assert read_checkpoint(tmp_path / LAST)["position"]["step"] == 3
    with caplog.at_level(logging.WARNING):
        results = run([*RESUMABLE, "recipe.batch_size=8", f"ckpt={tmp_path}"], tmp_path)
    assert "epoch 2 starts again" in caplog.text
    assert results["steps"] == 13  # 8 before the resume, 5 after it
    with (tmp_path / "csv" / "version_1" / "metrics.csv").open() as stream:
        assert next(csv.DictReader(stream))["step"] == "8"


def test_a_resume_restores_the_configuration_but_not_what_an_optimizer_counts():
    task = NumbersTask(reference_batch=8, lr=0.01)
    task.make_optimizer = lambda model: lookahead(model.parameters(), 0.01, (0.9, 0.99), 0.1)
    group = task.configure_optimizers().param_groups[0]
    assert group["lookahead_step"] == 0
    assert "lookahead_step" not in task.settings[0]
    assert {"lr": 0.01, "weight_decay": 0.1}.items() <= task.settings[0].items()
