"""Optimizers of your own: some that a training refuses, and one that counts its steps."""

import timm.optim
import torch
from torch.optim import SGD, AdamW, Optimizer


class ScheduleFree(SGD):
    """Two sets of weights, as the package schedulefree has them."""

    def train(self):
        """Use the weights of the training."""

    def eval(self):
        """Use the average of the weights."""


class SharpnessAware(Optimizer):
    """Step of SAM (arXiv 2010.01412) with gradients at changed weights."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        weights = [each for group in self.param_groups for each in group["params"]]
        for each in weights:
            each.add_(each.grad, alpha=0.05)
        with torch.enable_grad():
            loss = closure()
        for each in weights:
            each.sub_(each.grad, alpha=0.1)
        return loss


class TwoEvaluations(SGD):
    def step(self, closure=None):
        closure()
        return super().step(closure)


class NoEvaluation(SGD):
    def step(self, closure=None):
        return super().step()


def schedule_free(params, lr, betas, weight_decay):
    return ScheduleFree(params, lr, weight_decay=weight_decay)


def no_optimizer(params, lr, betas, weight_decay):
    return params


def without_rate(params, betas, weight_decay):
    optimizer = SGD(params, 0.1)
    optimizer.param_groups[0]["lr"] = None
    return optimizer


def lookahead(params, lr, betas, weight_decay):
    """Optimizer that counts its steps in its groups, and returns to slow weights every third."""
    return timm.optim.Lookahead(AdamW(params, lr, betas, weight_decay=weight_decay), k=3)
