"""Small training that starts from the weights of another one."""

from running import TINY, configure

MOBILEVIT = [*TINY, "backbone=mobilevit_xxs", "backbone.depths=[2,4,3]"]


def tiny_faults(*overrides):
    """Return the faults of a command line for the small training."""
    return configure([*TINY, *overrides])[1]
