"""Measurements by the clock: variants of one computation that take turns."""

import parcnet_train.compat  # noqa: F401  before Lightning and torchvision
