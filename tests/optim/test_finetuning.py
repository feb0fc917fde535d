"""Frozen stages, frozen BatchNorm and layer-wise learning rates, of every config."""

import csv
import logging
import re

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from parcnet_train.build import build_model, meta_device
from parcnet_train.checkpoints.checkpoints import model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.models.profiling.counts import on_meta
from parcnet_train.optim.finetuning import freeze, kinds_of, parameter_groups
from running import BACKBONES, LARGER_SLOWLY, TINY, composed, configure, run


def model_of(name):
    """Build on the meta device: autograd finds dependencies without values."""
    with meta_device():
        return on_meta(build_model(composed(f"backbone={name}"), num_classes=3))


def images_for(name):
    """Make images whose size needs no resizing of ParC's kernels, which has no gradient on meta."""
    size = composed(f"backbone={name}")["backbone"].get("meta_size", 256)
    return torch.empty(2, 3, size, size, device="meta")


def stage_numbers(backbone, images):
    """Assign each parameter to the first stage whose map depends on it (the definition)."""
    maps = backbone(images)
    found = {}
    for number, each in enumerate(maps):
        parameters = dict(backbone.named_parameters())
        gradients = torch.autograd.grad(
            each.sum(), parameters.values(), retain_graph=True, allow_unused=True
        )
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                found.setdefault(name, number)
    return found


@pytest.mark.parametrize("name", LARGER_SLOWLY)
def test_stages_hold_the_parameters_that_each_level_adds(name):
    backbone = model_of(name).backbone
    stages = backbone.stage_parameters()
    assert len(stages) == len(backbone.levels)
    names = {parameter: each for each, parameter in backbone.named_parameters()}
    told = {names[each]: number for number, stage in enumerate(stages) for each in stage}
    assert sum(map(len, stages)) == len(told)
    assert told == stage_numbers(backbone, images_for(name))


def names_of(model, parameters):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[each] for each in parameters}


def with_gradients(model, images):
    model(images).sum().backward()
    return names_of(model, [each for each in model.parameters() if each.grad is not None])


def norms_of(model):
    """Return the BatchNorms of the backbone, with the names of their parameters."""
    return [
        (each, names_of(model, each.parameters()))
        for each in model.backbone.modules()
        if isinstance(each, _BatchNorm)
    ]


@pytest.mark.parametrize("name", LARGER_SLOWLY)
def test_frozen_stages_get_no_gradient_and_keep_their_statistics(name):
    model = model_of(name)
    freeze(model, 2, batchnorm=False)
    model.eval().train()
    parts = model.backbone.stage_parameters()[:2]
    frozen = names_of(model, [parameter for part in parts for parameter in part])
    assert len(frozen) > 0
    assert with_gradients(model, images_for(name)) == names_of(model, model.parameters()) - frozen
    assert all(norm.training is not (names <= frozen) for norm, names in norms_of(model))
    assert all(each.training for each in model.head.modules())


@pytest.mark.parametrize("name", BACKBONES)
def test_the_whole_backbone_or_its_batchnorms_can_be_frozen(name):
    model = model_of(name)
    freeze(model, 0, batchnorm=True)
    model.eval().train()
    norms = norms_of(model)
    assert not any(norm.training for norm, _ in norms)
    frozen = {each for _, names in norms for each in names}
    assert names_of(model, [p for p in model.parameters() if not p.requires_grad]) == frozen
    freeze(model, "all", batchnorm=False)
    trained = names_of(model, [p for p in model.parameters() if p.requires_grad])
    assert trained == {f"head.{each}" for each, _ in model.head.named_parameters()}
    assert not any(each.training for each in model.backbone.modules() if list(each.parameters()))


@pytest.mark.parametrize("name", BACKBONES)
def test_groups_contain_every_trainable_parameter_once(name):
    model = model_of(name)
    freeze(model, 1, batchnorm=False)
    groups = parameter_groups(model, layer_decay=0.5)
    # The head has 1, the last stage before it 1/2, ...
    depths = reversed(range(len(model.backbone.levels)))
    assert [group["lr_scale"] for group in groups] == [0.5**depth for depth in depths]
    grouped = [each for group in groups for each in group["params"]]
    trained = [each for each in model.parameters() if each.requires_grad]
    assert len(grouped) == len(trained)
    assert set(grouped) == set(trained)
    assert set(groups[-1]["params"]) == set(model.head.parameters())
    # The first stage is frozen; of a backbone with one level, that leaves the head.
    rest = [*model.backbone.stage_parameters(), list(model.head.parameters())]
    assert set(groups[0]["params"]) == set(rest[1])
    assert parameter_groups(model, layer_decay=1) == [{"params": trained, "lr_scale": 1.0}]


def test_head_lr_scales_the_learning_rate_of_the_head():
    model = model_of("parcnet_xs")
    groups = parameter_groups(model, layer_decay=1, head_lr=10.0)
    assert groups == [
        {"params": list(model.backbone.parameters()), "lr_scale": 1.0},
        {"params": list(model.head.parameters()), "lr_scale": 10.0},
    ]
    groups = parameter_groups(model, layer_decay=0.5, head_lr=10.0)
    assert [group["lr_scale"] for group in groups] == [2.0**-5, 2.0**-4, 0.125, 0.25, 0.5, 10.0]
    assert groups[-1]["params"] == list(model.head.parameters())
    freeze(model, "all", batchnorm=False)
    (group,) = parameter_groups(model, layer_decay=1, head_lr=10.0)
    assert (len(group["params"]), group["lr_scale"]) == (len(list(model.head.parameters())), 10.0)


def test_frozen_syncbatchnorm_stays_frozen():
    model = model_of("parcnet_xs")
    freeze(model, 2, batchnorm=True)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
    norms = [each for each in model.backbone.modules() if isinstance(each, nn.SyncBatchNorm)]
    assert norms
    assert not any(each.training for each in norms)
    assert model.head.training


def test_dropout_of_a_frozen_stage_is_inactive():
    model = model_of("mobilevit_xxs")
    freeze(model, 3, batchnorm=False)
    model.train()
    drops = [
        [each.training for each in stage.modules() if isinstance(each, nn.Dropout)]
        for stage in model.backbone.stages
    ]
    assert [any(each) for each in drops] == [False, False, False, True, True]
    assert len(drops[2]) > 0


@pytest.fixture
def last(trained):
    return trained[0] / "checkpoints" / "last.ckpt"


# Full steps, and EMA weights that differ from the trained ones.
FAST = ["recipe.schedule.warmup_steps=0", "recipe.ema.decay=0.5", "trainer.max_epochs=1"]
FROZEN = ["recipe.finetuning.freeze_stages=all"]


@pytest.mark.slow
def test_a_frozen_backbone_can_be_trained_on_different_classes(
    last, image_folder, tmp_path, caplog
):
    overrides = [*FROZEN, f"backbone.pretrained={last}", "recipe.batch_size=3"]
    overrides += ["trainer.max_epochs=2"]
    data = ["data=imagefolder", f"data.root={image_folder}", "trainer.limit_val_batches=2"]
    results = run([*TINY, *FAST, *data, *overrides], tmp_path)
    assert results["steps"] == 4
    assert "just drawn at random" not in caplog.text
    start = model_state(read_checkpoint(last))
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    for ema in (True, False):
        end = model_state(checkpoint, ema)
        names = [name for name in end if name.startswith("backbone.")]
        assert all(torch.equal(start[name], end[name]) for name in names)
    assert end["head.linear.weight"].shape[0] == 3
    # Only the head has an optimizer state, and only it counts as trainable.
    head = [end[name] for name in end if re.match(r"head\..*(weight|bias)", name)]
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert (len(group["params"]), group["lr_scale"]) == (len(head), 1.0)
    assert results["parameters"] == sum(value.numel() for value in head)


def test_frozen_parameters_stay_frozen_after_a_resume(last, tmp_path):
    overrides = [
        *TINY,
        *FAST,
        "recipe.finetuning.freeze_stages=2",
        f"backbone.pretrained={last}",
    ]
    run(overrides, tmp_path)
    run([*overrides, "trainer.max_epochs=2", f"ckpt={tmp_path}"], tmp_path)
    start = model_state(read_checkpoint(last))
    end = model_state(read_checkpoint(tmp_path / "checkpoints" / "last.ckpt"), ema=False)
    same = {name: torch.equal(start[name], end[name]) for name in start}
    for name, value in same.items():
        if value:
            assert not name.startswith("head.")
        if name.startswith(("backbone.stages.0.", "backbone.stages.1.")):
            assert value, name
    assert not same["backbone.stages.2.0.expand.conv.weight"]
    assert not same["backbone.stages.2.0.expand.norm.running_mean"]


def test_learning_rates_decrease_towards_the_input(tmp_path, caplog):
    overrides = ["recipe.finetuning.layer_decay=0.5", "recipe.finetuning.freeze_batchnorm=true"]
    with caplog.at_level(logging.WARNING):
        run([*TINY, *FAST, *overrides], tmp_path)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    head = groups[-1]["lr"]
    assert [group["lr"] / head for group in groups] == [0.5**n for n in reversed(range(6))]
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as stream:
        rates = [float(row["train/lr"]) for row in csv.DictReader(stream) if row["train/lr"]]
    assert rates[-1] == pytest.approx(head)  # as configured
    assert (
        "recipe.finetuning freezes weights that were just drawn at random; start from trained ones:"
        " backbone.pretrained=PATH"
    ) in caplog.text


def test_head_lr_applies_during_warm_up(tmp_path):
    overrides = ["recipe.finetuning.head_lr=10", "recipe.optimizer.lr=0.001"]
    run([*TINY, *overrides, "trainer.max_epochs=1", "trainer.log_every_n_steps=1"], tmp_path)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    backbone, head = checkpoint["optimizer_states"][0]["param_groups"]
    assert head["lr"] == pytest.approx(10 * backbone["lr"])
    assert backbone["lr"] < 0.001  # still warming up
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as stream:
        rates = [float(row["train/lr"]) for row in csv.DictReader(stream) if row["train/lr"]]
    assert rates[-1] == pytest.approx(backbone["lr"])  # what is logged is the rate as configured


@pytest.mark.slow
def test_a_checkpoint_without_the_finetuning_key_can_be_resumed(tmp_path):
    overrides = [*TINY, "recipe.schedule.warmup_steps=0"]
    steps = run(overrides, tmp_path)["steps"]
    path = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    del checkpoint["config"]["recipe"]["finetuning"]["head_lr"]
    torch.save(checkpoint, path)
    # In that version, the head had the same learning rate as everything else.
    (fault,) = configure([*overrides, "recipe.finetuning.head_lr=10", f"ckpt={path}"])[1]
    assert "was trained with recipe.finetuning.head_lr=1.0" in fault
    assert run([*overrides, "trainer.max_epochs=2", f"ckpt={path}"], tmp_path)["steps"] == 2 * steps
    del checkpoint["config"]["recipe"]["finetuning"]
    torch.save(checkpoint, path)
    assert configure([*overrides, f"ckpt={path}"])[1] == []
    faults = configure([*overrides, "recipe.finetuning.freeze_stages=2", f"ckpt={path}"])[1]
    assert "was trained with recipe.finetuning.freeze_stages=0" in faults[0]


def test_freezing_a_different_part_on_resume_is_an_error(last):
    overrides = ["recipe.finetuning.freeze_stages=1", "recipe.finetuning.freeze_batchnorm=true"]
    (fault,) = configure([*TINY, *overrides, f"ckpt={last}"])[1]
    held = "recipe.finetuning.freeze_stages=0 recipe.finetuning.freeze_batchnorm=false"
    assert fault.startswith(f"ckpt={last}: the checkpoint was trained with {held}")
    assert fault.endswith(f"backbone.pretrained={last}")
    assert configure([*TINY, *overrides, "action=test", f"ckpt={last}"])[1] == []


@pytest.mark.parametrize(("backbone", "count"), [("parcnet_s", 5), ("convnext_xt", 4)])
def test_check_reports_more_frozen_stages_than_the_backbone_has(backbone, count):
    stages = f"recipe.finetuning.freeze_stages={count + 1}"
    assert configure([f"backbone={backbone}", stages])[1] == [
        f"{stages}: backbone={backbone} has {count} stages; expected 0 to {count}, or all"
    ]


def test_check_reports_every_invalid_finetuning_value():
    prefix = "recipe.finetuning"
    given = [f"{prefix}.freeze_stages=al", f"{prefix}.layer_decay=1.5", f"+{prefix}.layer_decy=1"]
    faults = configure([*given, f"{prefix}.freeze_batchnorm=1", f"{prefix}.head_lr=0.5"])[1]
    assert set(faults) == {
        f"{prefix}.freeze_stages=al: expected all or a whole number of at least 0; did you mean "
        "all?",
        f"{prefix}.layer_decay=1.5: expected a number above 0 and up to 1",
        f"{prefix}.head_lr=0.5: expected a number of at least 1",
        f"{prefix}.freeze_batchnorm=1: expected true or false",
        f"{prefix}.layer_decy: there is no such key; did you mean layer_decay?",
    }
    assert configure([f"{prefix}=null"])[1] == [
        f"{prefix}=null: expected a mapping of freeze_stages, layer_decay, head_lr, "
        "freeze_batchnorm"
    ]


def test_profile_ignores_freezing():
    assert configure(["action=profile", "recipe.finetuning.freeze_stages=6"])[1] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pvt_tiny", ["position"] * 4),
        ("t2t_vit_7", ["class_token"]),
        ("mobile_former_214m", ["tokens"]),
    ],
)
def test_embeddings_of_transformers_are_found_by_name(name, expected):
    model = model_of(name)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [names[p] for p, kind in kinds_of(model).items() if kind == "embeddings"]
    assert sorted(each.rpartition(".")[2] for each in found) == expected


def test_weight_decay_leaves_out_the_chosen_kinds_of_parameters():
    model = model_of("parcnet_xs")
    names = {parameter: name for name, parameter in model.named_parameters()}

    def without(*kinds):
        groups = parameter_groups(model, 1.0, 1.0, kinds)
        assert sum(len(group["params"]) for group in groups) == len(names)
        return {
            names[each]
            for group in groups
            if group.get("weight_decay") == 0.0
            for each in group["params"]
        }

    assert without() == set()
    norms, biases, embeddings = without("norms"), without("biases"), without("embeddings")
    assert {name for name in names.values() if "norm" in name.split(".")[-2]} <= norms
    assert "head.linear.bias" in biases
    assert all(name.endswith("bias") for name in biases)
    assert embeddings == {name for name in names.values() if "_embedding" in name}
    assert embeddings
    assert not norms & biases
    assert without("norms", "biases", "embeddings") == norms | biases | embeddings
    # What is left are the weights of convolutions and linear layers.
    left = [n for p, n in names.items() if n not in norms | biases | embeddings]
    assert all(name.endswith("weight") for name in left)


def test_weight_decay_of_a_group_is_that_of_the_optimizer(tmp_path):
    _, faults = configure([*TINY, "recipe.no_weight_decay=[norm]"])
    assert len(faults) == 1
    run(
        [*TINY, "recipe.no_weight_decay=[norms,biases]", "recipe.optimizer.weight_decay=0.3"],
        tmp_path,
    )
    state = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["optimizer_states"][0]
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.0, 0.3}
