"""The check of `recipe.optimizer`: what it refuses in one line, and what it accepts."""

import inspect

import pytest
import timm.optim
import torch

from faults import assert_one_is
from parcnet_train.check.optimizer import unfit_class, wrong_optimizer
from running import TINY, composed, faults_of, run

NAME = "recipe.optimizer._target_="


def faults_with(target, drop=(), **arguments):
    """Return the faults of a training with an optimizer, by its arguments."""
    values = composed(*TINY)
    node = {**values["recipe"]["optimizer"], "_target_": target, **arguments}
    values["recipe"]["optimizer"] = {key: node[key] for key in node if key not in drop}
    return [str(fault) for fault in list(unfit_class(values)) or wrong_optimizer(values)]


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("timm.optim.Lion", {"betas": [0.9, 2]}, "Lion: Invalid beta … Fix: change"),
        ("torch.optim.Muon", {"drop": ["betas"]}, "Muon only supports 2D … Fix: change"),
        ("torch.optim.AdamW", {"_partial_": False}, "_partial_=false: … Fix: ++"),
        ("torch.optim.AdamW", {"drop": ["_partial_"]}, "_partial_=null: expected true"),
        ("torch.nn.Linear", {}, "Linear: is no optimizer; expected a subclass of torch.optim.Opt"),
        ("timm.optim.Lookahead", {}, "Lookahead: wraps another optimizer; expected … Fix: name"),
        ("timm.optim.Adahessian", {}, "Adahessian: needs second derivatives … expected … Fix: "),
        ("own_optimizers.ScheduleFree", {}, "is schedule-free … expected … Fix: … recipe.ema"),
        ("own_optimizers.schedule_free", {}, "schedule_free: is schedule-free"),
        ("own_optimizers.SharpnessAware", {"drop": ["betas"]}, "loss at changed weights in a step"),
        ("own_optimizers.TwoEvaluations", {"drop": ["betas"]}, "loss several times in a step"),
        ("own_optimizers.NoEvaluation", {"drop": ["betas"]}, "computes the loss never in a step"),
        ("own_optimizers.no_optimizer", {}, "gives list; expected a torch.optim.Optimizer. Fix: "),
        ("own_optimizers.without_rate", {"drop": ["lr"]}, "has no learning rate; expected"),
    ],
)
def test_optimizer_that_a_training_cannot_use_is_refused_in_one_line(target, arguments, message):
    (fault,) = faults_with(target, **arguments)
    assert_one_is(message, [fault])
    assert fault.startswith("recipe.optimizer.")
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["timm.optim.Lion", "+recipe.optimizer.beta=0.9"], "optimizer.beta: Lion has no such"),
        (["torch.optim.LBFGS"], "LBFGS: computes the loss several times in a step; expected … Fix"),
        (["timm.optim.Adahessian"], "Adahessian: needs second derivatives"),
    ],
    ids=["unknown argument", "closure", "second order"],
)
def test_fault_of_the_optimizer_is_reported_once(overrides, message):
    (fault,) = faults_of(*TINY, f"{NAME}{overrides[0]}", *overrides[1:])
    assert_one_is(message, [fault])


def test_evaluation_does_not_ask_for_the_optimizer():
    values = {**composed(*TINY), "action": "profile"}
    values["recipe"]["optimizer"] = {"_target_": "timm.optim.Adahessian", "_partial_": True}
    assert list(wrong_optimizer(values)) == []


@pytest.mark.parametrize("module", [timm.optim, torch.optim], ids=["timm", "torch"])
def test_every_other_optimizer_is_accepted(module):
    refused = []
    for name, kind in vars(module).items():
        if not inspect.isclass(kind) or not issubclass(kind, torch.optim.Optimizer):
            continue
        known = inspect.signature(kind).parameters
        drop = [key for key in ("lr", "betas", "weight_decay") if key not in known]
        if name == "Adan":  # it takes three betas
            drop.append("betas")
        if faults_with(f"{module.__name__}.{name}", drop):
            refused.append(name)
    # The base class, those that compute the loss differently, and one for matrices only.
    expected = {"timm": ["Adahessian", "Lookahead"], "torch": ["LBFGS", "Muon", "Optimizer"]}
    assert sorted(refused) == expected[module.__name__.partition(".")[0]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Lion", "Lamb", "NAdamW", "Adopt"])
def test_optimizers_of_timm_take_steps(name, tmp_path):
    results = run([*TINY, f"{NAME}timm.optim.{name}"], tmp_path)
    assert results["steps"] == 2
    assert results["train/skipped"] == 0
