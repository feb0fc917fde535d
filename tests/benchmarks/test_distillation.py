"""`benchmark.target=distillation`: what is timed, and what is written; not the times."""

import json

import pytest
import torch

from parcnet_train.benchmarks import distillation
from parcnet_train.benchmarks.distillation import Cost, time_teacher
from parcnet_train.benchmarks.timing import Timing
from parcnet_train.errors import ConfigError
from running import configure, run

OVERRIDES = (
    *("action=benchmark", "benchmark.target=distillation", "backbone=parcnet_xs"),
    *("benchmark.repeats=2", "benchmark.batch_size=2", "benchmark.image_size=[64,32]"),
    *("trainer.accelerator=cpu", "benchmark.teacher=mobilevit_xxs"),
)
NUMBERS = ("milliseconds", "milliseconds_min", "milliseconds_max", "ratio")
NAMES = ("without_teacher", "with_teacher", "forward")


def test_results_have_both_steps_the_forward_pass_and_the_overhead(tmp_path, capsys):
    results = run(OVERRIDES, tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    keys = [f"distillation/{name}/{number}" for name in NAMES for number in NUMBERS]
    found = [key for key in results if key.startswith("distillation/")]
    assert found == [*keys, "distillation/overhead"]
    assert all(results[key] > 0 for key in keys)
    assert results["distillation/without_teacher/ratio"] == 1
    named = (results["target"], results["backbone"], results["teacher"])
    assert named == ("distillation", "parcnet_xs", "mobilevit_xxs")
    assert (results["batch_size"], results["image_size"]) == (2, [64, 32])
    out = " ".join(capsys.readouterr().out.split())
    assert "parcnet_xs learns from mobilevit_xxs, 2 x 3 x 64 x 32, cpu; the teacher adds" in out
    for words in ("step without a teacher", "step with a teacher", "teacher's forward pass"):
        assert words in out


def test_overhead_is_the_added_time_in_forward_passes():
    """The rounds add 1.5, 3 and 1 forward passes."""
    times = {
        "without_teacher": Timing((10.0, 20.0, 10.0)),
        "with_teacher": Timing((13.0, 26.0, 11.0)),
        "forward": Timing((2.0, 2.0, 1.0)),
    }
    assert Cost(times).overhead == 1.5


def test_steps_train_their_student_and_only_one_has_the_teacher(monkeypatch):
    values, faults = configure(OVERRIDES)
    assert faults == []
    variants = {}
    monkeypatch.setattr(distillation, "take_turns", lambda given, *_: variants.update(given) or {})
    seen = []
    training_step = distillation.training_step

    def noted(config, task, batch):
        seen.append((task, batch))
        return training_step(config, task, batch)

    monkeypatch.setattr(distillation, "training_step", noted)
    time_teacher(values, values, (64, 32), torch.device("cpu"))
    assert list(variants) == list(NAMES)
    (plain, first), (taught, second) = seen
    assert first is second
    assert plain.distillation is None
    assert taught.distillation.settings.kind == "soft"
    teacher = taught.distillation.teacher
    assert not teacher.training
    weights = [next(each.parameters()).detach().clone() for each in (plain, taught, teacher)]
    passes = []
    teacher.backbone.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    for name, number in (("without_teacher", 0), ("with_teacher", 1), ("forward", 2)):
        variants[name]()
        assert passes == [False] * number
    now = [next(each.parameters()) for each in (plain, taught, teacher)]
    assert list(map(torch.equal, weights, now)) == [False, False, True]


def test_unknown_teacher_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"benchmark\.teacher=parcnet_z: .*parcnet_z"):
        run([*OVERRIDES, "benchmark.teacher=parcnet_z"], tmp_path)
