"""`action=benchmark` at sizes that take no time: what is run, and what it leaves."""

import itertools
import json
import logging
import sys

import pytest
import torch

from parcnet_train.benchmarks import operator, training_step
from parcnet_train.benchmarks.operator import time_operators, variant
from parcnet_train.benchmarks.training_step import variants_of
from parcnet_train.models.layers.circular import ALGORITHMS, circular_conv
from running import configure, run

SHAPE = (2, 3, 4, 6)
SPEEDS = ("milliseconds", "milliseconds_min", "milliseconds_max", "ratio")


def test_operator_writes_every_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(operator, "SHAPES", (SHAPE,))
    overrides = ["action=benchmark", "benchmark.repeats=2", "trainer.accelerator=cpu"]
    results = run(overrides, tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    keys = {
        "/".join(("operator", "2x3x4x6", *names))
        for names in itertools.product(
            ("nchw", "channels_last"),
            ("float32", "bfloat16"),
            ("height", "width", "both"),
            ("forward", "forward_backward"),
            ("convolution", "products", "fourier", "auto"),
            SPEEDS,
        )
    }
    assert {key for key in results if key.startswith("operator/")} == keys
    assert results["operator/2x3x4x6/nchw/float32/both/forward/convolution/ratio"] == 1
    assert (results["target"], results["repeats"]) == ("operator", 2)
    assert "2 x 3 x 4 x 6; ms: median (least-most)" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("which", ["forward", "forward_backward"])
def test_a_variant_runs_what_it_is_called(layout, dtype, axis, which, monkeypatch):
    seen = {}

    def record(x, kernel, axis, algorithm):
        y = circular_conv(x, kernel, axis, algorithm=algorithm)
        seen.update(x=x, kernel=kernel, axis=axis, algorithm=algorithm, y=y)
        for name, tensor in (("dx", x), ("dk", kernel)):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient, name=name: seen.update({name: gradient}))
        return y

    monkeypatch.setattr(operator, "circular_conv", record)
    variant(SHAPE, layout, dtype, axis, which, "convolution", torch.device("cpu"))()
    assert (seen["axis"], seen["algorithm"]) == ({"height": 2, "width": 3}[axis], "convolution")
    assert seen["x"].shape == SHAPE
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert seen["x"].is_contiguous(memory_format=memory)
    assert seen["x"].dtype == seen["y"].dtype == getattr(torch, dtype)
    assert seen["kernel"].dtype == torch.float32
    assert tuple(seen["kernel"].shape) == {"height": (3, 1, 4, 1), "width": (3, 1, 1, 6)}[axis]
    assert ("dx" in seen, "dk" in seen) == (which == "forward_backward",) * 2


def test_both_is_the_sum_of_the_axes_turn_by_turn():
    timings = time_operators(SHAPE, 3, torch.device("cpu"))
    for layout, dtype, which in itertools.product(
        ("nchw", "channels_last"), ("float32", "bfloat16"), ("forward", "forward_backward")
    ):
        height, width, both = (
            timings[layout, dtype, axis, which]["products"].milliseconds
            for axis in ("height", "width", "both")
        )
        assert both == tuple(a + b for a, b in zip(height, width, strict=True))


def test_the_shapes_are_those_of_the_paper_and_the_awkward_ones():
    shapes = operator.SHAPES
    assert shapes[:3] == ((32, 96, 32, 32), (32, 128, 16, 16), (32, 160, 8, 8))
    assert any(height != width for _, _, height, width in shapes)
    assert any(batch == 1 for batch, *_ in shapes)
    assert any(height < 8 for _, _, height, _ in shapes)
    assert set(operator.CHOICES) == {*ALGORITHMS, "auto"}


STEP = ("action=benchmark", "benchmark.target=train_step", "benchmark.repeats=1")
TINY = ("benchmark.batch_size=2", "benchmark.image_size=[32,64]", "trainer.accelerator=cpu")
EVERYTHING = tuple(itertools.product(("nchw", "channels_last"), ("float32", "bfloat16")))


def test_train_step_writes_every_variant(tmp_path, capsys):
    results = run([*STEP, *TINY, "backbone=parcnet_xs"], tmp_path)
    released = "parcnet_xs_convolution/nchw/float32/system_memory"
    variants = [released, "parcnet_xs_convolution/nchw/float32"]
    variants += [
        f"{network}/{layout}/{dtype}"
        for network in ("parcnet_xs", "timm.mobilevit_s")
        for layout, dtype in EVERYTHING
    ]
    keys = [f"train_step/{variant}/{name}" for variant in variants for name in SPEEDS]
    assert [key for key in results if key.startswith("train_step/")] == keys
    assert results[f"train_step/{released}/ratio"] == 1
    assert (results["backbone"], results["image_size"]) == ("parcnet_xs", [32, 64])
    assert results == json.loads((tmp_path / "results.json").read_text())
    out = capsys.readouterr().out
    assert "training step, 2 x 3 x 32 x 64, cpu; ms" in out
    assert f"faster than {released}" in " ".join(out.split())


def test_memory_can_be_left_to_the_c_library_for_all(tmp_path):
    overrides = ("backbone=parcnet_xs", "benchmark.keep_memory=false")
    results = run([*STEP, *TINY, *overrides], tmp_path)
    assert results["keeps_memory"] is False
    steps = [key for key in results if key.startswith("train_step/")]
    assert steps[0] == "train_step/parcnet_xs_convolution/nchw/float32/system_memory/milliseconds"
    assert all("/system_memory/" in key for key in steps)


def named_networks(*overrides):
    values, faults = configure([*STEP, *overrides])
    assert faults == []
    return [(str(variant), network) for variant, network in variants_of(values)]


def test_the_reference_is_the_form_of_the_paper_and_the_rest_is_as_configured():
    (reference, first), (_, second), *_ = named_networks("backbone=parcnet_xs")
    assert reference == "parcnet_xs_convolution/nchw/float32"
    for network, algorithm in ((first, "convolution"), (second, "auto")):
        used = {m.algorithm for m in network.modules() if hasattr(m, "algorithm")}
        assert used == {algorithm}


def test_a_backbone_without_circular_convolutions_is_its_own_reference(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "timm", None)
    with caplog.at_level(logging.WARNING):
        names = [name for name, _ in named_networks("backbone=mobilevit_xxs")]
    assert names == [f"mobilevit_xxs/{layout}/{dtype}" for layout, dtype in EVERYTHING]
    assert "timm.mobilevit_s is left out: timm is not installed" in caplog.text


def test_compile_adds_variants(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    networks = named_networks("backbone=mobilevit_xxs", "benchmark.compile=true")
    assert [name for name, _ in networks[4:]] == [
        f"mobilevit_xxs_compiled/{layout}/{dtype}" for layout, dtype in EVERYTHING
    ]
    compiled = [network._compiled_call_impl is not None for _, network in networks]
    assert compiled == [False] * 4 + [True] * 4


def test_a_step_trains_in_its_layout_and_dtype():
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
