"""Checks of `recipe.optimizer`: a class or function of any package."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from parcnet_train.build import make
from parcnet_train.config.compose import schema_of_target
from parcnet_train.config.keys import show
from parcnet_train.errors import ConfigError, Fault, first_line
from parcnet_train.runs.actions import ACTIONS
from parcnet_train.targets import locate

Config = dict[str, Any]

KEY = "recipe.optimizer"
FIX = f"Fix: {KEY}._target_=torch.optim.AdamW"
ONCE = "expected an optimizer that computes it once, before it changes the weights"


def unfit_class(config: Config) -> Iterator[Fault]:
    """Report a class that no arguments make an optimizer of a training.

    Args:
        config: Plain values, in which `recipe.optimizer` may have other faults.
    """
    recipe = config.get("recipe")
    node = recipe.get("optimizer") if isinstance(recipe, dict) else None
    if not isinstance(node, dict) or not inspect.isclass(target := locate(node)):
        return
    if not issubclass(target, Optimizer):
        reason = f"is no optimizer; expected a subclass of torch.optim.Optimizer. {FIX}"
    elif "params" not in inspect.signature(target).parameters:
        reason = (
            "wraps another optimizer; expected a class or function whose first argument is params. "
            "Fix: name a function of your own that takes params and returns the wrapped optimizer"
        )
    else:
        reason = unfit_methods(target)
    if reason:
        yield Fault(KEY, f"{KEY}._target_={node['_target_']}: {reason}")


def unfit_methods(kind: type[Optimizer]) -> str:
    """Return why a training cannot use a class of optimizers; empty if it can."""
    if callable(getattr(kind, "train", None)) and callable(getattr(kind, "eval", None)):
        return (
            "is schedule-free, and would evaluate and save the weights of its training mode; "
            "expected an optimizer with a schedule. "
            f"{FIX}, with recipe.ema for an average of the weights"
        )
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return f"computes the loss several times in a step; {ONCE}. {FIX}"
    return ""


def wrong_optimizer(config: Config) -> Iterator[Fault]:
    """Report an optimizer that refuses its arguments, or whose step a training cannot run.

    The classes that `conf/` names are not tried, since their schemas have the bounds.
    """
    node = config["recipe"]["optimizer"]
    if not ACTIONS[config["action"]].trains:
        return
    if node.get("_partial_") is not True:
        yield Fault(
            KEY,
            f"{show(f'{KEY}._partial_', node.get('_partial_'))}: expected true, since the training "
            f"adds the parameters. Fix: ++{KEY}._partial_=true",
        )
        return
    name = str(node["_target_"])
    if schema_of_target(name) is None and (reason := refusal(node)):
        yield Fault(KEY, f"{KEY}._target_={name}: {reason}")


def refusal(node: Config) -> str:
    """Return why the optimizer of a configuration cannot be used; empty if it can be.

    It is built for parameters of the shapes that networks have: of a convolution, a linear layer
    and a bias.
    """
    shapes = ((4, 3, 3, 3), (4, 3), (4,))
    parameters = [torch.full(shape, 0.5, requires_grad=True) for shape in shapes]
    try:
        optimizer = make(node)([{"params": parameters, "lr_scale": 1.0}])
    except ConfigError as error:
        return first_line(error)
    except Exception as error:  # whatever a constructor raises is about its arguments
        return f"{first_line(error)}. Fix: change the arguments of {KEY}"
    if not isinstance(optimizer, Optimizer):
        kind = type(optimizer).__name__
        return f"gives {kind}; expected a torch.optim.Optimizer. {FIX}"
    if reason := unfit_methods(type(optimizer)):
        return reason
    if not isinstance(optimizer.param_groups[0].get("lr"), int | float | torch.Tensor):
        return f"has no learning rate; expected a number. Fix: +{KEY}.lr=0.001"
    return unfit_step(optimizer, parameters)


def unfit_step(optimizer: Optimizer, parameters: list[torch.Tensor]) -> str:
    """Return why a training cannot run the steps of an optimizer; empty if it can."""
    initial, seen = [each.detach().clone() for each in parameters], []

    def compute(graph: bool) -> torch.Tensor:
        seen.append(all(map(torch.equal, parameters, initial)))  # the weights are those before
        optimizer.zero_grad()
        loss = torch.stack([each.pow(4).sum() for each in parameters]).sum()
        gradients = torch.autograd.grad(loss, parameters, create_graph=graph)
        for each, gradient in zip(parameters, gradients, strict=True):
            each.grad = gradient
        return loss

    def step(graph: bool) -> bool:
        compute(graph)  # some read the gradients before they call the closure
        seen.clear()
        try:
            optimizer.step(lambda: compute(graph))  # type: ignore[arg-type, return-value]
        except Exception:  # some run on a GPU only, which this process leaves alone
            return False
        return True

    if not step(graph=False):
        if step(graph=True):
            return (
                "needs second derivatives of the loss (create_graph=True), which a training does "
                f"not compute; expected an optimizer that needs gradients only. {FIX}"
            )
        return ""
    if seen == [True]:
        return ""
    times = "never" if not seen else "several times" if len(seen) > 1 else "at changed weights"
    return f"computes the loss {times} in a step; {ONCE}. {FIX}"
