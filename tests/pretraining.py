"""A small training that starts from weights of another."""

from running import TINY, configure

MOBILEVIT = [*TINY, "backbone=mobilevit_xxs", "backbone.depths=[2,4,3]"]


def tiny_faults(*overrides):
    """The faults of a command line for the small training."""
    return configure([*TINY, *overrides])[1]
