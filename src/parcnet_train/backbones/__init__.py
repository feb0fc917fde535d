"""Image encoders, one family a file."""

import parcnet_train.compat  # noqa: F401  before torchvision
