"""What `action=` can be: each a function of a checked configuration that writes `results.json`."""

import parcnet_train.compat  # noqa: F401  before Lightning, whose metrics import torchvision
