"""A training with `recipe.distillation`: its teacher, its checkpoints, and its faults."""

import pytest
import timm
import torch

from faults import assert_one_is
from parcnet_train.actions import fit
from parcnet_train.actions.teacher import build_distillation
from parcnet_train.build import build_model
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError
from parcnet_train.visualize.curves import read_series
from running import TINY, act, composed, configure, faults_of, run


def distilled(teacher, kind="soft", **more):
    settings = {"teacher": str(teacher), "kind": kind, **more}
    return "recipe.distillation={" + ",".join(f"{k}: {v}" for k, v in settings.items()) + "}"


@pytest.mark.parametrize("kind", [pytest.param("soft", marks=pytest.mark.slow), "feature"])
def test_student_learns_and_its_checkpoint_has_no_teacher(trained, tmp_path, kind):
    results = run([*TINY, distilled(trained[0], kind)], tmp_path)
    plain = run([*TINY], tmp_path / "plain")
    assert results["val/loss"] != plain["val/loss"]
    state = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    others = {name for name in state["state_dict"] if not name.startswith("model.")}
    projections = {"projections.0.weight", "projections.0.bias"} if kind == "feature" else set()
    assert {name for name in others if name.startswith("projections")} == projections
    assert not any("teacher" in name for name in others)
    ours = read_checkpoint(tmp_path / "plain" / "checkpoints" / "last.ckpt")["state_dict"]
    assert state["state_dict"].keys() - projections == ours.keys()
    assert results["parameters"] == plain["parameters"]
    for name in projections:  # they are trained, and averaged like the weights of the model
        assert not torch.equal(state["current_model_state"][name], state["state_dict"][name])


@pytest.mark.slow
def test_share_of_zero_is_a_training_without_teacher(trained, tmp_path):
    results = run([*TINY, distilled(trained[0], alpha=0.0)], tmp_path / "none")
    plain = run([*TINY], tmp_path / "plain")
    for name in ("val/loss", "train/loss", "val/top1"):
        assert results[name] == plain[name]


@pytest.mark.parametrize(
    ("task", "levels"),
    [
        ("detection", [16, 32]),
        pytest.param("segmentation", [8, 16], marks=pytest.mark.slow),
    ],
)
def test_dense_tasks_learn_feature_maps(trained, tmp_path, task, levels):
    tiny = [f"task={task}", *(each for each in TINY if "image_size" not in each)]
    results = run(
        [*tiny, "recipe.image_size=64", distilled(trained[0], "feature", levels=levels)],
        tmp_path,
    )
    assert results["status"] == "done"
    state = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert sum(name.startswith("projections.") for name in state) == 4


@pytest.mark.slow
def test_run_with_other_projections_is_not_resumed(trained, tmp_path):
    run([*TINY, distilled(trained[0], "feature")], tmp_path)
    values = composed(*TINY, f"ckpt={tmp_path}", "trainer.max_epochs=2")
    values["paths"]["output"] = str(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        act(values)
    assert_one_is("ckpt=… recipe.distillation=… projections … Fix: …", [str(caught.value)])


def test_teacher_with_other_classes_is_refused(trained, tmp_path, image_folder):
    overrides = [*TINY, "data=imagefolder", f"data.root={image_folder}", "data.num_workers=0"]
    with pytest.raises(CheckpointError) as caught:
        run([*overrides, distilled(trained[0])], tmp_path)
    assert_one_is(
        f"recipe.distillation.teacher={trained[0]}: … classes … Fix: …", [str(caught.value)]
    )
    assert run([*overrides, distilled(trained[0], "feature")], tmp_path)["status"] == "done"


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["task=detection", "{soft}"], "kind=soft: task=detection … expected feature"),
        (["{levels}"], "recipe.distillation.levels: kind=soft … expected kind=feature"),
        (["{stride}"], "the student has no level of stride 64; expected one of"),
        (
            ["recipe.distillation={{teacher: nowhere}}"],
            "recipe.distillation.teacher=nowhere: … cannot be read",
        ),
        (["recipe.distillation={{kind: soft}}"], "recipe.distillation.teacher"),
        (["{temperature}"], "recipe.distillation.temperature=0: … expected"),
        (["{key}"], "recipe.distillation.knd: … kind"),
    ],
    ids=["task", "levels", "stride", "file", "no teacher", "temperature", "key"],
)
def test_faults_are_one_line_each(trained, overrides, fault):
    given = {
        "soft": distilled(trained[0]),
        "levels": distilled(trained[0], levels="[32]"),
        "stride": distilled(trained[0], "feature", levels="[64]"),
        "temperature": distilled(trained[0], temperature=0),
        "key": distilled(trained[0], knd="soft"),
    }
    faults = faults_of("backbone=parcnet_xs", *(each.format(**given) for each in overrides))
    assert_one_is(fault, faults)
    assert len(faults) == 1


def test_an_evaluation_needs_no_teacher():
    values, faults = configure(["action=profile", distilled("nowhere")])
    assert faults == []
    assert values["recipe"]["distillation"]["teacher"] == "nowhere"


@pytest.mark.parametrize("kind", ["soft", "feature"])
def test_network_of_timm_teaches_with_its_own_weights(tmp_path, kind):
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    given = distilled("mobilenetv3_small_050", kind, weights=tmp_path / "theirs.pth")
    values, faults = configure([*TINY, given])
    assert faults == []
    student = build_model(values, 10)
    teacher = build_distillation(values, student, list("0123456789")).teacher
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(theirs.pretrained_cfg[k])[:, None, None] for k in ("mean", "std"))
    with torch.inference_mode():
        if kind == "soft":
            expected = theirs.eval()((images - mean) / std)
            torch.testing.assert_close(teacher(images), expected)
        else:
            expected = theirs.eval().forward_intermediates(
                (images - mean) / std, intermediates_only=True
            )[-1]
            torch.testing.assert_close(teacher.encode(images)[-1], expected)


def test_faults_of_a_teacher_of_timm_are_one_line_each(tmp_path):
    weights = timm.create_model("mobilenetv3_small_050", num_classes=7).state_dict()
    torch.save(weights, tmp_path / "theirs.pth")
    for name, file, fault in (
        ("mobilenetv3_small_05", "theirs.pth", "timm … has no such network"),
        ("mobilenetv3_small_050", "other.pth", "recipe.distillation.weights=… does not exist"),
        ("mobilenetv3_small_100", "theirs.pth", "recipe.distillation.weights=… not the weights"),
    ):
        faults = faults_of(*TINY, distilled(name, weights=tmp_path / file))
        assert_one_is(fault, faults)
    values, faults = configure(
        [*TINY, distilled("mobilenetv3_small_050", weights=tmp_path / "theirs.pth")]
    )
    assert faults == []
    with pytest.raises(CheckpointError, match="its classifier is not for the 10 classes"):
        build_distillation(values, build_model(values, 10), list("0123456789"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["soft", "feature"])
def test_compiled_training_with_a_teacher_has_the_same_loss(trained, tmp_path, monkeypatch, kind):
    teachers, calls = [], []

    def build(*arguments):
        distillation = build_distillation(*arguments)
        teachers.append(distillation.teacher)
        if (compiled := distillation.teacher.backbone._compiled_call_impl) is not None:

            def counted(*images):
                calls.append(None)
                return compiled(*images)

            distillation.teacher.backbone._compiled_call_impl = counted
        return distillation

    monkeypatch.setattr(fit, "build_distillation", build)
    # A compiled network draws other masks.
    without_dropout = ["backbone.dropout=0", "head.dropout=0"]
    overrides = [*TINY, *without_dropout, distilled(trained[0], kind)]
    plain = run(overrides, tmp_path / "plain")
    assert calls == []
    compiled = run([*overrides, "compile=true"], tmp_path / "compiled")
    assert len(calls) == compiled["steps"] == 2
    for part in ("backbone", "head"):
        found = [getattr(each, part)._compiled_call_impl is not None for each in teachers]
        assert found == [False, True]
    losses = [
        read_series(tmp_path / run / "csv")["train/loss_step"][1] for run in ("plain", "compiled")
    ]
    assert losses[1][0] == pytest.approx(losses[0][0], abs=1e-5)
    # AdamW's first step has the size of the learning rate, however small a gradient is: rounding
    # decides the sign of some.
    assert losses[1][1] == pytest.approx(losses[0][1], abs=1e-3)
    assert compiled["val/loss"] == pytest.approx(plain["val/loss"], abs=1e-4)
    states = [
        read_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt")
        for run in ("plain", "compiled")
    ]
    for part in ("state_dict", "current_model_state"):
        assert states[0][part].keys() == states[1][part].keys()
        assert not any("_orig_mod" in name or "teacher" in name for name in states[1][part])
