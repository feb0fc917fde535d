"""Cache of Hydra's `compose`, since many tests compose the same groups."""

import copy
import functools

from parcnet_train.config import overrides as config_overrides

composed = {}


def remember():
    """Make `compose` run once per command line and process; later calls return copies."""
    compose = config_overrides.compose

    @functools.wraps(compose)
    def remembered(name, overrides, **options):
        # Config folders of tests may change; the package's configs do not.
        if any("searchpath" in override for override in overrides):
            return compose(name, overrides, **options)
        key = (name, *overrides)
        if key not in composed:
            composed[key] = compose(name, overrides, **options)
        return copy.deepcopy(composed[key])

    config_overrides.compose = remembered
