"""Timings of a training step."""

import logging
import sys

import torch

from benchmarking import EVERYTHING, STEP
from parcnet_train.benchmarks import training_step
from parcnet_train.benchmarks.training_step import variants_of
from running import configure


def named_networks(*overrides):
    values, faults = configure([*STEP, *overrides])
    assert faults == []
    return [(str(variant), network) for variant, network in variants_of(values)]


def test_reference_is_as_in_the_paper_and_other_variants_as_configured():
    (reference, first), (_, second), *_ = named_networks("backbone=parcnet_xs")
    assert reference == "parcnet_xs_convolution/nchw/float32"
    for network, algorithm in ((first, "convolution"), (second, "auto")):
        used = {m.algorithm for m in network.modules() if hasattr(m, "algorithm")}
        assert used == {algorithm}


def test_backbone_without_circular_convolutions_is_its_own_reference(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "timm", None)
    with caplog.at_level(logging.WARNING):
        names = [name for name, _ in named_networks("backbone=mobilevit_xxs")]
    assert names == [f"mobilevit_xxs/{layout}/{dtype}" for layout, dtype in EVERYTHING]
    assert "timm.mobilevit_s is left out" in caplog.text
    assert "timm is not installed" in caplog.text


def test_compile_adds_variants(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    networks = named_networks("backbone=mobilevit_xxs", "benchmark.compile=true")
    assert [name for name, _ in networks[4:]] == [
        f"mobilevit_xxs_compiled/{layout}/{dtype}" for layout, dtype in EVERYTHING
    ]
    compiled = [network._compiled_call_impl is not None for _, network in networks]
    assert compiled == [False] * 4 + [True] * 4


def test_step_trains_in_its_layout_and_dtype():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 1000, 1)

        def forward(self, images):
            self.seen = images, self.conv(images)
            return self.seen[1].mean((2, 3))

    network = Network().eval()
    before = network.conv.weight.clone()
    wanted = training_step.Variant("any", "channels_last", "bfloat16")
    training_step.training_step(network, wanted, 2, (4, 8), torch.device("cpu"))()
    images, output = network.seen
    assert network.training
    assert tuple(images.shape) == (2, 3, 4, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert output.dtype == torch.bfloat16
    assert not torch.equal(network.conv.weight, before)


def test_peak_memory_of_a_gpu_is_that_of_the_second_step(monkeypatch):
    """The first one allocates gradients and the state of the optimizer, which stay."""
    held = peak = 100

    def step():
        nonlocal held, peak
        held = 150
        peak = max(peak, held + 30)

    def reset(device):
        nonlocal peak
        peak = held

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    assert training_step.peak_memory(step, torch.device("cuda")) == 30
