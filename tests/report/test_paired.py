import numpy as np
import pytest
from scipy import stats

from parcnet_train.report.paired import NOISE, half_interval, paired_difference


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_interval_matches_the_paired_t_test(count):
    rng = np.random.default_rng(count)
    ours, baseline = rng.normal(78.6, 0.1, count), rng.normal(78.4, 0.1, count)
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(baseline)))
    expected = stats.ttest_rel(ours, baseline).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((ours - baseline).mean())
    assert found.seeds == tuple(range(count))


def test_confidence_can_be_chosen():
    ours, baseline = [1.0, 2.5, 2.0], [0.5, 1.0, 1.25]
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(baseline)), 0.5)
    expected = stats.ttest_rel(ours, baseline).confidence_interval(0.5)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_only_shared_seeds_are_compared():
    found = paired_difference({0: 3.0, 2: 5.0, 7: 100.0}, {2: 3.0, 0: 2.0, 1: -100.0})
    assert found.seeds == (0, 2)
    assert found.mean == 1.5


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([1.0, 1.1, 0.9], "higher"),
        ([-1.0, -1.1, -0.9], "lower"),
        ([1.0, -1.0, 0.5], NOISE),
        ([1.0, 2.0], NOISE),  # two seeds give a wide interval: t is 12.7
        ([0.25, 0.25, 0.25], NOISE),  # equal differences give no estimate of the noise
        ([0.1 + 0.2, 0.3, 0.3], NOISE),  # equal except for rounding
        ([5.0], "one seed only"),
    ],
)
def test_verdict(differences, verdict):
    found = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(5), 0.0))
    assert found.verdict == verdict


def test_without_shared_seed_difference_is_none():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_half_interval_is_that_of_students_t():
    # 0.975 quantile of t with 2 degrees of freedom: 4.302653 (any table); standard deviation 1.
    assert half_interval([50, 52, 51]) == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert half_interval([50]) is None
