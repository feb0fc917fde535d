"""`benchmark.target=detection`: the timed parts and the results."""

import json

import pytest
import torch

from parcnet_train.benchmarks import detection
from parcnet_train.benchmarks.detection import (
    Parts,
    loss_step,
    predict,
    random_objects,
    results_of,
    training_step,
)
from parcnet_train.benchmarks.timing import Timing
from parcnet_train.build import build_model
from parcnet_train.data.batches import UNLABELED
from running import configure, run

OVERRIDES = ("action=benchmark", "benchmark.target=detection", "task=detection")
TINY = (
    "backbone=parcnet_xs",
    "benchmark.repeats=2",
    "benchmark.batch_size=2",
    "benchmark.image_size=[64,32]",
    "trainer.accelerator=cpu",
)
NUMBERS = ("milliseconds", "milliseconds_min", "milliseconds_max")
EXTRA = {
    "training_step": (),
    "matching_and_loss": ("share",),
    "forward": (),
    "postprocessing": ("share",),
}
CPU = torch.device("cpu")


def test_results_contain_every_part(tmp_path, capsys):
    results = run([*OVERRIDES, *TINY], tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    keys = [f"detection/{part}/{n}" for part, extra in EXTRA.items() for n in (*NUMBERS, *extra)]
    keys.append("detection/postprocessing/boxes")
    assert [key for key in results if key.startswith("detection/")] == keys
    assert all(results[key] > 0 for key in keys)
    assert results["detection/matching_and_loss/share"] < 1
    assert (results["target"], results["backbone"]) == ("detection", "parcnet_xs")
    assert (results["batch_size"], results["image_size"]) == (2, [64, 32])
    out = " ".join(capsys.readouterr().out.split())
    assert "parcnet_xs, 2 x 3 x 64 x 32, cpu; " in out
    assert " boxes per image are above the threshold; ms: median (min-max)" in out
    assert all(part in out for part in EXTRA)


def test_settings_of_the_task_are_used(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(detection, "detect", lambda outputs, **settings: seen.append(settings))
    settings = ("task.score_threshold=0.9", "task.nms_iou=0.4", "task.candidates=30")
    results = run([*OVERRIDES, *TINY, *settings, "task.detections_per_image=20"], tmp_path)
    expected = {"score_threshold": 0.9, "nms_iou": 0.4, "candidates": 30, "per_image": 20}
    assert seen == [expected] * 3
    assert results["detection/postprocessing/boxes"] == 0


def test_other_tasks_are_an_error():
    _, faults = configure(["action=benchmark", "benchmark.target=detection"])
    assert faults == [
        "benchmark.target=detection: it does not support task=classification; expected "
        "task=detection"
    ]


def test_shares_are_medians_of_the_ratios_within_rounds():
    times = {"training_step": (10, 100, 1000), "matching_and_loss": (1, 20, 30)}
    times |= {"forward": (4, 4, 4), "postprocessing": (1, 2, 3)}
    parts = Parts({name: Timing(each) for name, each in times.items()}, boxes=5)
    results = dict(results_of(parts))
    assert results["detection/matching_and_loss/share"] == 0.1
    assert results["detection/matching_and_loss/milliseconds"] == 20
    assert results["detection/postprocessing/share"] == 0.5
    assert results["detection/postprocessing/boxes"] == 5


def test_number_of_objects_matches_coco():
    torch.manual_seed(0)
    boxes, labels = random_objects(500, CPU)
    real = labels != UNLABELED
    assert real.sum(dim=1).float().mean().item() == pytest.approx(7, abs=0.5)
    assert (real.sum(dim=1).min(), labels[real].min(), labels[real].max()) == (1, 1, 80)
    assert (real.long().diff(dim=1) <= 0).all()  # padding comes last
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()


@pytest.fixture
def parts():
    """A network, images, and a function that computes the loss of its outputs."""
    values, faults = configure([*OVERRIDES, *TINY])
    assert faults == []
    network = build_model(values, detection.CLASSES)
    seen = []

    def compute_loss(outputs):
        seen.append(outputs)
        return outputs.class_logits.square().sum() + outputs.box_offsets.square().sum()

    return network, torch.rand(2, 3, 64, 32), compute_loss, seen


def test_training_step_changes_all_parameters(parts):
    network, images, compute_loss, _ = parts
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    before = [weight.clone() for weight in weights]
    training_step(network.eval(), images, compute_loss)()
    assert network.training
    assert not any(map(torch.equal, before, weights))


def test_loss_step_computes_gradients_of_the_outputs_only(parts):
    network, images, compute_loss, seen = parts
    outputs = predict(network, images)
    step = loss_step(outputs, compute_loss)
    step()
    step()
    for leaves in seen:
        for leaf, output in zip(leaves[:2], outputs[:2], strict=True):
            assert leaf.is_leaf
            assert torch.equal(leaf, output)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_untrained_network_keeps_nearly_all_boxes(parts):
    network, *_ = parts
    outputs = predict(network.eval(), torch.rand(1, 3, 320, 320))
    assert not outputs.class_logits.requires_grad
    above = outputs.class_logits[0].softmax(dim=1)[:, 1:] > 0.01
    assert above.float().mean() > 0.8
