import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from parcnet_train.optim.schedule import Position, warmup_cosine, warmup_stable_decay

# ParC-Net's released values.
RELEASED = {"max_lr": 0.004, "min_lr": 0.0004, "warmup_lr": 0.0004, "warmup_steps": 3000}
IMAGENET = 1_281_167
REFERENCE = 1024


def rate(samples, epoch_length=IMAGENET, total_epochs=300, **settings):
    position = Position(samples, samples / epoch_length, total_epochs)
    return warmup_cosine(position, **{"reference_batch": REFERENCE, **settings})


def torch_rates(scheduler, steps, max_lr, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=max_lr)
    schedule = scheduler(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("batch", [1024, 128, 4096])
def test_warm_up_matches_the_release_for_any_batch_size(batch):
    for samples in range(0, 3000 * REFERENCE, 97 * batch):
        released_step = samples / REFERENCE
        expected = 0.0004 + released_step * (0.004 - 0.0004) / 3000
        assert rate(samples, **RELEASED) == pytest.approx(expected, rel=1e-12)


def test_warm_up_matches_torchs_linear_schedule():
    settings = {**RELEASED, "warmup_steps": 30}
    expected = torch_rates(LinearLR, 30, 0.004, start_factor=0.1, end_factor=1.0, total_iters=30)
    got = [rate(step * REFERENCE, **settings) for step in range(30)]
    assert got == pytest.approx(expected, rel=1e-9)


def test_cosine_per_step_matches_torchs_annealing():
    expected = torch_rates(CosineAnnealingLR, 301, 0.004, T_max=300, eta_min=0.0004)
    settings = {"epoch_length": 10 * REFERENCE, "total_epochs": 30}
    got = [rate(step * REFERENCE, max_lr=0.004, min_lr=0.0004, **settings) for step in range(301)]
    assert got == pytest.approx(expected, rel=1e-9)


def test_cosine_per_epoch_matches_the_release():
    for epoch, share in ((3, 0.0), (3, 0.999), (150, 0.5), (299, 0.0), (299, 0.9)):
        position = Position(int((epoch + share) * IMAGENET), epoch + share, 300)
        got = warmup_cosine(position, reference_batch=REFERENCE, per_epoch=True, **RELEASED)
        expected = 0.0004 + 0.5 * (0.004 - 0.0004) * (1 + math.cos(math.pi * epoch / 300))
        assert got == pytest.approx(expected, rel=1e-12)


def test_rates_at_epochs_3_and_299_match_the_release():
    # The release, with its configuration, gives 0.0039991 and 0.00040010, rounded to 8 decimals.
    for epoch, released in ((3, 0.0039991), (299, 0.00040010)):
        position = Position(epoch * IMAGENET, epoch + 0.5, 300)
        got = warmup_cosine(position, reference_batch=1, per_epoch=True, **RELEASED)
        assert got == pytest.approx(released, abs=5e-8)


def test_both_cosines_agree_at_the_start_of_an_epoch():
    for epoch in (3, 100, 299):
        position = Position(epoch * IMAGENET, float(epoch), 300)
        per_step = warmup_cosine(position, reference_batch=REFERENCE, **RELEASED)
        per_epoch = warmup_cosine(position, reference_batch=REFERENCE, per_epoch=True, **RELEASED)
        assert per_step == per_epoch


def test_cosine_is_not_shifted_by_the_warm_up():
    for step in (3000, 3001, 150_000):
        without = rate(step * REFERENCE, max_lr=0.004, min_lr=0.0004)
        assert rate(step * REFERENCE, **RELEASED) == without


def test_rates_at_the_start_and_the_end_of_the_run():
    assert rate(0, **RELEASED) == pytest.approx(0.0004, rel=1e-12)
    assert rate(300 * IMAGENET, **RELEASED) == pytest.approx(0.0004, rel=1e-12)
    assert rate(0, max_lr=0.004) == pytest.approx(0.004, rel=1e-12)
    assert rate(300 * IMAGENET, max_lr=0.004) == pytest.approx(0, abs=1e-18)
    assert rate(150 * IMAGENET, max_lr=0.004, min_lr=0.001) == pytest.approx(0.0025)


def test_rate_after_the_end_is_the_minimum():
    assert rate(301 * IMAGENET, **RELEASED) == pytest.approx(0.0004, rel=1e-12)


def test_warm_up_longer_than_the_run_does_not_reach_max_lr():
    settings = {"epoch_length": 10, "total_epochs": 1, "reference_batch": 1}
    rates = [rate(step, max_lr=1.0, warmup_steps=20, **settings) for step in range(10)]
    assert rates == pytest.approx([step / 20 for step in range(10)])


def test_warm_up_as_a_share_of_the_run():
    settings = {"epoch_length": 10, "total_epochs": 2, "reference_batch": 1, "warmup_share": 0.25}
    rates = [rate(step, max_lr=1.0, min_lr=0.1, **settings) for step in range(20)]
    assert rates[:5] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    cosine = [0.1 + 0.45 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert rates[5:] == pytest.approx(cosine[5:])
    in_steps = [rate(step, max_lr=1.0, warmup_steps=10, **settings) for step in range(10)]
    assert in_steps == pytest.approx([step / 10 for step in range(10)])


@pytest.mark.parametrize(
    ("epoch", "per_epoch", "expected"),
    [
        (0.0, False, 0.0004),  # the first step of the warm-up
        (5.0, False, 0.0022),  # its middle
        (10.0, False, 0.004),  # its end
        (79.9, False, 0.004),
        (90.0, False, 0.0022),  # half of the decay: the mean of 0.004 and 0.0004
        (95.0, False, 0.0013),
        (95.5, True, 0.0013),
        (100.0, False, 0.0004),
    ],
)
def test_stable_decay_is_a_ramp_a_constant_and_a_ramp(epoch, per_epoch, expected):
    position = Position(int(epoch * IMAGENET), epoch, 100)
    settings = {"max_lr": 0.004, "min_lr": 0.0004, "warmup_lr": 0.0004, "warmup_share": 0.1}
    got = warmup_stable_decay(
        position, reference_batch=REFERENCE, decay_share=0.2, per_epoch=per_epoch, **settings
    )
    assert got == pytest.approx(expected, rel=1e-9)


def test_without_a_decay_the_rate_stays_constant():
    for epoch in (0.0, 50.0, 99.99):
        position = Position(int(epoch * IMAGENET), epoch, 100)
        settings = {"max_lr": 0.004, "reference_batch": REFERENCE, "decay_share": 0.0}
        assert warmup_stable_decay(position, **settings) == 0.004


def test_warm_up_is_the_same_in_every_schedule():
    for samples in range(0, 3000 * REFERENCE, 97 * REFERENCE):
        position = Position(samples, samples / IMAGENET, 300)
        rates = [
            each(position, reference_batch=REFERENCE, **RELEASED)
            for each in (warmup_cosine, warmup_stable_decay)
        ]
        assert rates[0] == rates[1]
