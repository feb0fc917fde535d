"""`benchmark.target=plan`: what it writes, prints and leaves."""

import json

import pytest

from parcnet_train.errors import ConfigError
from parcnet_train.tasks.classification import ClassificationTask
from running import TINY, faults_of, run

PLAN = (
    "action=benchmark",
    "benchmark.target=plan",
    "benchmark.repeats=2",
    "trainer.accelerator=cpu",
)
WHOLE = ("trainer.limit_train_batches=6", "trainer.max_epochs=5")
SMALL_STEPS = ("recipe.multi_scale.rule=balanced", "recipe.batch_size=2", "recipe.image_size=64")
PARTS = ("device", "loader", "exchange", "evaluation", "saving", "epochs", "fixed")


def test_plan_of_the_demonstration(tmp_path, capsys):
    results = run([*TINY, *PLAN, *WHOLE, "trainer=ddp", "trainer.devices=2"], tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["epochs"] == 5
    for devices in (1, 2, 8, 64):
        parts = [results[f"plan/{devices}/seconds/{part}"] for part in PARTS]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(results[f"plan/{devices}/seconds/total"])
        assert results[f"plan/{devices}/global_batch"] == 4 * devices
    assert results["plan/1/seconds/exchange"] == 0
    # 18 steps x 2 (n - 1) / n x gradients / 12.5 GB/s.
    exchange = 5 * 6 * 2 * 7 / 8 * results["gradient_bytes"] / 12.5e9
    assert results["plan/8/seconds/exchange"] == pytest.approx(exchange)
    assert results["loader/workers_needed"] >= 1
    assert 0 < results["memory/peak_bytes"] < results["memory/total_bytes"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["results.json"]
    out = capsys.readouterr().out
    assert "Bottleneck: " in out
    assert "GiB at the peak" in out
    assert "run directory" not in out  # of the short training


def test_plan_is_about_the_size_of_the_training():
    # 100 is no multiple of the stride; without a plan, a benchmark has images of its own size.
    overrides = ("recipe.image_size=100", "action=benchmark")
    assert faults_of(*overrides) == []
    (fault,) = faults_of(*overrides, "benchmark.target=plan")
    assert "recipe.image_size=100" in fault


def test_fault_of_a_training_is_a_fault_of_its_plan(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe\.multi_scale"):
        run([*TINY, *PLAN, "recipe=imagenet_300e", *SMALL_STEPS], tmp_path)


def test_interrupted_plan_says_so_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ClassificationTask, "training_step", interrupted)
    with pytest.raises(SystemExit, match="130"):
        run([*TINY, *PLAN, *WHOLE], tmp_path)
    assert caplog.messages[-1].startswith("stopped while measuring; there is no plan")
    assert list(tmp_path.iterdir()) == []
