"""Hydra's `compose`, remembered: tests compose the same groups over and over."""

import copy
import functools

from parcnet_train.config import overrides as config_overrides

composed = {}


def remember():
    """Composes a command line's groups once per process, and copies them from then on."""
    compose = config_overrides.compose

    @functools.wraps(compose)
    def remembered(name, overrides, **options):
        # A folder of a test's own changes; ours does not.
        if any("searchpath" in override for override in overrides):
            return compose(name, overrides, **options)
        key = (name, *overrides)
        if key not in composed:
            composed[key] = compose(name, overrides, **options)
        return copy.deepcopy(composed[key])

    config_overrides.compose = remembered
