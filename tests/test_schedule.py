import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from parcnet_train.schedule import warmup_cosine

# ParC-Net's released values; the run is shorter.
RELEASED = {"max_lr": 0.004, "min_lr": 0.0004, "warmup_lr": 0.0004, "warmup_steps": 30}


def rate(step, *, max_lr, **settings):
    return max_lr * warmup_cosine(step, max_lr=max_lr, **settings)


def torch_rates(scheduler, steps, max_lr, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=max_lr)
    schedule = scheduler(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_warm_up_is_the_released_formula():
    for step in range(30):
        expected = 0.0004 + step * (0.004 - 0.0004) / 30
        assert rate(step, total_steps=300, **RELEASED) == pytest.approx(expected, rel=1e-12)


def test_warm_up_is_torchs_linear_schedule():
    expected = torch_rates(LinearLR, 30, 0.004, start_factor=0.1, end_factor=1.0, total_iters=30)
    got = [rate(step, total_steps=300, **RELEASED) for step in range(30)]
    assert got == pytest.approx(expected, rel=1e-9)


def test_cosine_is_torchs_annealing():
    expected = torch_rates(CosineAnnealingLR, 301, 0.004, T_max=300, eta_min=0.0004)
    got = [rate(step, max_lr=0.004, min_lr=0.0004, total_steps=300) for step in range(301)]
    assert got == pytest.approx(expected, rel=1e-9)


def test_cosine_is_not_shifted_by_the_warm_up():
    for step in (30, 31, 150, 299, 300):
        without = rate(step, max_lr=0.004, min_lr=0.0004, total_steps=300)
        assert rate(step, total_steps=300, **RELEASED) == without


def test_rates_at_epochs_3_and_299_are_the_released_ones():
    settings = {"max_lr": 0.004, "min_lr": 0.0004, "total_steps": 300}
    assert rate(3, **settings) == pytest.approx(0.0039991, abs=5e-8)
    assert rate(299, **settings) == pytest.approx(0.00040010, abs=5e-9)


def test_ends_of_the_run():
    settings = {"total_steps": 300, **RELEASED}
    assert rate(0, **settings) == pytest.approx(0.0004, rel=1e-12)
    assert rate(300, **settings) == pytest.approx(0.0004, rel=1e-12)
    assert rate(0, max_lr=0.004, total_steps=300) == pytest.approx(0.004, rel=1e-12)
    assert rate(300, max_lr=0.004, total_steps=300) == pytest.approx(0, abs=1e-18)
    assert rate(150, max_lr=0.004, min_lr=0.001, total_steps=300) == pytest.approx(0.0025)


@pytest.mark.parametrize("step", [301, 450, 600, 10**9])
def test_beyond_the_end_the_rate_stays_at_its_minimum(step):
    assert rate(step, total_steps=300, **RELEASED) == pytest.approx(0.0004, rel=1e-12)


def test_result_is_a_factor_of_the_largest_rate():
    assert warmup_cosine(0, max_lr=0.004, total_steps=10) == 1.0
    assert warmup_cosine(0, max_lr=123.0, total_steps=10) == 1.0
    half = warmup_cosine(5, max_lr=0.5, min_lr=0.1, total_steps=20)
    assert half == pytest.approx((0.1 + 0.2 * (1 + math.cos(math.pi / 4))) / 0.5)


def test_warm_up_longer_than_the_run_never_reaches_the_top():
    rates = [rate(step, max_lr=1.0, total_steps=10, warmup_steps=20) for step in range(10)]
    assert rates == pytest.approx([step / 20 for step in range(10)])


def test_run_without_steps_has_a_rate():
    assert warmup_cosine(0, max_lr=0.004, total_steps=0) == 1.0
