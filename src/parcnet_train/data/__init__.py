"""Data sets, samplers and transforms."""

import parcnet_train.compat  # noqa: F401  before albumentations and Lightning
