"""`action=benchmark` at sizes that take no time: what is run, and what it leaves."""

import itertools
import json

import pytest

from benchmarking import EVERYTHING, SHAPE, STEP
from parcnet_train.benchmarks import operator
from running import run

SPEEDS = ("milliseconds", "milliseconds_min", "milliseconds_max", "ratio")


def test_operator_writes_every_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(operator, "SHAPES", (SHAPE,))
    monkeypatch.setattr(operator, "LEAST", 0.0)
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
    assert "2 x 3 x 4 x 6; ms: median (min-max)" in capsys.readouterr().out


TINY = ("benchmark.batch_size=2", "benchmark.image_size=[32,64]", "trainer.accelerator=cpu")


@pytest.mark.slow
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
    assert f"speedup over {released}" in " ".join(out.split())


@pytest.mark.slow
def test_memory_can_be_left_to_the_c_library_for_all(tmp_path):
    overrides = ("backbone=parcnet_xs", "benchmark.keep_memory=false")
    results = run([*STEP, *TINY, *overrides], tmp_path)
    assert results["keeps_memory"] is False
    steps = [key for key in results if key.startswith("train_step/")]
    assert steps[0] == "train_step/parcnet_xs_convolution/nchw/float32/system_memory/milliseconds"
    assert all("/system_memory/" in key for key in steps)
