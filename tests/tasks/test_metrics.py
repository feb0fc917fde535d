from fractions import Fraction

import numpy as np
import pytest
import torch

from parcnet_train.tasks.metrics import Accuracy, ExactMean


def mean_of(*updates):
    metric = ExactMean()
    for update in updates:
        metric.update(*update)
    return metric.compute()


def many(number=1000):
    random = np.random.default_rng(0)
    sizes = 10.0 ** random.uniform(-8, 6, number)
    return torch.tensor(sizes * random.choice([-1, 1], number), dtype=torch.float32)


def test_mean_matches_exact_fractions():
    values = many()
    exact = sum(map(Fraction, values.tolist())) / len(values)
    assert mean_of((values,)).item() == np.float32(float(exact))


def test_float64_is_not_rounded_first():
    values = torch.tensor([1 + 2**-30, 3], dtype=torch.float64)
    metric = ExactMean()
    metric.update(values)
    assert (metric.whole.item(), metric.units.item()) == (4, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_values_are_exact(dtype):
    values = torch.tensor([0.1, 7.3, -2.6], dtype=dtype)
    exact = sum(map(Fraction, values.tolist())) / 3
    assert mean_of((values,)).item() == pytest.approx(float(exact), rel=1e-7)


def test_mean_does_not_depend_on_order_batches_or_processes():
    values = many(997)
    whole = mean_of((values,))
    # Floating-point sums depend on the order, which is why this metric exists.
    assert values.sum() != values[torch.randperm(997)].sum() or values.sum() != values.flip(0).sum()
    shuffled = values[torch.randperm(997, generator=torch.Generator().manual_seed(1))]
    assert mean_of(*((batch,) for batch in shuffled.split(7))) == whole
    processes = [ExactMean() for _ in range(3)]
    for rank, metric in enumerate(processes):
        metric.update(shuffled[rank::3])
    first, *others = processes
    for other in others:
        first.merge_state(other)
    assert first.compute() == whole


def test_counts_weight_values_and_0_leaves_them_out():
    batches = [torch.tensor([1.5, 2.5]), torch.tensor([4.0])]
    weighted = [(batch.mean(), torch.tensor(len(batch))) for batch in batches]
    assert mean_of(*weighted) == pytest.approx(8 / 3)
    values = torch.tensor([1.5, torch.nan, torch.inf])
    assert mean_of((values, torch.tensor([True, False, False]))) == 1.5


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 2.0**31])
def test_a_non_finite_value_makes_the_mean_infinite(value):
    assert mean_of((torch.tensor([1.0, value]),)).isinf()


def test_mean_of_no_values_is_nan():
    empty = torch.tensor([1.0]), torch.tensor([0])
    assert mean_of(empty).isnan()


def test_large_values_do_not_overflow():
    values = torch.full((10_000,), 2.0**31 - 128)
    assert mean_of((values, torch.full((10_000,), 100_000))) == 2.0**31 - 128


def test_accuracy_without_labels_is_nan():
    metric = Accuracy(3, average="micro", ignore_index=-1)
    metric.update(torch.eye(3), torch.tensor([-1, -1, -1]))
    assert metric.compute().isnan()
    metric.update(torch.eye(3), torch.tensor([0, 2, -1]))
    assert metric.compute() == 0.5
