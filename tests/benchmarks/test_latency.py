"""Latencies: what is timed, and how far outputs are apart."""

import numpy as np
import pytest
import torch
from torch import nn

from parcnet_train.benchmarks.latency import (
    Candidate,
    Latencies,
    difference,
    time_networks,
    torch_threads,
)


class Network(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def test_every_candidate_is_timed_as_often_as_asked(tmp_path):
    candidate = Candidate("mean", "plain", "pytorch")
    found = time_networks({"mean": Network()}, (8, 16), [candidate], tmp_path, 1, 3, 1)
    assert len(found.milliseconds[candidate]) == 3
    assert found.differences == {candidate: 0}
    assert [each.name for each in tmp_path.iterdir()] == ["time_models.py"]


def test_results_have_a_key_for_each_candidate_and_number():
    candidate = Candidate("parcnet_s", "baked", "mnn")
    found = Latencies((8, 8), {candidate: [1.0, 3.0, 2.0]}, {candidate: 1e-6}, None)
    results = dict(found.results())
    assert results["latency/parcnet_s/baked/mnn/milliseconds"] == 2
    assert results["latency/parcnet_s/baked/mnn/difference"] == 1e-6


def test_differences_are_in_units_of_the_standard_deviation():
    expected = np.array([[1.0, 3.0]])  # whose standard deviation is 1
    found = np.array([[1.0, 3.25]])
    assert difference(found, expected) == pytest.approx(0.25)


def test_torch_has_its_threads_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
