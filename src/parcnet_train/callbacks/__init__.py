"""What happens around the steps of a training."""

import parcnet_train.compat  # noqa: F401  before Lightning, whose metrics import torchvision
